"""Containers made by ``create.create`` in a process of their own: what is in force inside, what failures leave."""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tare.runners.container.config import bundle
from tare.runners.container.linux import mount_calls, syscalls
from tare.runners.container.reader import BundleError
from tare.runners.container.setup import parent
from tests.conftest import require

DEADLINE_MS = 20_000
TOOLS = "sh cat chmod cut echo env false grep hostname id ip ls mkdir mount ps pwd readlink sleep sort stat touch true"

Hook = Callable[[str, int], None]


def nothing(_kind: str, _pid: int) -> None:
    """No hooks."""


class Place:
    """A bundle below a short directory; *config* is what ``runc spec`` writes, in short."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rootfs = directory / "rootfs"
        self.state = directory / "state"
        (self.rootfs / "bin").mkdir(parents=True)
        (self.rootfs / "etc").mkdir()
        (self.rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n")
        self.state.mkdir(mode=0o700)
        busybox = shutil.which("busybox")
        assert busybox is not None, "install busybox-static"
        shutil.copy(busybox, self.rootfs / "bin/busybox")
        for tool in TOOLS.split():
            (self.rootfs / "bin" / tool).symlink_to("busybox")
        caps = ["CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE"]
        self.config: dict[str, Any] = {
            "ociVersion": "1.2.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["true"],
                "env": ["PATH=/usr/bin:/bin"],
                "cwd": "/",
                "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
                "noNewPrivileges": True,
            },
            "root": {"path": "rootfs"},
            "hostname": "inside",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "options": ["newinstance", "ptmxmode=0666", "mode=0620"]},
                {"destination": "/sys", "type": "sysfs", "options": ["ro", "nosuid", "noexec", "nodev"]},
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("mount", "pid", "uts", "ipc", "network", "cgroup")],
                "maskedPaths": ["/proc/kcore", "/sys/firmware"],
                "readonlyPaths": ["/proc/sys"],
            },
        }
        self.process: dict[str, Any] = self.config["process"]
        self.linux: dict[str, Any] = self.config["linux"]

    def mount(self, target: str, source: object = "tmpfs", *options: str, kind: str = "bind", **more: object) -> None:
        entry = {"destination": target, "type": kind, "source": str(source), "options": list(options)}
        self.config["mounts"].append(entry | more)

    def namespace(self, kind: str, path: str | None) -> None:
        """Join the one at *path*; None: none of its own."""
        kept = [each for each in self.linux["namespaces"] if each["type"] != kind]
        self.linux["namespaces"] = kept + ([{"type": kind, "path": path}] if path is not None else [])

    def start(self, hooks: Hook = nothing, preserve_fds: int = 0) -> tuple[parent.Created, str]:
        """Create only: in the calling process. The fifo's path is the way to start it."""
        read = bundle.parse(json.loads(json.dumps(self.config)), directory=str(self.directory))
        fifo = str(self.state / "fifo")
        os.mkfifo(fifo)
        made = parent.create(
            read,
            name="test",
            fifo=fifo,
            cgroup=None,
            console_socket=-1,
            preserve_fds=preserve_fds,
            run_hooks=lambda kind, pid, _program: hooks(kind, pid),
        )
        return made, fifo

    def run(self, script: str | None = None, hooks: Hook = nothing, preserve_fds: int = 0) -> tuple[int, str]:
        """Run a container, with sh's *script* if given: its exit status, and what it said."""
        if script is not None:
            self.process["args"] = ["sh", "-c", script]
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._run(writer, hooks, preserve_fds)
        os.close(writer)
        try:
            said = read_all(reader)
        finally:
            os.close(reader)
            _, status = os.waitpid(pid, 0)
            (self.state / "fifo").unlink(missing_ok=True)
        return os.waitstatus_to_exitcode(status), said

    def _run(self, writer: int, hooks: Hook, preserve_fds: int) -> NoReturn:
        status = 99
        try:
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            made, fifo = self.start(hooks, preserve_fds)
            try:
                release(fifo)
            finally:
                status = os.waitstatus_to_exitcode(os.waitpid(made.pid, 0)[1])
        except (OSError, BundleError) as error:
            status = 99
            os.write(1, f"refused: {error}".encode())
            try:
                os.waitpid(-1, os.WNOHANG)
                os.write(1, b" (a child is left)")
            except ChildProcessError:
                pass
        finally:
            os._exit(status & 0xFF)

    def say(self, script: str, **more: Any) -> list[str]:
        """The lines that *script* prints; it must succeed."""
        status, said = self.run(script, **more)
        assert status == 0, said
        return said.splitlines()

    def refused(self, script: str | None = None, **more: Any) -> str:
        """Why the container was not made; nothing of it may be left."""
        status, said = self.run(script, **more)
        assert status == 99, said
        assert said.startswith("refused: "), said
        assert "a child is left" not in said
        return said.removeprefix("refused: ")


