"""What is asked inside the guest of test_v2_guest.py, on a kernel that has cgroup v2 alone. Standard library only.

Each function named ``check_...`` is a test of its own there. One line of JSON a check: its name, and what went wrong.
"""

# The guest's processor is emulated: importing pathlib takes it a while. And there is no pytest in the guest.
# ruff: noqa: PTH100, PTH102, PTH103, PTH108, PTH110, PTH120, PTH211, BLE001, PT017, PT018, N818

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # where the guest has runners/container

MARK = "tare-check "


def group_at(path: str) -> Any:
    from tare.runners.container.cgroup import cgroups

    return cgroups.for_container(path, "unused")


@contextmanager
def limited(path: str, resources: dict[str, Any]) -> Iterator[Any]:
    """A cgroup at *path* under *resources*."""
    from tare.runners.container.cgroup import apply
    from tare.runners.container.cgroup import resources as r
    from tare.runners.container.reader import Reader

    group = group_at(path)
    group.create()
    try:
        apply.apply(r.parse(Reader(resources, "linux.resources")), group, lambda _: None)
        yield group
    finally:
        group.kill()
        group.remove()


def value(group: Any, file: str) -> str:
    with open(f"{group.directory}/{file}", encoding="ascii") as opened:
        return opened.read().strip()


def inside(group: Any, action: Callable[[], int], *, wait: bool = True) -> int:
    """Fork, enter *group*, exit with *action*'s answer. The wait status, or the pid without *wait*."""
    pid = os.fork()
    if not pid:
        try:
            group.add(0)
            os._exit(action())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(99)
    return os.waitpid(pid, 0)[1] if wait else pid


def opened(path: str, flags: int) -> int:
    """0, or the number of the error."""
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return error.errno or 98
    return 0


def check_the_host_is_v2_alone() -> None:
    from tare.runners.container.cgroup import cgroups

    assert cgroups.mode() == "v2", cgroups.layout()
    assert not cgroups.usable(), cgroups.usable()


def check_limits_are_in_the_files() -> None:
    asked = {
        "memory": {"limit": 64 << 20, "swap": 80 << 20, "reservation": 32 << 20},
        "pids": {"limit": 20},
        "cpu": {"shares": 2048, "quota": 50_000, "period": 200_000, "cpus": "0", "mems": "0"},
        "unified": {"memory.high": "50331648"},
    }
    with limited("/tare-limits/one", asked) as group:
        expected = {
            "memory.max": str(64 << 20),
            "memory.low": str(32 << 20),
            "memory.high": str(48 << 20),
            "pids.max": "20",
            "cpu.max": "50000 200000",
            "cpu.weight": "79",
            "cpuset.cpus": "0",
            "cpuset.mems": "0",
        }
        if os.path.exists(f"{group.directory}/memory.swap.max"):
            expected["memory.swap.max"] = str(16 << 20)
        found = {file: value(group, file) for file in expected}
        assert found == expected, found


