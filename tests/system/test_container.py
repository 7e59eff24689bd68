"""What holds inside and around a container; what crun and runc pass, ours must pass."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from tare import runners
from tare.runners import payload
from tare.runners.base import Instance, Prepared, RunnerError, Scratch, Spec
from tare.runners.container.cgroup import cgroups
from tare.runners.container.cgroup.hierarchies import CPU_PERIOD_US
from tare.runners.container.config.defaults import PIDS_LIMIT, READONLY_PATHS
from tare.runners.container.linux.files import read
from tare.runners.image.cache import cache_dir
from tare.runners.image.tree import plain
from tests.conftest import require

SUBJECTS = ("container", "crun", "runc")
DEADLINE_S = 20.0
MEMORY_BYTES = 64 << 20
END = "-- end --"
DOCKER_CAPS = "00000000a80425fb"  # what `docker run busybox grep Cap /proc/self/status` prints


@dataclass
class Stage:
    """One runner and a root filesystem with busybox and the payload in it."""

    name: str
    rootfs: Path
    scratch: Scratch
    stack: ExitStack
    marks: list[str] = field(default_factory=list)
    count: int = 0

    def prepare(self, *argv: str, memory_bytes: int = MEMORY_BYTES) -> Prepared:
        spec = Spec(argv=argv, image=plain(self.rootfs), memory_bytes=memory_bytes, cpus=1, env=(("WORD", "a b"),))
        self.count += 1
        directory = self.scratch.directory / f"p{self.count}"
        directory.mkdir()
        scratch = Scratch(
            directory=directory, cache=self.scratch.cache, cgroup=self.scratch.cgroup, prefix=self.scratch.prefix
        )
        return self.stack.enter_context(runners.load(self.name).prepare(spec, {}, scratch))

    def start(self, *argv: str, memory_bytes: int = MEMORY_BYTES) -> Instance:
        prepared = self.prepare(*argv, memory_bytes=memory_bytes)
        return self.stack.enter_context(prepared.launch("one", self.marks.append))

    def shell(self, script: str) -> list[str]:
        """Run *script* as PID 1, which then stays; the lines that it printed."""
        instance = self.start("/bin/sh", "-c", f"{script}\necho '{END}'; exec sleep 1000")
        text = read_until(instance.console, END)
        assert END in text, f"{text}\n{instance.explain()}"
        return text.partition(END)[0].splitlines()


def read_until(console: int, word: str | None) -> str:
    """What arrives on *console* until *word*, or until its end."""
    text = ""
    poll = select.poll()
    poll.register(console, select.POLLIN)
    while word is None or word not in text:
        assert poll.poll(DEADLINE_S * 1000), f"nothing more within {DEADLINE_S} s after {text!r}"
        chunk = os.read(console, 65536)
        if not chunk:
            break
        text += chunk.decode()
    return text


@pytest.fixture(scope="module")
def usable() -> dict[str, str]:
    """Runner -> why it cannot be used, or nothing. Probed once."""
    if os.geteuid() != 0:
        return dict.fromkeys(SUBJECTS, "not root")
    found = {name: runners.load(name).probe({}, cache_dir()) for name in SUBJECTS}
    return {name: "" if support.ok else f"{support.why}; fix: {support.fix}" for name, support in found.items()}


def inventory(prefix: str, directory: Path) -> SimpleNamespace:
    """All that a test could leave: cgroups, mounts, processes."""
    processes = []
    for entry in os.listdir("/proc"):
        try:
            command = Path("/proc", entry, "cmdline").read_bytes() if entry.isdigit() else b""
        except OSError:
            continue
        if prefix.encode() in command:
            processes.append(command)
    mountinfo = Path("/proc/self/mountinfo").read_text()
    return SimpleNamespace(
        cgroups=cgroups.find(prefix),
        mounts=[line for line in mountinfo.splitlines() if directory.name in line],
        processes=processes,
    )


@pytest.fixture(params=SUBJECTS)
def stage(request: pytest.FixtureRequest, usable: dict[str, str]) -> Iterator[Stage]:
    name = str(request.param)
    why = usable[name]
    require("root", os.geteuid() == 0, "not root")
    if name == "container":
        assert not why, why
    else:
        require(name, not why, why)
    busybox = shutil.which("busybox")
    assert busybox is not None, "install busybox-static"
    prefix = f"tare-test-{secrets.token_hex(3)}"
    with ExitStack() as outer:
        directory = Path("/tmp", prefix)  # short: a name of tmp_path holds the whole name of the test
        directory.mkdir()
        outer.callback(shutil.rmtree, directory)
        rootfs = directory / "rootfs"
        (rootfs / "bin").mkdir(parents=True)
        for tool in ("busybox", "sh", "sleep", "cat", "grep", "ls", "mknod", "readlink", "id", "stat", "head", "touch"):
            shutil.copy(busybox, rootfs / "bin" / tool)
        shutil.copy(payload.binary(cache_dir()), rootfs / "payload")
        before = sorted(path.relative_to(rootfs) for path in rootfs.rglob("*"))
        scratch = Scratch(directory=directory, cache=cache_dir(), cgroup=f"{prefix}/s", prefix=prefix)
        with ExitStack() as stack:
            yield Stage(name=name, rootfs=rootfs, scratch=scratch, stack=stack)
        cgroups.at(prefix).remove()
        left = inventory(prefix, directory)
        assert left == SimpleNamespace(cgroups=[], mounts=[], processes=[])
        assert sorted(path.relative_to(rootfs) for path in rootfs.rglob("*")) == before, "the rootfs was written to"


def test_namespaces(stage: Stage) -> None:
    """PID 1 of its own pid namespace, with a name, interfaces and processes of its own."""
    kinds = "mnt pid uts ipc net cgroup"
    lines = stage.shell(
        "echo $$; cat /proc/sys/kernel/hostname; ls -d /proc/[0-9]*; ls /sys/class/net; ls /proc/sys/net/ipv4/conf\n"
        f"for kind in {kinds}; do readlink /proc/self/ns/$kind; done"
    )
    assert lines[:2] == ["1", "tare"]
    assert {line for line in lines if line.startswith("/proc/")} <= {"/proc/1", *(f"/proc/{n}" for n in range(2, 10))}
    assert [line for line in lines if line in os.listdir("/sys/class/net")] in (["lo", "lo"], ["lo"])
    for kind, line in zip(kinds.split(), lines[-6:], strict=True):
        assert line.startswith(f"{kind}:[")
        assert line != os.fspath(Path(f"/proc/self/ns/{kind}").readlink()), f"the {kind} namespace is the host's"


def test_loopback_is_up(stage: Stage) -> None:
    """A server inside must be reachable from inside."""
    (flags,) = stage.shell("cat /sys/class/net/lo/flags")
    assert int(flags, 16) & 1


def test_no_mount_of_the_host(stage: Stage) -> None:
    """The root is an overlay, nothing else shows the host's file systems, and no directory of the host is named."""
    lines = stage.shell("cat /proc/self/mountinfo")
    mounts = {line.split(" ")[4]: line.partition(" - ")[2].split(" ")[0] for line in lines}
    assert mounts["/"] == "overlay"
    expected = {"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs", "/dev/mqueue": "mqueue"}
    assert expected.items() <= mounts.items()
    assert mounts["/sys"] == "sysfs"
    rest = {target: kind for target, kind in mounts.items() if not target.startswith(("/proc", "/sys", "/dev"))}
    assert rest == {"/": "overlay"}
    assert set(mounts.values()) <= {"overlay", "proc", "tmpfs", "devpts", "mqueue", "sysfs", "devtmpfs"}