def release(fifo: str) -> None:
    """Let a created container run, as `start` does. Raises OSError if it does not."""
    end = os.open(fifo, os.O_RDONLY)
    try:
        said = b""
        while part := os.read(end, 4096):
            said += part
    finally:
        os.close(end)
    parent.check_release(said)


def read_all(reader: int) -> str:
    said = b""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while True:
        assert poll.poll(DEADLINE_MS), f"nothing more after {said!r}"
        part = os.read(reader, 65536)
        if not part:
            return said.decode(errors="replace")
        said += part


@pytest.fixture
def place() -> Iterator[Place]:
    require("root", os.geteuid() == 0, "not root")
    # Not below tmp_path, which is closed to the users that some containers run as.
    directory = Path("/tmp", f"tare-create-{secrets.token_hex(3)}")
    directory.mkdir(mode=0o755)
    yield Place(directory)
    shutil.rmtree(directory)
    left = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{directory}/" in line]
    # Other tests may run beside this one; their directories have other names.
    assert left == [], "mounts are left"
    assert Path("/dev/null").stat().st_uid == 0, "the host's null device was given away"


def test_program_is_found_and_at_home(place: Place) -> None:
    place.process["args"] = ["env"]
    status, said = place.run()
    assert (status, set(said.split())) == (0, {"PATH=/usr/bin:/bin", "HOME=/root"})
    assert place.say("hostname; echo $$; exit 0") == ["inside", "1"]
    assert place.run("exit 7")[0] == 7


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["absent"], "absent: executable file not found in $PATH"),
        (["/bin/absent"], "/bin/absent: No such file"),
        (["/etc/passwd"], "/etc/passwd cannot be executed: permission denied"),
        (["/etc"], "/etc cannot be executed: permission denied"),
    ],
)
def test_absent_program_is_said_at_creation(place: Place, argv: list[str], words: str) -> None:
    place.process["args"] = argv
    assert words in place.refused()


def test_what_exec_refuses_is_said_at_start(place: Place) -> None:
    script = place.rootfs / "bin/script"
    for text, words in (("#!/absent\n", "No such file"), ("\0\1\2", "Exec format error")):
        script.write_text(text)
        script.chmod(0o755)
        place.process["args"] = ["/bin/script"]
        assert f"cannot execute the program: {words}" in place.refused()


def test_masks_and_readonly(place: Place) -> None:
    lines = place.say(
        "ls /sys/firmware; cat /proc/kcore 2> /dev/null; (echo x > /proc/sys/kernel/hostname) 2>&1;"
        " echo y > /file; cat /file"
    )
    assert lines[-1] == "y"
    assert "Read-only" in lines[0]
    assert len(lines) == 2
    place.config["root"]["readonly"] = True
    status, said = place.run("touch /etc/x")
    assert status != 0
    assert "Read-only" in said


def test_who_the_program_is(place: Place) -> None:
    place.process |= {
        "user": {"uid": 1000, "gid": 100, "additionalGids": [4, 27], "umask": 0o27},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        "oomScoreAdj": 321,
    }
    lines = place.say(
        "id -u; id -g; id -G; umask; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; echo $HOME;"
        " grep NoNewPrivs /proc/self/status"
    )
    assert lines == ["1000", "100", "100 4 27", "0027", "33", "44", "321", "/home/ada", "NoNewPrivs:\t1"]


def sets(place: Place) -> dict[str, int]:
    lines = place.say("grep ^Cap /proc/self/status")
    return {name.rstrip(":"): int(value, 16) for name, value in map(str.split, lines)}


def test_five_sets_of_capabilities(place: Place) -> None:
    """As an ordinary user the ambient set alone survives exec (capabilities(7))."""
    place.process["user"] = {"uid": 1000, "gid": 1000}
    place.process["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_CHOWN", "CAP_KILL"],
        "ambient": ["CAP_KILL"],
    }
    kill, chown, raw = 1 << 5, 1, 1 << 13
    assert sets(place) == {
        "CapInh": chown | kill,
        "CapPrm": kill,
        "CapEff": kill,
        "CapBnd": chown | kill | raw,
        "CapAmb": kill,
    }
    place.process["user"] = {"uid": 0, "gid": 0}
    del place.process["capabilities"]
    assert set(sets(place).values()) == {0}