def check_no_limit_is_written_as_max() -> None:
    asked = {"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1, "period": 100_000}}
    with limited("/tare-unlimited", asked) as group:
        found = [value(group, file) for file in ("memory.max", "pids.max", "cpu.max")]
        assert found == ["max", "max", "max 100000"], found


def check_idle_and_burst() -> None:
    asked = {"cpu": {"quota": 50_000, "burst": 20_000, "idle": 1}}
    with limited("/tare-idle", asked) as group:
        assert value(group, "cpu.idle") == "1"
        assert value(group, "cpu.max.burst") == "20000"


def check_what_v2_lacks_is_refused() -> None:
    from tare.runners.container.reader import BundleError

    for asked, word in (
        ({"memory": {"limit": 1 << 26, "swappiness": 5}}, "swappiness"),
        ({"memory": {"disableOOMKiller": True}}, "disableOOMKiller"),
        ({"memory": {"kernelTCP": 4096}}, "kernelTCP"),
        ({"cpu": {"realtimeRuntime": 1000}}, "realtimeRuntime"),
        ({"network": {"classID": 1}}, "network"),
        ({"unified": {"memory.nonsense": "1"}}, "memory.nonsense"),
    ):
        try:
            with limited("/tare-refused", asked):
                raise AssertionError(f"{asked} was taken")
        except BundleError as error:
            assert word in error.where, error
    assert not os.path.exists(group_at("/tare-refused").directory)


def update(group: Any, asked: dict[str, Any]) -> None:
    from tare.runners.container.cgroup import apply
    from tare.runners.container.cgroup import resources as r
    from tare.runners.container.reader import Reader

    apply.update(r.parse(Reader(asked, "linux.resources")), group, lambda _: None)


def check_updates_of_pairs() -> None:
    from tare.runners.container.reader import BundleError

    with limited("/tare-update/one", {"memory": {"limit": 32 << 20, "swap": 48 << 20}}) as group:
        counted = os.path.exists(f"{group.directory}/memory.swap.max")
        for memory, both in ((64, 80), (16, 16), (-1, -1), (32, 64), (128, -1), (16, 32)):
            sizes = [size if size < 0 else size << 20 for size in (memory, both)]
            update(group, {"memory": {"limit": sizes[0], "swap": sizes[1]}})
            assert value(group, "memory.max") == ("max" if memory < 0 else str(sizes[0])), (memory, both)
            expected = "max" if both < 0 else str(sizes[1] - sizes[0])
            assert not counted or value(group, "memory.swap.max") == expected, (memory, both)
        update(group, {"memory": {"swap": 24 << 20}})
        assert not counted or value(group, "memory.swap.max") == str(8 << 20)
        for asked in ({"swap": 8 << 20}, {"limit": -1, "swap": 1 << 20}):
            try:
                update(group, {"memory": asked, "pids": {"limit": 3}})
            except BundleError as error:
                assert error.where.endswith("memory.swap"), error
            else:
                raise AssertionError(f"{asked} was taken")
        assert value(group, "pids.max") == "max"
        update(group, {"memory": {"limit": -1}})
        assert not counted or value(group, "memory.swap.max") == "max"


def check_updates_of_processor_time() -> None:
    with limited("/tare-cpu/one", {"cpu": {"quota": 20_000, "period": 50_000}}) as group:
        for asked, expected in (
            ({"period": 100_000}, "20000 100000"),
            ({"quota": 30_000}, "30000 100000"),
            ({"quota": -1}, "max 100000"),
            ({"period": 10_000}, "max 10000"),
            ({"quota": 5000, "period": 10_000, "burst": 4000}, "5000 10000"),
            ({"quota": 2000, "burst": 1000}, "2000 10000"),
            ({"quota": 9000, "burst": 8000}, "9000 10000"),
            ({"shares": 2048, "idle": 1}, "9000 10000"),
            ({"shares": 1024, "idle": 0}, "9000 10000"),
        ):
            update(group, {"cpu": asked})
            assert value(group, "cpu.max") == expected, (asked, value(group, "cpu.max"))
        assert value(group, "cpu.max.burst") == "8000"
        assert value(group, "cpu.weight") == "39"
        try:
            update(group, {"pids": {"limit": 4}, "cpu": {"quota": 5000}})  # below the burst
        except OSError as error:
            assert error.errno == errno.EINVAL, error
        else:
            raise AssertionError("it was taken")
        assert (value(group, "cpu.max"), value(group, "pids.max")) == ("9000 10000", "max")


def check_controllers_that_cannot_be_handed_down_are_not_missed() -> None:
    """Below a cgroup with processes no domain controller can be had: as in a container without an own hierarchy."""
    from tare.runners.container.cgroup import cgroups

    os.makedirs(f"{cgroups.layout().v2}/tare-busy")
    pid = inside(group_at("/tare-busy"), spin, wait=False)
    try:
        while pid not in group_at("/tare-busy").pids():
            pass
        with limited("/tare-busy/one", {}) as group:
            assert "memory" not in value(group, "cgroup.controllers"), value(group, "cgroup.controllers")
        try:
            with limited("/tare-busy/one", {"memory": {"limit": 1 << 26}}):
                raise AssertionError("it was taken")
        except ValueError as error:
            assert "memory.max" in str(error), error
    finally:
        group_at("/tare-busy").kill()
        os.waitpid(pid, 0)
        group_at("/tare-busy").remove()


def check_pids_limit_holds() -> None:
    def forks() -> int:
        for count in range(50):
            try:
                if not os.fork():
                    os._exit(0)  # it stays a task until it is waited for
            except OSError as error:
                return count if error.errno == errno.EAGAIN else 90
        return 91

    with limited("/tare-pids", {"pids": {"limit": 6}}) as group:
        status = inside(group, forks)
        assert os.waitstatus_to_exitcode(status) == 5, status
        assert "max 0" not in value(group, "pids.events"), value(group, "pids.events")


def check_memory_limit_kills() -> None:
    def hog() -> int:
        held = bytearray(96 << 20)
        return len(held) % 7

    asked = {"memory": {"limit": 32 << 20, "swap": 32 << 20}}
    with limited("/tare-memory", asked) as group:
        status = inside(group, hog)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == 9, status
        events = dict(line.split() for line in value(group, "memory.events").splitlines())
        assert int(events["oom_kill"]) >= 1, events


def spin() -> int:
    while True:
        pass


def check_what_was_freed_lazily_is_reclaimed_and_nothing_in_use() -> None:
    import mmap

    size = 16 << 20

    def touch() -> int:
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # shared memory cannot be freed lazily
        kept, freed = mmap.mmap(-1, size, flags=private), mmap.mmap(-1, size, flags=private)
        for memory in (kept, freed):
            for at in range(0, size, mmap.PAGESIZE):
                memory[at] = 1
        freed.madvise(mmap.MADV_FREE)
        os.write(told, b"t")
        select.select([], [], [])
        return 0

    reader, told = os.pipe()
    with limited("/tare-reclaim", {"memory": {"limit": 64 << 20}}) as group:
        inside(group, touch, wait=False)
        os.close(told)
        assert os.read(reader, 1) == b"t"
        before = int(value(group, "memory.current"))
        group.reclaim(size)
        after = int(value(group, "memory.current"))
        assert before - after > size // 2, (before, after)
        group.reclaim(2 * size)  # less is to be had: no error
        left = int(value(group, "memory.current"))
        assert left >= size, left
    os.close(reader)


def check_freeze_and_thaw() -> None:
    with limited("/tare-freeze", {}) as group:
        pid = inside(group, spin, wait=False)
        while pid not in group.pids():
            pass
        assert not group.frozen()
        group.freeze()
        assert group.frozen()
        used = [group.cpu_ns() for _ in range(2)]
        assert used[0] == used[1], used
        group.thaw()
        while group.cpu_ns() == used[0]:
            pass
        group.freeze()
        group.kill()  # frozen as it is
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == 9
        assert not group.pids()


def check_kill_reaches_below_and_all_is_removed() -> None:
    with limited("/tare-tree/one", {}) as group:
        below = group.child("deep/deeper")
        os.makedirs(below.directory)
        # The domain controllers are handed down above, so processes may only be in the leaves.
        pids = {inside(below, spin, wait=False) for _ in range(3)}
        while not pids <= group.pids():
            pass
        group.kill()
        assert {os.WTERMSIG(os.waitpid(pid, 0)[1]) for pid in pids} == {9}
    assert not os.path.exists(group.directory)
    group.remove()
    group_at("/tare-tree").remove()


def nodes() -> None:
    for name, major, minor in (("null", 1, 3), ("kmsg", 1, 11), ("mem", 1, 1)):
        path = f"/run/{name}"
        if not os.path.exists(path):
            os.mknod(path, 0o20666, os.makedev(major, minor))


def check_devices_none_but_the_standard_ones() -> None:
    nodes()
    with limited("/tare-devices", {"devices": [{"allow": False, "access": "rwm"}]}) as group:
        found = [
            os.waitstatus_to_exitcode(inside(group, partial(opened, path, flags)))
            for path, flags in (("/run/null", os.O_RDWR), ("/run/kmsg", os.O_RDONLY), ("/run/mem", os.O_RDONLY))
        ]
        assert found == [0, errno.EPERM, errno.EPERM], found

        def makes() -> int:
            os.mknod("/run/made", 0o20666, os.makedev(1, 11))
            os.unlink("/run/made")
            return 0

        assert inside(group, makes) == 0
    assert opened("/run/kmsg", os.O_RDONLY) == 0


def check_devices_in_order_and_by_access() -> None:
    nodes()
    rules = [
        {"allow": True},
        {"allow": False, "type": "c", "major": 1, "minor": 1},
        {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "rw"},
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"},
    ]
    with limited("/tare-ordered", {"devices": rules}) as group:

        def result(path: str, flags: int) -> int:
            return os.waitstatus_to_exitcode(inside(group, lambda: opened(path, flags)))

        assert result("/run/mem", os.O_RDONLY) == errno.EPERM
        assert result("/run/kmsg", os.O_WRONLY) == 0
        assert result("/run/kmsg", os.O_RDONLY) == errno.EPERM
        assert result("/run/kmsg", os.O_RDWR) == errno.EPERM
        assert result("/dev/zero", os.O_RDONLY) == 0
        assert result("/dev/ttyS0", os.O_WRONLY | os.O_NOCTTY) == 0


def check_io_of_an_absent_device_is_refused() -> None:
    asked = {"blockIO": {"throttleReadBpsDevice": [{"major": 253, "minor": 77, "rate": 1000}]}}
    try:
        with limited("/tare-io-absent", asked):
            raise AssertionError("it was taken")
    except OSError as error:
        assert error.errno == errno.ENODEV, error
        assert str(error.filename).endswith("io.max"), error


def check_io_max() -> None:
    if not os.path.exists("/dev/loop0"):
        return skip("the kernel's package, which holds the loop driver, was not to be had")
    subprocess.run(
        ["busybox", "dd", "if=/dev/zero", "of=/tmp/disk", "bs=1M", "count=1"], check=True, stderr=subprocess.DEVNULL
    )
    subprocess.run(["busybox", "losetup", "/dev/loop0", "/tmp/disk"], check=True)
    device = {"major": 7, "minor": 0}
    asked = {
        "blockIO": {
            "throttleReadBpsDevice": [device | {"rate": 1 << 20}],
            "throttleWriteBpsDevice": [device | {"rate": 1 << 21}],
            "throttleReadIOPSDevice": [device | {"rate": 100}],
        }
    }
    with limited("/tare-io", asked) as group:
        assert value(group, "io.max") == "7:0 rbps=1048576 wbps=2097152 riops=100 wiops=max", value(group, "io.max")
    return None


def check_what_was_counted() -> None:
    from tare.runners.container.cgroup import counters

    def hold() -> int:
        held = bytearray(8 << 20)
        began = time.process_time()
        while time.process_time() - began < 0.2:
            pass
        os.write(told, b"t")
        select.select([], [], [])
        return len(held) % 7

    asked = {
        "memory": {"limit": 64 << 20},
        "pids": {"limit": 9},
        "cpu": {"cpus": "0", "mems": "0", "quota": 20_000, "period": 100_000},
    }
    reader, told = os.pipe()
    with limited("/tare-counted", asked) as group:
        inside(group, hold, wait=False)
        os.close(told)
        assert os.read(reader, 1) == b"t"
        found: Any = counters.collect(group)
        usage = found["cpu"]["usage"]
        assert usage["total"] >= 200 * 10**6, usage
        assert abs(usage["user"] + usage["kernel"] - usage["total"]) < 10**5, usage
        throttling = found["cpu"]["throttling"]
        assert throttling["throttledPeriods"] >= 1 and throttling["throttledTime"] > 0, throttling
        assert found["cpuset"] == {"cpus": [0], "mems": [0]}, found["cpuset"]
        assert found["pids"] == {"current": 1, "limit": 9}, found["pids"]
        memory = found["memory"]
        assert 8 << 20 <= memory["usage"]["usage"] <= memory["usage"]["limit"] == 64 << 20, memory
        assert memory["raw"]["anon"] >= 8 << 20, memory["raw"]
        assert found["hugetlb"].keys() <= {"2MB", "1GB"}, found["hugetlb"]
    os.close(reader)


def check_a_shortage_of_memory_is_told() -> None:
    from tare.runners.container.cli import events

    def hog() -> int:
        held = bytearray(96 << 20)
        return len(held) % 7

    with limited("/tare-short", {"memory": {"limit": 32 << 20, "swap": 32 << 20}}) as group:
        shortage = events.Shortage(group)
        poll = select.poll()
        poll.register(shortage.fd, shortage.mask)
        assert not poll.poll(100), "nothing had happened"
        for _ in range(2):
            assert os.WIFSIGNALED(inside(group, hog))
            assert poll.poll(10_000), "nothing was told"
            assert shortage.came()
            # The limit itself wakes it, too: only a kill counts.
            while poll.poll(100):
                assert not shortage.came()
        shortage.close()


def check_huge_pages() -> None:
    with limited("/tare-huge", {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}) as group:
        assert value(group, "hugetlb.2MB.max") == str(4 << 20)


def check_seccomp_filters() -> None:
    from tare.runners.container.linux import syscalls
    from tare.runners.container.reader import Reader
    from tare.runners.container.seccomp import docker_profile, filters

    profile = filters.parse(Reader(docker_profile.docker_profile(), "linux.seccomp"))
    program = filters.compile(profile)
    pid = os.fork()
    if not pid:
        try:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            syscalls.seccomp(program, profile.flags)
            syscalls.unshare(syscalls.CLONE_NEWUTS)
        except OSError as error:
            os._exit(error.errno or 98)
        finally:
            os._exit(97)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == errno.EPERM


def runtime(*words: str, status: int = 0) -> str:
    """What the OCI runtime printed on standard output."""
    main = "/tare/runners/container/__main__.py"
    command = [sys.executable, "-I", "-S", "-B", main, "--root", "/run/tare-guest", *words]
    # Files, not pipes: the container's first process would hold a pipe open, and there would be no end of file.
    with open("/tmp/said", "w+b") as said, open("/tmp/complained", "w+b") as complained:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=complained, check=False)
        texts = []
        for each in (said, complained):
            each.seek(0)
            texts.append(each.read().decode())
    assert done.returncode == status, (words, done.returncode, texts)
    return texts[0]