def test_privileges(stage: Stage) -> None:
    """Docker's 14 capabilities, as root, without new privileges; umask and groups as under docker."""
    lines = stage.shell("grep -E '^(Cap|NoNewPrivs|Umask|Groups|Sig[BI])' /proc/self/status; id -u")
    status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    assert (status["CapEff"], status["CapPrm"], status["CapBnd"]) == (DOCKER_CAPS,) * 3
    assert status["CapAmb"] == status["CapInh"] == "0" * 16
    assert status["NoNewPrivs"] == "1"
    assert status["Umask"] == "0022"
    assert status["Groups"] in ("", "0")
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) & 1 << (signal.SIGPIPE - 1) == 0
    assert lines[-1] == "0"


def test_environment_and_descriptors(stage: Stage) -> None:
    """The whole environment is what was asked for; no descriptor of the host leaks in."""
    lines = stage.shell("ls -1 /proc/1/fd; echo .; cat /proc/1/environ | busybox tr '\\0' '\\n'")
    descriptors, environment = lines[: lines.index(".")], lines[lines.index(".") + 1 :]
    assert {"0", "1", "2"} <= set(descriptors) <= {"0", "1", "2", "255", "10"}
    assert "WORD=a b" in environment
    assert {line.partition("=")[0] for line in environment} <= {"WORD", "HOME"}  # runc adds HOME


