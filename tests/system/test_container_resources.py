"""Limits, device rules and system call filters on this host's kernel, without a container around them.

The same on a v2-only kernel, where this host is not one: test_v2_guest.py.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tare.runners.container.cgroup import apply, cgroups, resources
from tare.runners.container.linux import mount_calls, syscalls
from tare.runners.container.reader import BundleError, Reader
from tare.runners.container.seccomp import docker_profile, filters, libseccomp
from tare.runners.container.setup.kernel import Kernel
from tests.conftest import require, wait_until

DEADLINE_S = 20.0
MIB = 1 << 20


@pytest.fixture
def name() -> Iterator[str]:
    """A name of its own for a cgroup; what is left of it is removed."""
    trouble = cgroups.usable()
    require("cgroups", not trouble, trouble)
    name = f"tare-test-{secrets.token_hex(4)}"
    yield name
    cgroups.for_container(name, "").remove()


@contextmanager
def limited(name: str, asked: dict[str, Any]) -> Iterator[cgroups.Cgroup]:
    group = cgroups.for_container(f"/{name}/one", "unused")
    group.create()
    try:
        apply.apply(resources.parse(Reader(asked, "linux.resources")), group, lambda _: None)
        yield group
    finally:
        group.kill()
        group.remove()
    assert [directory for directory in group.directories() if Path(directory).exists()] == []


def removed_meanwhile(group: cgroups.Cgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next file of *group* that is opened loses its directory before anything is read or written."""
    opened = os.open

    def open_and_remove(path: str, flags: int) -> int:
        fd = opened(path, flags)
        monkeypatch.undo()
        group.remove()
        return fd

    monkeypatch.setattr(os, "open", open_and_remove)