def test_hooks_in_order_and_where(place: Place) -> None:
    """The first two run in the runtime, the others in the container: with their own root, then with its root."""
    runtime = Path("/proc/self/ns/mnt").readlink()

    def hooks(kind: str, pid: int) -> None:
        namespace = "runtime" if Path("/proc/self/ns/mnt").readlink() == runtime else "container"
        root = "host" if place.directory.exists() else "image"
        os.write(1, f"{kind} {namespace} {root} {pid == 1}\n".encode())

    lines = place.say("echo program", hooks=hooks)
    assert lines == [
        "prestart runtime host False",
        "createRuntime runtime host False",
        "createContainer container host True",
        "startContainer container image True",
        "program",
    ]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_failing_hook_leaves_nothing(place: Place, kind: str) -> None:
    def hooks(now: str, _pid: int) -> None:
        if now == kind:
            raise OSError(f"hook {kind} failed")

    assert f"hook {kind} failed" in place.refused("true", hooks=hooks)


def test_a_failing_start_hook_is_said(place: Place) -> None:
    def hooks(now: str, _pid: int) -> None:
        if now == "startContainer":
            raise OSError("hook failed")

    assert "hook failed" in place.refused("true", hooks=hooks)


def test_failed_steps_are_named(place: Place) -> None:
    place.mount("/x", "tmpfs", "nonsense=1", kind="tmpfs")
    assert "cannot mount tmpfs on /x (nonsense=1)" in place.refused()
    place.config["mounts"].pop()
    place.mount("/x", "/absent/source")
    assert "cannot bind /absent/source on /x" in place.refused()
    place.config["mounts"].pop()
    place.config["root"]["path"] = "absent"
    assert "/absent" in place.refused()