def test_devices(stage: Stage) -> None:
    """The standard devices work, and no other may be opened, whoever made its node."""
    lines = stage.shell(
        "for d in null zero full random urandom tty; do [ -c /dev/$d ] && stat -c '%n %a' /dev/$d; done\n"
        "for l in fd stdin stdout stderr ptmx; do [ -L /dev/$l ] && echo $l; done\n"
        "head -c 3 /dev/zero | busybox wc -c; echo x > /dev/null && echo written\n"
        "head -c 1 /dev/urandom | busybox wc -c\n"
        "mknod /kmsg c 1 11 && echo made; head -c 1 /kmsg 2>&1\n"
        "touch /dev/shm/x && echo shared"
    )
    nodes = [f"/dev/{name} 666" for name in ("null", "zero", "full", "random", "urandom", "tty")]
    assert lines[:6] == nodes
    assert lines[6:11] == ["fd", "stdin", "stdout", "stderr", "ptmx"]
    assert lines[11:14] == ["3", "written", "1"]
    assert lines[14] == "made"
    assert "Operation not permitted" in lines[15]
    assert lines[16] == "shared"


def test_masked_and_readonly(stage: Stage) -> None:
    """Docker's masked paths are empty, its read-only paths refuse writes, and the root is the instance's to write."""
    lines = stage.shell(
        "cat /proc/keys | busybox wc -c; cat /proc/timer_list | busybox wc -c; ls -A /sys/firmware | busybox wc -l\n"
        "for f in /proc/sys/kernel/hostname /sys/x; do { echo x > $f; } 2>&1; done\n"
        "echo data > /new && cat /new; cat /proc/self/mountinfo"
    )
    assert lines[:3] == ["0", "0", "0"]
    assert all("Read-only file system" in line for line in lines[3:5]), lines[3:5]
    assert lines[5] == "data"
    readonly = {fields[4] for fields in (line.split(" ") for line in lines[6:]) if "ro" in fields[5].split(",")}
    present = {path for path in READONLY_PATHS if Path(path).exists()}
    assert present
    assert present <= readonly


def test_cgroup_is_the_root_inside(stage: Stage) -> None:
    """The cgroup namespace hides where in the host's tree the container is."""
    lines = stage.shell("cat /proc/self/cgroup")
    needed = {"memory", "pids", "cpu", "cpuacct"}
    paths = [line.split(":")[2] for line in lines if needed & set(line.split(":")[1].split(","))] or ["/"]
    assert set(paths) == {"/"}