@contextmanager
def bundle(script: str, **changes: Any) -> Iterator[str]:
    """A directory with a root filesystem of busybox and the configuration that all container subjects get."""
    from tare.runners.container.config.defaults import default_config

    directory = "/tmp/bundle"
    for name in ("bin", "proc", "dev", "sys", "tmp"):
        os.makedirs(f"{directory}/rootfs/{name}", exist_ok=True)
    shutil.copy(shutil.which("busybox") or "busybox", f"{directory}/rootfs/bin/busybox")
    os.symlink("busybox", f"{directory}/rootfs/bin/sh")
    config = default_config(
        argv=["/bin/sh", "-c", script],
        env=[("PATH", "/bin")],
        rootfs="rootfs",
        cgroup="tare-guest/one",
        memory_bytes=64 << 20,
        cpus=1,
    )
    config.update(changes)
    with open(f"{directory}/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    try:
        yield directory
    finally:
        clear(directory)


def clear(directory: str) -> None:
    shutil.rmtree(directory)
    group = group_at("/tare-guest")
    group.kill()
    group.remove()


def check_a_container_from_create_to_delete() -> None:
    group = group_at("/tare-guest/one")
    with bundle("while :; do :; done") as directory:
        runtime("create", "--bundle", directory, "one")
        assert json.loads(runtime("state", "one"))["status"] == "created"
        found = {file: value(group, file) for file in ("memory.max", "memory.swap.max", "pids.max", "cpu.max")}
        expected = {"memory.max": str(64 << 20), "memory.swap.max": "0", "pids.max": "512", "cpu.max": "100000 100000"}
        assert found == expected, found
        runtime("start", "one")
        state = json.loads(runtime("state", "one"))
        assert state["status"] == "running", state
        assert state["pid"] in group.pids(), (state, group.pids())
        runtime("pause", "one")
        assert group.frozen()
        assert json.loads(runtime("state", "one"))["status"] == "paused"
        runtime("resume", "one")
        assert not group.frozen()
        runtime("kill", "one", "KILL")
        while group.pids():
            pass
        assert json.loads(runtime("state", "one"))["status"] == "stopped"
        runtime("delete", "one")
        assert not os.path.exists(group.directory)


def until(there: Callable[[], bool]) -> None:
    """Wait for it, half a minute at most: the guest's processor is slow."""
    deadline = time.monotonic() + 30
    while not there():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def complaint(*words: str, status: int = 1) -> str:
    """What it said on standard error."""
    runtime(*words, status=status)
    with open("/tmp/complained", encoding="utf-8") as complained:
        return complained.read()


def check_a_frozen_cgroup_is_refused_and_so_is_a_paused_container() -> None:
    group = group_at("/tare-guest/one")
    with bundle("while :; do /bin/busybox sleep 1; done") as directory:
        os.makedirs(os.path.dirname(group.directory), exist_ok=True)
        above = f"{os.path.dirname(group.directory)}/cgroup.freeze"
        for verb in ("run", "create"):
            with open(above, "w", encoding="ascii") as file:
                file.write("1")
            said = complaint(verb, "--bundle", directory, "one")
            assert "container's cgroup unexpectedly frozen: /tare-guest;" in said, said
            assert not os.path.exists(group.directory)
            with open(above, "w", encoding="ascii") as file:
                file.write("0")
        runtime("create", "--bundle", directory, "one")
        runtime("pause", "one")
        assert "it is paused" in complaint("start", "one")
        runtime("resume", "one")
        runtime("start", "one")
        assert "container's cgroup is not empty" in complaint("run", "--detach", "--bundle", directory, "two", status=0)
        runtime("pause", "one")
        assert "paused" in complaint("exec", "two", "/bin/sh", status=255)
        runtime("delete", "--force", "two")
        assert '"running"' in runtime("state", "one")
        runtime("pause", "one")
        assert "cannot exec in a paused container" in complaint("exec", "one", "/bin/sh", status=255)
        runtime("delete", "--force", "one")
        assert not os.path.exists(group.directory)


def check_exec_where_no_task_is_left_and_where_controllers_are_handed_down() -> None:
    group = group_at("/tare-guest/one")
    where = ("exec", "one", "/bin/sh", "-c", "read line </proc/self/cgroup; echo $line")
    with bundle("while :; do /bin/busybox sleep 1000; done") as directory:
        runtime("run", "--detach", "--bundle", directory, "one")
        until(lambda: value(group, "pids.current") == "2")
        for limit in ("2", "1"):
            runtime("update", "--pids-limit", limit, "one")
            assert runtime(*where) == "0::/\n", limit
        runtime("update", "--pids-limit", "-1", "one")
        # As systemd does it inside: all processes below, and controllers handed down to there.
        os.mkdir(f"{group.directory}/init")
        for pid in group.pids():
            with open(f"{group.directory}/init/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(pid))
        with open(f"{group.directory}/cgroup.subtree_control", "w", encoding="ascii") as file:
            file.write("+memory")
        assert runtime(*where) == "0::/init\n"
        os.mkdir(f"{group.directory}/sub")
        assert runtime("exec", "--cgroup", "sub", *where[1:]) == "0::/sub\n"
        assert "is not a sub cgroup path" in complaint("exec", "--cgroup", "../x", *where[1:], status=255)
        assert "unknown controller" in complaint("exec", "--cgroup", "memory:sub", *where[1:], status=255)
        runtime("delete", "--force", "one")
        assert not os.path.exists(group.directory)


def check_delete_by_force_removes_threaded_cgroups_below() -> None:
    group = group_at("/tare-guest/one")
    with bundle("/bin/busybox sleep 1000 & /bin/busybox sleep 1000 & wait") as directory:
        runtime("run", "--detach", "--bundle", directory, "one")
        until(lambda: value(group, "pids.current") == "3")
        threads = f"{group.directory}/threads"
        os.makedirs(f"{threads}/deeper")
        with open(f"{group.directory}/cgroup.subtree_control", "w", encoding="ascii") as file:
            try:
                file.write("+pids")
                file.flush()
            except OSError:
                pass  # with processes beside, only of a threaded one
        for each in (threads, f"{threads}/deeper"):
            with open(f"{each}/cgroup.type", "w", encoding="ascii") as file:
                file.write("threaded")
        pid = max(group.pids())
        with open(f"{threads}/deeper/cgroup.threads", "w", encoding="ascii") as file:
            file.write(str(pid))
        assert str(pid) in value(group, "threads/deeper/cgroup.threads").split()
        runtime("delete", "--force", "one")
        assert not os.path.exists(group.directory)


#: What a container of the default configuration prints by it, in either way of starting one.
LOOK_AROUND = (
    "while read line; do echo $line; done </proc/self/cgroup;"
    " while read line; do case $line in Seccomp:*|CapEff:*) echo $line;; esac; done </proc/self/status;"
    " : </dev/null && echo null; /bin/busybox mknod /dev/k c 1 11 && echo made;"
    " /bin/busybox cat /dev/k >/dev/null 2>&1 || echo refused; echo end"
)
SEEN = ["0::/", "CapEff: 00000000a80425fb", "Seccomp: 2", "null", "made", "refused", "end"]


def check_a_container_sees_its_own_cgroup_and_devices_alone() -> None:
    with bundle(LOOK_AROUND) as directory:
        lines = runtime("run", "--bundle", directory, "two").splitlines()
    assert lines == SEEN, lines


def check_a_warm_container() -> None:
    with open("/proc/filesystems", encoding="ascii") as known:
        if "overlay" not in known.read():
            skip("the kernel's package, which holds overlayfs, was not to be had")
    from pathlib import Path

    from tare.runners import fork_server
    from tare.runners.base import Scratch, Spec
    from tare.runners.container.cgroup import cgroups
    from tare.runners.image.tree import plain

    with bundle("") as directory:
        spec = Spec(
            argv=("/bin/sh", "-c", f"{LOOK_AROUND}; while :; do :; done"),
            image=plain(Path(directory, "rootfs")),
            memory_bytes=64 << 20,
            cpus=1,
        )
        place = Path("/run/warm")
        place.mkdir()
        scratch = Scratch(directory=place, cache=Path("/tare/cache"), cgroup="tare-guest", prefix="tare-guest")
        with fork_server.prepare(spec, {}, scratch) as prepared, prepared.launch("one", lambda _: None) as instance:
            text = ""
            while "end\n" not in text and not (trouble := instance.explain()):
                select.select([instance.console], [], [], 1)
                try:
                    text += os.read(instance.console, 4096).decode()
                except BlockingIOError:
                    pass
            assert text.splitlines() == SEEN, (text, trouble)
            group = cgroups.at("tare-guest/one")
            assert isinstance(group, cgroups.V2)
            found = {file: value(group, file) for file in ("memory.max", "memory.swap.max", "pids.max", "cpu.max")}
            expected = {"memory.max": str(64 << 20), "memory.swap.max": "0", "pids.max": "512"}
            assert found == expected | {"cpu.max": "100000 100000"}, found
            assert group.pids() == instance.pids()
        assert not os.path.exists(group.directory)


def check_a_container_over_its_memory_is_killed() -> None:
    with bundle("x=x; while :; do x=$x$x; done") as directory:
        runtime("run", "--bundle", directory, "three", status=137)
    assert not os.path.exists(group_at("/tare-guest/one").directory)


def check_a_process_is_limited_alone() -> None:
    """Through its gate: only the payload's own memory is charged, and the limit's victim is named."""
    from pathlib import Path

    from tare.runners import payload, process
    from tare.runners.base import Scratch, Spec
    from tare.runners.image.tree import plain

    cache = Path("/tare/cache")
    options = {"limit": "cgroup"}
    support = process.probe(options, cache)
    assert support.ok and not support.unlimited, support
    root = Path("/run/payload")
    root.mkdir()
    (root / "payload").write_bytes(payload.binary(cache).read_bytes())
    (root / "payload").chmod(0o755)
    scratch = Scratch(directory=cache, cache=cache, cgroup="tare-guest", prefix="tare-guest")
    for memory_bytes, wanted in ((1 << 20, ""), (16 << 10, "it reached the memory limit of its cgroup")):
        argv = payload.Payload().argv
        spec = Spec(argv=argv, image=plain(root), memory_bytes=memory_bytes, cpus=1)
        with process.prepare(spec, options, scratch) as prepared, prepared.launch("one", lambda _: None) as instance:
            os.set_blocking(instance.console, True)
            text = b""
            while b"tare ready\n" not in text and (data := os.read(instance.console, 4096)):
                text += data
            said = instance.explain()
            assert (wanted in said) if wanted else (not said and b"tare ready" in text), (memory_bytes, said, text)
        assert not os.path.exists(group_at("/tare-guest/one").directory)


class Skipped(Exception):
    """It cannot be found out here."""


def skip(why: str) -> None:
    raise Skipped(why)


def main() -> None:
    for name, check in sorted(globals().items()):
        if not name.startswith("check_"):
            continue
        found = {"name": name, "trouble": "", "skipped": ""}
        try:
            check()
        except Skipped as why:
            found["skipped"] = str(why)
        except BaseException:
            found["trouble"] = traceback.format_exc()
        sys.stdout.write(f"{MARK}{json.dumps(found)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