@pytest.mark.parametrize("action", ["frozen", "pids", "kill", "thaw_if_there"])
def test_a_cgroup_that_goes_while_it_is_looked_at(name: str, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a runtime in the foreground removes the container that another one kills: the kernel says ENODEV."""
    group = cgroups.for_container(name, "")
    group.create()
    removed_meanwhile(group, monkeypatch)
    assert not getattr(group, action)()
    assert [directory for directory in group.directories() if Path(directory).exists()] == []


def test_a_cgroup_that_goes_is_no_excuse_for_its_limits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    group = cgroups.for_container(name, "")
    group.create()
    removed_meanwhile(group, monkeypatch)
    with pytest.raises(OSError, match="No such device"):
        group.limit(pids=3)


def fork(action: Callable[[], int]) -> int:
    """The pid of a child that ends with the answer of *action*; 99 if it raises."""
    pid = os.fork()
    if not pid:
        try:
            os._exit(action())
        finally:
            os._exit(99)
    return pid


def ended(pid: int) -> int:
    """How the child ended: its exit code, or the signal's number, negative."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def inside(group: cgroups.Cgroup, action: Callable[[], int]) -> int:
    def enter() -> int:
        group.add(0)
        return action()

    return fork(enter)


def spin() -> int:
    while True:
        pass


def read(group: cgroups.Cgroup, controller: str, v1: str, v2: str) -> str:
    return Path(group.file(controller, v2 if group.version == 2 else v1)).read_text().strip()


def test_limits_are_in_force(name: str) -> None:
    asked = {
        "memory": {"limit": 64 * MIB, "reservation": 32 * MIB},
        "pids": {"limit": 20},
        "cpu": {"shares": 2048, "quota": 50_000, "period": 200_000, "cpus": "0", "mems": "0"},
    }
    with limited(name, asked) as group:
        assert read(group, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
        assert read(group, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(32 * MIB)
        assert read(group, "pids", "pids.max", "pids.max") == "20"
        assert read(group, "cpu", "cpu.shares", "cpu.weight") in ("2048", "79")
        assert read(group, "cpu", "cpu.cfs_quota_us", "cpu.max") in ("50000", "50000 200000")
        pid = inside(group, spin)
        wait_until(lambda: os.sched_getaffinity(pid) == {0}, DEADLINE_S, what="the affinity of the cpuset")
        group.kill()
        assert ended(pid) == -signal.SIGKILL


def test_every_hierarchy_is_joined(name: str) -> None:
    with limited(name, {}) as group:
        pid = inside(group, spin)
        wait_until(lambda: _places(pid) == {f"/{name}/one"}, DEADLINE_S, what="being in every hierarchy")
        if group.version == 1:
            mounted = {word for line in _memberships(pid) for word in line.split(":")[1].split(",")}
            assert set(group.layout.v1) <= mounted
        group.kill()
        ended(pid)


def test_a_single_thread_enters_by_the_entrances(name: str) -> None:
    with limited(name, {}) as group:

        def enter() -> int:
            for file in group.entrances():
                Kernel.write(file, "0")
            return spin()

        pid = fork(enter)
        wait_until(lambda: _places(pid) == {f"/{name}/one"}, DEADLINE_S, what="being in every hierarchy")
        group.kill()
        ended(pid)


def _memberships(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cgroup").read_text().splitlines()


def _places(pid: int) -> set[str]:
    return {line.split(":", 2)[2] for line in _memberships(pid)}


def test_pids_limit_holds(name: str) -> None:
    def forks() -> int:
        for count in range(50):
            try:
                if not os.fork():
                    os._exit(0)  # it stays a task until it is waited for
            except BlockingIOError:
                return count
        return 91

    with limited(name, {"pids": {"limit": 6}}) as group:
        assert ended(inside(group, forks)) == 5


def test_memory_limit_kills(name: str) -> None:
    def hog() -> int:
        return len(bytearray(96 * MIB)) % 7

    memory = {"limit": 32 * MIB} | ({"swap": 32 * MIB} if cgroups.counts_swap() else {})
    with limited(name, {"memory": memory}) as group:
        assert ended(inside(group, hog)) == -signal.SIGKILL


def test_limits_go_up_and_down(name: str) -> None:
    with limited(name, {"memory": {"limit": 32 * MIB}, "pids": {"limit": 5}}) as group:
        for mib in (64, 16):
            memory = {"limit": mib * MIB} | ({"swap": 2 * mib * MIB} if cgroups.counts_swap() else {})
            update = {"memory": memory, "pids": {"limit": -1}}
            apply.update(resources.parse(Reader(update, "linux.resources")), group, lambda _: None)
            assert read(group, "memory", "memory.limit_in_bytes", "memory.max") == str(mib * MIB)
        assert read(group, "pids", "pids.max", "pids.max") == "max"


def test_freeze_thaw_and_kill_while_frozen(name: str) -> None:
    with limited(name, {}) as group:
        pid = inside(group, spin)
        wait_until(lambda: pid in group.pids(), DEADLINE_S)
        assert not group.frozen()
        group.freeze()
        assert group.frozen()
        used_ns = group.cpu_ns()
        assert group.cpu_ns() == used_ns
        group.thaw()
        wait_until(lambda: group.cpu_ns() > used_ns, DEADLINE_S, what="processor time after the thaw")
        group.freeze()
        killer = threading.Thread(target=group.kill)
        killer.start()  # it awaits the end of a child that this thread reaps
        assert ended(pid) == -signal.SIGKILL
        killer.join(DEADLINE_S)
        assert not killer.is_alive()
        assert not group.frozen()


def test_what_this_kernel_lacks_is_refused_and_nothing_is_left(name: str) -> None:
    asked = {"unified": {"memory.nonsense": "1"}}
    with pytest.raises(BundleError, match=r"linux\.resources\.unified"), limited(name, asked):
        pass


@pytest.fixture
def nodes(tmp_path: Path) -> dict[str, Path]:
    """Device nodes of our own, on a file system that lets them be opened."""
    require("root", os.geteuid() == 0, "mknod(2) of a device is for root")
    made = {}
    for label, minor in (("null", 3), ("kmsg", 11), ("mem", 1)):
        made[label] = tmp_path / label
        os.mknod(made[label], 0o20666, os.makedev(1, minor))
    if opened(made["null"], os.O_RDWR):
        pytest.skip(f"{tmp_path} is mounted nodev")
    return made


def opened(path: Path, flags: int) -> int:
    """0, or the number of the error."""
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return error.errno or 98
    return 0


def test_devices_none_but_the_standard_ones(name: str, nodes: dict[str, Path], tmp_path: Path) -> None:
    def makes() -> int:
        os.mknod(tmp_path / "made", 0o20666, os.makedev(1, 11))
        return 0

    with limited(name, {"devices": [{"allow": False, "access": "rwm"}]}) as group:
        assert ended(inside(group, lambda: opened(nodes["null"], os.O_RDWR))) == 0
        assert ended(inside(group, lambda: opened(nodes["kmsg"], os.O_RDONLY))) == errno.EPERM
        assert ended(inside(group, makes)) == 0
    assert opened(nodes["kmsg"], os.O_RDONLY | os.O_NONBLOCK) == 0  # the rules did it


def test_devices_of_a_list(name: str, nodes: dict[str, Path]) -> None:
    rules = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"},
    ]
    with limited(name, {"devices": rules}) as group:
        assert ended(inside(group, lambda: opened(nodes["kmsg"], os.O_RDONLY | os.O_NONBLOCK))) == 0
        assert ended(inside(group, lambda: opened(nodes["kmsg"], os.O_WRONLY))) == errno.EPERM
        assert ended(inside(group, lambda: opened(nodes["mem"], os.O_RDONLY))) == errno.EPERM


def test_devices_all_but_some(name: str, nodes: dict[str, Path]) -> None:
    rules = [{"allow": True, "access": "rwm"}, {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "rwm"}]
    with limited(name, {"devices": rules}) as group:
        assert ended(inside(group, lambda: opened(nodes["kmsg"], os.O_RDONLY))) == errno.EPERM
        assert ended(inside(group, lambda: opened(nodes["null"], os.O_RDONLY))) == 0
        assert ended(inside(group, lambda: opened(nodes["mem"], os.O_RDONLY))) != errno.EPERM


def filtered(section: dict[str, Any], action: Callable[[], int], *, privileged: bool = False) -> int:
    """How a child ended that put itself under the filter *section* and then did *action*."""
    trouble = filters.available()
    if trouble:
        pytest.skip(f"needs libseccomp: {trouble}")
    profile = filters.parse(Reader(section, "linux.seccomp"))
    program = filters.compile(profile)

    def child() -> int:
        if not privileged:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.seccomp(program, profile.flags)
        return action()

    return ended(fork(child))


def profile(action: str, *names: str, **more: Any) -> dict[str, Any]:
    rules = [{"names": list(names), "action": action, **more}]
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}


def parent() -> int:
    """getppid(2): 0, or the number of the error. glibc hands on what the kernel says, for it cannot fail."""
    answer: int = ctypes.CDLL(None).getppid()
    return max(-answer, 0)


@pytest.mark.parametrize(
    ("action", "more", "expected"),
    [
        ("SCMP_ACT_ERRNO", {}, errno.EPERM),
        ("SCMP_ACT_ERRNO", {"errnoRet": 77}, 77),
        ("SCMP_ACT_KILL", {}, -signal.SIGSYS),
        ("SCMP_ACT_KILL_THREAD", {}, -signal.SIGSYS),
        ("SCMP_ACT_KILL_PROCESS", {}, -signal.SIGSYS),
        ("SCMP_ACT_TRAP", {}, -signal.SIGSYS),
        ("SCMP_ACT_TRACE", {}, errno.ENOSYS),  # seccomp(2): without a tracer
        ("SCMP_ACT_LOG", {}, 0),
        ("SCMP_ACT_ALLOW", {}, 0),
    ],
)
def test_what_the_kernel_does(action: str, more: dict[str, int], expected: int) -> None:
    assert filtered(profile(action, "getppid", **more), parent) == expected


def test_a_filter_stays_across_exec() -> None:
    def run() -> int:
        os.execv("/bin/sh", ["sh", "-c", "cd / 2>/dev/null; exit $?"])

    assert filtered(profile("SCMP_ACT_ERRNO", "chdir"), run) not in (0, 99)


@pytest.mark.parametrize("flag", [[], *([flag] for flag in filters.FLAGS)])
def test_flags_are_taken(flag: list[str]) -> None:
    assert filtered(profile("SCMP_ACT_ERRNO", "getppid") | {"flags": flag}, parent) == errno.EPERM


def test_docker_profile_on_a_real_process() -> None:
    def tries() -> int:
        with open("/proc/self/status", encoding="ascii") as file:
            if "Seccomp:\t2" not in file.read():
                return 90
        if not os.fork():
            os._exit(0)
        os.wait()
        for attempt in (
            lambda: syscalls.unshare(syscalls.CLONE_NEWUTS),
            lambda: mount_calls.mount("none", "/proc", "tmpfs", 0),
            lambda: syscalls.clone3(0, signal.SIGCHLD),
        ):
            try:
                attempt()
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOSYS):
                    return error.errno or 91
            else:
                return 92
        return 0

    assert filtered(docker_profile.docker_profile(), tries) == 0


def test_a_privileged_process_needs_no_new_privs_not() -> None:
    require("root", os.geteuid() == 0, "seccomp(2) without no_new_privs is for CAP_SYS_ADMIN")

    def privileges() -> int:
        with open("/proc/self/status", encoding="ascii") as file:
            return 0 if "NoNewPrivs:\t0" in file.read() else 1

    assert filtered(profile("SCMP_ACT_ERRNO", "getppid"), privileges, privileged=True) == 0


def test_the_library_that_makes_filters_is_known_by_its_file() -> None:
    if libseccomp.load():
        pytest.skip(f"needs libseccomp: {libseccomp.load()}")
    assert Path(libseccomp.path()).is_file()