def test_limits_are_set(stage: Stage) -> None:
    """Memory, tasks and processors are what the grant says, in the instance's own cgroup."""
    instance = stage.start("/payload", "then=pause")
    assert "tare ready" in read_until(instance.console, "tare ready")
    group = cgroups.at(f"{stage.scratch.cgroup}/one")
    assert instance.cgroup == group.path
    expected = group.limits(memory_bytes=MEMORY_BYTES, cpus=1)
    assert expected
    for file, text in expected:
        assert Path(file).read_text().strip() == text, file
    if isinstance(group, cgroups.V1):
        assert read(group.file("cpu", "cpu.cfs_period_us")) == f"{CPU_PERIOD_US}\n", "of which that is the quota"
    inside = group.pids()
    assert len(inside) == 1
    assert inside <= instance.pids()
    assert group.cpu_ns() > 0


def test_memory_limit_kills(stage: Stage) -> None:
    """More memory than granted ends the instance: the console ends without the mark, and explain() says how."""
    instance = stage.start("/payload", "touch-mib=96")
    text = read_until(instance.console, None)
    assert "tare first" in text
    assert "tare ready" not in text
    assert any(word in instance.explain() for word in ("signal 9", "status 137"))


def test_pids_limit_stops_forks(stage: Stage) -> None:
    """A loop of forks ends at the limit of tasks, and the host is none the worse."""
    script = f"i=0; while [ $i -lt {PIDS_LIMIT + 10} ]; do sleep 1000 & i=$((i+1)); done; echo '{END}'; exec sleep 1000"
    instance = stage.start("/bin/sh", "-c", script, memory_bytes=1 << 30)
    text = read_until(instance.console, END)  # or its end: the shell gives up when it cannot fork
    assert END not in text
    assert "can't fork" in text + instance.explain()


def test_marks_and_stop(stage: Stage) -> None:
    """created, then stopped; after which no process of it is left."""
    prepared = stage.prepare("/payload", "then=pause")
    with prepared.launch("one", stage.marks.append) as instance:
        assert stage.marks == ["created"]
        assert "tare ready" in read_until(instance.console, "tare ready")
        assert instance.explain() == ""
        pids = instance.pids()
    assert stage.marks == ["created", "stopped"]
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert prepared.manifest["config.json"]


def test_exit_is_explained(stage: Stage) -> None:
    """A payload that ends by itself: end of file on the console, and its status in words."""
    instance = stage.start("/payload", "then=exit:7")
    assert "tare exit 7" in read_until(instance.console, None)
    assert "status 7" in instance.explain()


def test_missing_program_is_named(stage: Stage) -> None:
    """Where the program is not in the root filesystem, the error says which."""
    try:
        instance = stage.start("/nope")
        said = f"{read_until(instance.console, None)} {instance.explain()}"
    except RunnerError as error:
        said = f"{error}"
    assert "/nope" in said


def test_many_at_once(stage: Stage) -> None:
    """Instances of one subject live side by side, each with its own cgroup and processes."""
    prepared = stage.prepare("/payload", "then=pause")
    with ExitStack() as stack:
        instances = [stack.enter_context(prepared.launch(f"n{i}", stage.marks.append)) for i in range(8)]
        for instance in instances:
            assert "tare ready" in read_until(instance.console, "tare ready")
        assert len({instance.cgroup for instance in instances}) == 8
        assert len(frozenset().union(*(instance.pids() for instance in instances))) >= 8


def test_interrupt_leaves_nothing(stage: Stage) -> None:
    """An exception inside the block, such as Ctrl-C, stops and removes the instance like any other exit."""
    prepared = stage.prepare("/payload", "then=pause")
    with pytest.raises(KeyboardInterrupt):
        with prepared.launch("one", stage.marks.append):
            raise KeyboardInterrupt
    assert stage.marks == ["created", "stopped"]
    assert not cgroups.at(f"{stage.scratch.cgroup}/one").pids()
