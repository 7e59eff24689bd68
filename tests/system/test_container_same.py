"""The same configuration gives the same walls, whether the warm helper or the OCI runtime starts the container."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tare.runners import fork_server
from tare.runners.base import Scratch, Spec
from tare.runners.container.config import bundle
from tare.runners.container.config.defaults import default_config
from tare.runners.container.setup import parent
from tare.runners.image.tree import plain
from tests.conftest import require

END = "that was all"
#: What a program can see of its walls. Numbers of mounts, devices and namespaces differ from container to container.
SCRIPT = f"""
exec 2>&1 < /dev/null
cut -d' ' -f5- /proc/self/mountinfo | sed -e 's/ - / /' -e 's/master:[0-9]* //' | grep -v '^/ '
grep -e ^Cap -e ^NoNewPrivs -e ^Seccomp -e ^Groups -e ^Uid -e ^Gid -e ^SigIgn -e ^SigBlk /proc/self/status
ls -ln /dev | cut -c1-40
ls /proc/self/fd | wc -l
umask; pwd; hostname; env | sort; ulimit -a
cat /proc/self/oom_score_adj /proc/sys/kernel/msgmax
ls /sys/class/net
ls /sys/firmware /proc/acpi /proc/scsi
cat /proc/keys /proc/timer_list
for path in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/profiling; do echo x > $path; done
mkdir /made && rmdir /made; mount -t tmpfs x /tmp; mknod /dev/x b 7 0; chroot / true; unshare -r true
echo '{END}'
"""


@pytest.fixture
def place() -> Iterator[Path]:
    require("root", os.geteuid() == 0, "not root")
    busybox = shutil.which("busybox")
    assert busybox is not None, "install busybox-static"
    directory = Path("/tmp", f"tare-same-{secrets.token_hex(3)}")
    (directory / "rootfs/bin").mkdir(parents=True)
    (directory / "rootfs/tmp").mkdir()
    (directory / "state").mkdir()
    shutil.copy(busybox, directory / "rootfs/bin/busybox")
    for tool in "sh cut sed grep ls wc pwd hostname env sort cat mkdir rmdir mount mknod chroot unshare true".split():
        (directory / "rootfs/bin" / tool).symlink_to("busybox")
    yield directory
    shutil.rmtree(directory)


def read_to_end(console: int) -> list[str]:
    said = b""
    os.set_blocking(console, True)
    while END.encode() not in said:
        part = os.read(console, 65536)
        assert part, said.decode()
        said += part
    return said.decode().splitlines()


def warm(place: Path, spec: Spec) -> list[str]:
    scratch = Scratch(directory=place, cache=place, cgroup=None, prefix="tare-same")
    with fork_server.prepare(spec, {}, scratch) as prepared, prepared.launch("one", lambda _: None) as instance:
        return read_to_end(instance.console)


def cold(place: Path, spec: Spec) -> list[str]:
    config = default_config(
        argv=spec.argv,
        env=spec.env,
        rootfs=os.fspath(spec.rootfs),
        cgroup=None,
        memory_bytes=spec.memory_bytes,
        cpus=spec.cpus,
    )
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for stream in (1, 2):
                os.dup2(writer, stream)
            fifo = os.fspath(place / "state/fifo")
            os.mkfifo(fifo)
            made = parent.create(
                bundle.parse(config, directory="/"),
                name="same",
                fifo=fifo,
                cgroup=None,
                console_socket=-1,
                preserve_fds=0,
                run_hooks=lambda _kind, _pid, _spawn: None,
            )
            end = os.open(fifo, os.O_RDONLY)
            parent.check_release(os.read(end, 4096))
            os.waitpid(made.pid, 0)
        except OSError as error:
            os.write(1, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        return read_to_end(reader)
    finally:
        os.close(reader)
        os.waitpid(pid, 0)


@pytest.fixture(params=[False, True], ids=["in front", "in the background"])
def ignoring(request: pytest.FixtureRequest) -> Iterator[None]:
    """As a shell's background job, and what nohup starts: they ignore signals; a container must not inherit that."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers if request.param else ():
        signal.signal(number, signal.SIG_IGN)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("ignoring")
@pytest.mark.parametrize("home", [(), (("HOME", "/tmp"),)])
def test_the_same_walls(place: Path, home: tuple[tuple[str, str], ...]) -> None:
    spec = Spec(
        argv=("/bin/sh", "-c", SCRIPT),
        image=plain(place / "rootfs"),
        memory_bytes=64 << 20,
        cpus=1,
        env=(("PATH", "/bin"), *home),
    )
    one, other = warm(place, spec), cold(place, spec)
    assert one == other
    assert len(one) > 60
    assert any("Seccomp:\t2" in line for line in one)
    assert "SigIgn:\t0000000000000000" in one