def test_the_first_process_dies_with_its_parent(place: Place) -> None:
    """A runtime killed before it has recorded the process leaves no process that nobody knows."""
    reader, writer = os.pipe()

    def hooks(_kind: str, pid: int) -> None:
        os.write(writer, str(pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)

    status, _ = place.run("sleep 1000", hooks=hooks)
    assert status == -signal.SIGKILL
    try:
        pidfd = os.pidfd_open(int(os.read(reader, 32)))
    except ProcessLookupError:
        return  # gone already
    finally:
        os.close(reader)
        os.close(writer)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(DEADLINE_MS), "it is still there"
    os.close(pidfd)


def test_no_descriptor_leaks(place: Place) -> None:
    """Not even one that was left inheritable; those that are asked for come through."""
    host = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(host, True)
    try:
        names = "for fd in /proc/self/fd/*; do readlink $fd; done | grep -v -e pipe: -e /dev/null -e /proc/ ; true"
        assert place.say(names) == []
    finally:
        os.close(host)

    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for number, text in ((3, b"three"), (4, b"four")):
                fd = os.memfd_create("tare-test")
                os.write(fd, text)
                os.lseek(fd, 0, os.SEEK_SET)
                # Duplicates share the offset; one that is not close-on-exec is what a caller hands over.
                os.dup2(fd, number)
            status = 0 if place.run("cat <&3; cat <&4", preserve_fds=2) == (0, "threefour") else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert "is not open" in place.refused("true", preserve_fds=198)


def test_the_runtime_cannot_be_executed_from_inside(place: Place) -> None:
    """CVE-2019-5736: /proc/self/exe as an interpreter, or as the program, is never the host's Python."""
    script = place.rootfs / "bin/trick"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    (place.rootfs / "bin/linked").symlink_to("/proc/self/exe")
    for program in ("/bin/trick", "/bin/linked"):
        place.process["args"] = [program, "-c", "print('python')"]
        status, said = place.run()
        assert "python" not in said.replace("/bin/linked", ""), said
        assert status != 0
    assert place.say("readlink /proc/1/exe") == ["/bin/busybox"]


def test_a_waiting_container_cannot_be_looked_into(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Before it is started, process 1 is a copy of the runtime: whoever joins its namespaces sees nothing of it."""
    other = Place(tmp_path_factory.mktemp("o"))
    other.process["args"] = ["true"]
    made, fifo = other.start()
    try:
        place.namespace("pid", f"/proc/{made.pid}/ns/pid")
        lines = place.say("readlink /proc/1/exe; readlink /proc/1/root; ls /proc/1/fd; ls /proc/1/cwd/; ps; true")
        assert not any("python" in line.lower() for line in lines if not line.lstrip().startswith("1 "))
        assert any("Permission denied" in line or "can't open" in line for line in lines)
    finally:
        release(fifo)
        os.waitpid(made.pid, 0)
        os.close(made.pidfd)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the host that links of an image aim at."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "file").write_text("host")
    return directory


def untouched(outside: Path) -> bool:
    return sorted(path.name for path in outside.iterdir()) == ["file"] and (outside / "file").read_text() == "host"


@pytest.mark.parametrize("link", ["{0}", "/../../../../../..{0}", "../../../../../../..{0}"])
def test_links_of_the_image_lead_into_it(place: Place, outside: Path, link: str) -> None:
    """Mount points, masks, devices and the working directory behind a link: all of it happens in the image."""
    target = link.format(outside)
    (place.rootfs / "out").symlink_to(target)
    inner = place.rootfs / str(outside).lstrip("/")
    inner.mkdir(parents=True)
    (inner / "file").write_text("image")
    place.mount("/out/tmp", kind="tmpfs")
    place.mount("/out/etc", outside, "bind", "ro")
    place.linux["devices"] = [{"path": "/out/dev", "type": "c", "major": 1, "minor": 3}]
    place.linux["maskedPaths"].append("/out/file")
    place.process["cwd"] = "/out/made/here"
    lines = place.say("pwd -P; cat /out/file; ls /out; stat -c %F /out/file; cat /out/etc/file")
    assert lines == [f"{outside}/made/here", "dev", "etc", "file", "made", "tmp", "character special file", "host"]
    assert untouched(outside)


def test_links_to_nowhere_make_nothing_outside(place: Place, outside: Path) -> None:
    """What they ask for is made inside the root, as crun and runc do."""
    (place.rootfs / "out").symlink_to(outside / "absent")
    place.mount("/out", kind="tmpfs")
    assert place.say("cd -P /out; pwd; grep -c absent /proc/self/mountinfo") == [f"{outside}/absent", "1"]
    assert untouched(outside)
    assert (place.rootfs / str(outside).lstrip("/") / "absent").is_dir()


def test_a_dev_that_is_a_link_to_nowhere_is_refused(place: Place, outside: Path) -> None:
    """No device is made where nobody has asked for a file system."""
    place.config["mounts"] = place.config["mounts"][:1]
    (place.rootfs / "dev").symlink_to(outside / "absent")
    assert "/dev" in place.refused()
    assert untouched(outside)


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_proc_behind_a_link_is_refused(place: Place, name: str) -> None:
    """CVE-2019-19921: the masks would then lie elsewhere than what they are to hide."""
    (place.rootfs / "elsewhere").mkdir()
    (place.rootfs / name).symlink_to("/elsewhere")
    assert f"on /{name}" in place.refused()


@pytest.mark.parametrize("path", ["/proc/self/fd/{0}", "/proc/1/fd/{0}", "/link", "/proc/self/cwd/../.."])
def test_the_working_directory_is_inside(place: Place, path: str) -> None:
    """CVE-2024-21626: an open directory of the host is no way out, whatever its number."""
    host = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        (place.rootfs / "link").symlink_to(f"/proc/self/fd/{host}")
        for number in range(3, 24):
            place.process["cwd"] = path.format(number)
            status, said = place.run("pwd -P; ls /")
            assert status != 0, said
            assert str(place.directory) not in said
    finally:
        os.close(host)


def test_binds(place: Place, outside: Path) -> None:
    """A file and a directory; read-only where asked; what is mounted below comes along, and can be read-only too."""
    place.mount("/a/dir", outside, "rbind", "ro", "nosuid")
    place.mount("/a/file", outside / "file", "bind", "noexec")
    place.mount("/relative", "state", "bind", "rro")
    lines = place.say(
        "cat /a/dir/file /a/file; echo; touch /a/dir/x 2>&1; touch /relative/y 2>&1; echo more >> /a/file;"
        " grep -e ' /a/' /proc/self/mountinfo | cut -d' ' -f5,6"
    )
    assert lines[0] == "hosthost"
    assert "Read-only" in lines[1]
    assert "Read-only" in lines[2]
    assert lines[3:] == ["/a/dir ro,nosuid,relatime", "/a/file rw,noexec,relatime"]
    assert (outside / "file").read_text() == "hostmore\n"


def test_copy_up(place: Place) -> None:
    (place.rootfs / "var/lib").mkdir(parents=True)
    (place.rootfs / "var/lib/file").write_text("image")
    (place.rootfs / "var/lib/file").chmod(0o640)
    os.chown(place.rootfs / "var/lib/file", 3, 4)
    (place.rootfs / "var/link").symlink_to("lib/file")
    (place.rootfs / "var").chmod(0o750)
    place.mount("/var", "tmpfs", "tmpcopyup", "nosuid", kind="tmpfs")
    lines = place.say("cat /var/link; echo; stat -c '%a %u %g' /var/lib/file /var; echo new > /var/lib/file")
    assert lines == ["image", "640 3 4", "750 0 0"]
    assert (place.rootfs / "var/lib/file").read_text() == "image"


@pytest.mark.parametrize("words", [(), ("tmpcopyup",)])
def test_a_tmpfs_takes_the_mode_of_what_it_covers(place: Place, words: tuple[str, ...]) -> None:
    """An image's /tmp stays everybody's; a directory that is made for the mount gets the kernel's mode."""
    for name, mode in (("tmp", 0o1777), ("closed", 0o700)):
        (place.rootfs / name).mkdir()
        (place.rootfs / name).chmod(mode)
    for target in ("/tmp", "/closed", "/new"):
        place.mount(target, "tmpfs", *words, kind="tmpfs")
    place.mount("/own", "tmpfs", "mode=751", *words, kind="tmpfs")
    assert place.say("stat -c %a /tmp /closed /new /own") == ["1777", "700", "1777", "751"]


def test_mounts_stay_inside(place: Place, outside: Path) -> None:
    """A host whose mounts are shared sees none of the container's; with rshared it does, as asked."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            mount_calls.mount("none", "/", "", mount_calls.MS_REC | mount_calls.MS_PRIVATE)
            mount_calls.mount("tmpfs", str(outside), "tmpfs", 0)
            (outside / "below").mkdir()
            mount_calls.mount("none", str(outside), "", mount_calls.MS_SHARED)
            place.process["capabilities"] = {name: ["CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")}
            found = []
            for words in (("rbind",), ("rbind", "rslave"), ("rbind", "rshared")):
                place.mount("/out", outside, *words)
                place.say("mount -t tmpfs none /out/below")
                found.append(Path("/proc/self/mountinfo").read_text().count("/below "))
                place.config["mounts"].pop()
            status = 0 if found == [0, 0, 1] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def map_ids(place: Place) -> None:
    place.namespace("user", "")
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    place.linux |= {"uidMappings": ids, "gidMappings": ids}
    for path in (place.rootfs, *place.rootfs.rglob("*")):
        os.chown(path, 100000, 100000, follow_symlinks=False)


def user_namespaces() -> bool:
    try:
        return int(Path("/proc/sys/user/max_user_namespaces").read_text()) > 0
    except FileNotFoundError:
        return False


def test_user_namespace(place: Place, outside: Path) -> None:
    """Root inside is nobody outside; devices work; a volume behind a closed directory can be bound."""
    require("userns", user_namespaces(), "no user namespaces")
    map_ids(place)
    outside.parent.chmod(0o700)
    place.mount("/out", outside, "bind")
    lines = place.say(
        "id -u; cat /proc/self/uid_map; echo x > /dev/null; stat -c %u /etc/passwd; cat /out/file; echo;"
        " touch /out/x 2>&1; grep CapEff /proc/self/status"
    )
    assert lines[0] == "0"
    assert lines[1].split() == ["0", "100000", "65536"]
    assert lines[2:4] == ["0", "host"]
    assert "Permission denied" in lines[4]
    place.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5]}
    assert place.say("id -u; id -G") == ["1000", "1000 5"]


def test_as_an_ordinary_user(place: Place) -> None:
    """Rootless, with one's own id alone: setgroups is switched off, devices are the host's, limits can be lowered."""
    require("userns", user_namespaces(), "no user namespaces")
    place.namespace("user", "")
    own = [{"containerID": 0, "hostID": 4711, "size": 1}]
    place.linux |= {"uidMappings": own, "gidMappings": own}
    place.process |= {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}], "oomScoreAdj": 500}
    for path in (place.directory, *place.directory.rglob("*")):
        os.chown(path, 4711, 4711, follow_symlinks=False)
    script = (
        "id -u; cat /proc/self/setgroups /proc/self/oom_score_adj; ulimit -n; echo x > /dev/null;"
        " stat -c %u /bin/busybox; mount -t tmpfs x /bin 2>&1; touch /dev/shm/x"
    )
    place.mount("/dev/shm", "tmpfs", "mode=1777", kind="tmpfs")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([4711, 5])
            os.setresgid(4711, 4711, 4711)
            os.setresuid(4711, 4711, 4711)
            # A login executes a program after that, which has the same effect.
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
            lines = place.say(script)
            status = 0 if lines[:5] == ["0", "deny", "500", "50", "0"] and "denied" in lines[5] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_identity_mapped_bind(place: Place, outside: Path) -> None:
    ids = [{"containerID": 0, "hostID": 7000, "size": 1000}]
    place.mount("/out", outside, "bind", "idmap", uidMappings=ids, gidMappings=ids)
    status, said = place.run("stat -c %u /out/file")
    if status == 99:
        require("idmap", "Invalid argument" not in said, f"this file system cannot be mapped: {said}")
    assert (status, said.strip()) == (0, "7000")


def test_joined_namespaces(place: Place) -> None:
    """Those of another container; its own for the rest."""
    first, second = os.pipe()
    pid = os.fork()
    if pid == 0:
        syscalls.unshare(
            syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWCGROUP
        )
        os.write(second, b"x")
        os.close(second)
        signal.pause()
    try:
        os.read(first, 1)
        names = {"network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}
        expected = []
        for kind, name in names.items():
            place.namespace(kind, f"/proc/{pid}/ns/{name}")
            expected.append(os.fspath(Path(f"/proc/{pid}/ns/{name}").readlink()))
        lines = place.say("cd /proc/self/ns; for kind in net ipc uts cgroup pid; do readlink $kind; done")
        assert lines[:4] == expected
        assert lines[4] != os.fspath(Path("/proc/self/ns/pid").readlink())
        place.namespace("network", "/absent")
        assert "/absent" in place.refused()
        place.namespace("network", f"/proc/{pid}/ns/ipc")
        assert "Invalid argument" in place.refused()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(first)
        os.close(second)


def test_time_namespace(place: Place) -> None:
    place.namespace("time", "")
    place.linux["timeOffsets"] = {"boottime": {"secs": 100_000_000}}
    (uptime,) = place.say("cut -d. -f1 /proc/uptime")
    assert int(uptime) > 100_000_000


def test_kernel_parameters(place: Place) -> None:
    place.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4711"}
    assert place.say("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax") == ["1", "4711"]


def test_devices(place: Place) -> None:
    place.linux["devices"] = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 3, "gid": 4},
        {"path": "/deep/er/fifo", "type": "p"},
    ]
    lines = place.say(
        "stat -c '%F %a %u %g' /dev/mine /deep/er/fifo /dev/null; readlink /dev/ptmx; readlink /dev/stdout"
    )
    assert lines == [
        "character special file 600 3 4",
        "fifo 666 0 0",
        "character special file 666 0 0",
        "pts/ptmx",
        "/proc/self/fd/1",
    ]


def test_a_device_that_is_none_is_not_taken_for_one(place: Place) -> None:
    """An image's /dev/null that is something else must not be what a mask is made of."""
    place.config["mounts"] = place.config["mounts"][:1]
    (place.rootfs / "dev").mkdir()
    (place.rootfs / "dev/null").write_text("image")
    assert place.say("stat -c %F /dev/null; cat /dev/null") == ["character special file"]
    assert (place.rootfs / "dev/null").read_text() == "image"


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_seccomp(place: Place, no_new_privileges: bool) -> None:
    place.process["noNewPrivileges"] = no_new_privileges
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}
    place.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    status, said = place.run("grep Seccomp: /proc/self/status; mkdir /x")
    assert status == 1
    assert said.splitlines()[0] == "Seccomp:\t2"
    assert "Protocol error" in said


def test_standard_streams_belong_to_the_user(place: Place) -> None:
    place.process["user"] = {"uid": 1000, "gid": 1000}
    assert place.say("echo opened > /dev/stdout") == ["opened"]
    null = Path("/dev/null").stat()
    assert (stat.S_ISCHR(null.st_mode), null.st_uid) == (True, 0), "it is everybody's"


def test_cgroup_view(place: Place) -> None:
    place.mount("/sys/fs/cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev", kind="cgroup")
    lines = place.say("ls /sys/fs/cgroup; mkdir /sys/fs/cgroup/memory/x 2>&1; true")
    assert "memory" in lines or "cgroup.procs" in lines
    assert "Read-only" in lines[-1] or "No such file" in lines[-1]
