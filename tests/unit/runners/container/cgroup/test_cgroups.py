"""Mount tables of three kinds of host, and what is written to which file."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.runners.container.cgroup import cgroups, hierarchies, mountinfo
from tare.runners.container.cgroup.hierarchies import Layout
from tare.runners.container.reader import BundleError

V2_ONLY = """\
23 27 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""
V1_ONLY = """\
33 32 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
36 33 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:12 - cgroup cgroup rw,cpu,cpuacct
37 33 0:32 / /sys/fs/cgroup/memory rw,relatime shared:13 - cgroup cgroup rw,memory
38 33 0:33 / /sys/fs/cgroup/pids rw,relatime shared:14 - cgroup cgroup rw,pids
39 33 0:34 / /sys/fs/cgroup/systemd rw,relatime shared:10 - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
40 22 0:32 / /mnt/again rw,relatime shared:13 - cgroup cgroup rw,memory
"""
HYBRID = V1_ONLY + "41 33 0:35 / /sys/fs/cgroup/unified rw,relatime shared:15 - cgroup2 cgroup2 rw,nsdelegate\n"
# A hierarchy without a controller that we drive does not make a v1 host.
SYSTEMD_ON_V2 = V2_ONLY + "42 33 0:36 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
NONE = "23 27 0:22 / /sys rw shared:7 - sysfs sysfs rw\nno mount line\n"


@pytest.mark.parametrize(
    ("text", "mode", "v2"),
    [
        (V2_ONLY, "v2", "/sys/fs/cgroup"),
        (V1_ONLY, "v1", None),
        (HYBRID, "hybrid", "/sys/fs/cgroup/unified"),
        (SYSTEMD_ON_V2, "v2", "/sys/fs/cgroup"),
        (NONE, "none", None),
        ("", "none", None),
    ],
)
def test_mode(text: str, mode: str, v2: str | None) -> None:
    layout = hierarchies.parse(text)
    assert (layout.mode, layout.v2) == (mode, v2)


def test_v1_controllers_share_a_hierarchy() -> None:
    layout = hierarchies.parse(HYBRID)
    assert layout.v1["cpu"] == layout.v1["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"
    assert layout.v1["memory"] == "/sys/fs/cgroup/memory"
    assert layout.mounts == (
        "/sys/fs/cgroup/cpu,cpuacct",
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/pids",
        "/sys/fs/cgroup/systemd",
        "/sys/fs/cgroup/unified",
    )
    group = cgroups.at("tare-1/night", where=layout)
    assert [str(path) for path in group.paths()] == [
        "/sys/fs/cgroup/memory/tare-1/night",
        "/sys/fs/cgroup/pids/tare-1/night",
        "/sys/fs/cgroup/cpu,cpuacct/tare-1/night",
    ]
    assert str(group.path) == "/sys/fs/cgroup/cpu,cpuacct/tare-1/night"


def test_escapes_in_mount_points() -> None:
    layout = hierarchies.parse(r"29 23 0:26 / /my\040cgroups\134x rw - cgroup2 cgroup2 rw")
    assert layout.v2 == "/my cgroups\\x"


@given(st.text(st.characters(exclude_characters="\0"), max_size=30))
def test_unescape_undoes_the_kernel(path: str) -> None:
    table = {" ": "\\040", "\t": "\\011", "\n": "\\012", "\\": "\\134"}
    assert mountinfo.unescape("".join(table.get(char, char) for char in path)) == path


@given(st.text(max_size=400))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert hierarchies.parse(text).mode in ("v1", "v2", "hybrid", "none")


@pytest.mark.parametrize("relative", ["", "/", "a//b", "../a", "a/../b", "."])
def test_bad_paths(relative: str) -> None:
    with pytest.raises(OSError, match="not a relative cgroup path"):
        cgroups.at(relative, where=hierarchies.parse(V2_ONLY))


def test_nothing_mounted() -> None:
    with pytest.raises(FileNotFoundError):
        cgroups.at("tare-1", where=hierarchies.parse(NONE))


def fake(directory: Path, *files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for file in files:
        (directory / file).touch()


@pytest.fixture
def v1(tmp_path: Path) -> cgroups.V1:
    """Three hierarchies as plain directories, with a group t/one."""
    fake(tmp_path / "m/t/one", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cgroup.procs")
    fake(tmp_path / "p/t/one", "pids.max", "cgroup.procs")
    fake(tmp_path / "c/t/one", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpuacct.usage", "cgroup.procs")
    fake(tmp_path / "m", "memory.memsw.limit_in_bytes")
    where = {"memory": "m", "pids": "p", "cpu": "c", "cpuacct": "c"}
    v1 = {controller: str(tmp_path / name) for controller, name in where.items()}
    return cgroups.V1("t/one", Layout("v1", v1, tuple(dict.fromkeys(v1.values())), None))


def test_v1_limits(v1: cgroups.V1, tmp_path: Path) -> None:
    v1.limit(memory_bytes=1 << 26, pids=7, cpus=1.5)
    assert (tmp_path / "m/t/one/memory.limit_in_bytes").read_text() == "67108864"
    assert (tmp_path / "m/t/one/memory.memsw.limit_in_bytes").read_text() == "67108864"
    assert (tmp_path / "p/t/one/pids.max").read_text() == "7"
    assert (tmp_path / "c/t/one/cpu.cfs_quota_us").read_text() == "150000"
    assert (tmp_path / "c/t/one/cpu.cfs_period_us").read_text() == "", "it has the default"


def test_v1_without_swap_accounting(v1: cgroups.V1, tmp_path: Path) -> None:
    (tmp_path / "m/memory.memsw.limit_in_bytes").unlink()
    assert [path.rsplit("/", 1)[1] for path, _ in v1.limits(memory_bytes=1)] == ["memory.limit_in_bytes"]


def test_nothing_asked_nothing_written(v1: cgroups.V1) -> None:
    assert v1.limits() == []


def test_v1_counts(v1: cgroups.V1, tmp_path: Path) -> None:
    (tmp_path / "c/t/one/cpuacct.usage").write_text("12345\n")
    (tmp_path / "m/t/one/cgroup.procs").write_text("10\n11\n")
    fake(tmp_path / "p/t/one/below", "cgroup.procs")
    (tmp_path / "p/t/one/below/cgroup.procs").write_text("12\n")
    assert v1.cpu_ns() == 12345
    assert v1.pids() == {10, 11, 12}
    v1.add(13)
    assert (tmp_path / "p/t/one/cgroup.procs").read_text() == "13"


def test_v1_creates_parents_and_removes_everywhere(v1: cgroups.V1, tmp_path: Path) -> None:
    group = cgroups.V1("new/below", v1.layout)
    group.create()
    group.create()
    (tmp_path / "c/new/below/deeper").mkdir()
    assert all(path.is_dir() for path in group.paths())
    group.remove()
    group.remove()
    assert not any(path.exists() for path in group.paths())
    assert (tmp_path / "m/new").is_dir()


def test_v1_cpuset_is_copied_down(tmp_path: Path) -> None:
    layout = Layout("v1", {"cpuset": str(tmp_path)}, (str(tmp_path),), None)
    for directory in (tmp_path, tmp_path / "a", tmp_path / "a/b"):
        fake(directory, "cpuset.cpus", "cpuset.mems")
    (tmp_path / "cpuset.cpus").write_text("0-3\n")
    (tmp_path / "cpuset.mems").write_text("0\n")
    (tmp_path / "a/cpuset.cpus").write_text("1\n")
    cgroups.V1("a/b", layout, ("cpuset",)).create()
    assert (tmp_path / "a/b/cpuset.cpus").read_text() == "1"
    assert (tmp_path / "a/b/cpuset.mems").read_text() == "0"


def test_a_missing_hierarchy_is_named(v1: cgroups.V1) -> None:
    with pytest.raises(FileNotFoundError, match="devices"):
        cgroups.V1("t", v1.layout, ("devices",)).paths()


@pytest.fixture
def v2(tmp_path: Path) -> cgroups.V2:
    fake(tmp_path, "cgroup.controllers", "cgroup.subtree_control")
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("memory\n")
    return cgroups.V2("t", Layout("v2", {}, (), str(tmp_path)))


def test_v2_hands_down_only_what_is_missing(v2: cgroups.V2, tmp_path: Path) -> None:
    v2.create()
    assert (tmp_path / "cgroup.subtree_control").read_text().split() == ["+pids", "+cpu", "+cpuset"]
    assert v2.path.is_dir()


def test_v2_limits_and_counts(v2: cgroups.V2, tmp_path: Path) -> None:
    fake(tmp_path / "t", "memory.max", "memory.swap.max", "pids.max", "cpu.max", "cpu.stat", "cgroup.procs")
    v2.limit(memory_bytes=4096, pids=3, cpus=2)
    assert (tmp_path / "t/memory.max").read_text() == "4096"
    assert (tmp_path / "t/memory.swap.max").read_text() == "0"
    assert (tmp_path / "t/pids.max").read_text() == "3"
    assert (tmp_path / "t/cpu.max").read_text() == "200000 100000"
    (tmp_path / "t/cpu.stat").write_text("nr_periods 0\nusage_usec 77\nuser_usec 7\n")
    assert v2.cpu_ns() == 77000
    v2.add(5)
    assert (tmp_path / "t/cgroup.procs").read_text() == "5"
    assert v2.pids() == {5}


def test_cpu_stat_without_usage() -> None:
    with pytest.raises(OSError, match="usage_usec"):
        cgroups.cpu_stat_ns("user_usec 7\n")


def test_kill_of_nothing(v2: cgroups.V2) -> None:
    v2.kill()


def test_refused_write_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        hierarchies.write(os.fspath(tmp_path / "absent"), "1")
    assert caught.value.filename == os.fspath(tmp_path / "absent")


def test_find_by_prefix_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/tare-1", "a/mine", "b/tare-2", "b/tare-1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a/tare-file").touch()
    layout = Layout("hybrid", {}, (str(tmp_path / "a"), str(tmp_path / "gone")), str(tmp_path / "b"))
    monkeypatch.setattr(cgroups, "layout", lambda: layout)
    assert cgroups.find("tare-") == ["tare-1", "tare-2"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a/b", "a/b"), ("a/b", "a/b"), ("", "one"), ("//a/./b/", "a/b"), ("/docker/0123", "docker/0123")],
)
def test_place_of_a_container(path: str, expected: str) -> None:
    assert cgroups.place(path, "one") == expected


@pytest.mark.parametrize("path", ["/", "//", "/a/../b", "..", "a\0b"])
def test_no_place_for_a_container(path: str) -> None:
    with pytest.raises(BundleError, match=r"linux\.cgroupsPath"):
        cgroups.place(path, "one")


def test_a_container_is_in_every_hierarchy() -> None:
    group = cgroups.for_container("/g", "one", where=hierarchies.parse(HYBRID))
    assert group.directories() == [
        "/sys/fs/cgroup/cpu,cpuacct/g",
        "/sys/fs/cgroup/memory/g",
        "/sys/fs/cgroup/pids/g",
        "/sys/fs/cgroup/systemd/g",
        "/sys/fs/cgroup/unified/g",
    ]
    assert group.entrances()[0] == "/sys/fs/cgroup/cpu,cpuacct/g/tasks"
    assert group.entrances()[-1] == "/sys/fs/cgroup/unified/g/cgroup.procs"
    assert group.child("x").directories()[-1] == "/sys/fs/cgroup/unified/g/x"


def test_a_container_gets_every_controller_of_v2(tmp_path: Path) -> None:
    fake(tmp_path, "cgroup.controllers", "cgroup.subtree_control")
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids unheard\n")
    group = cgroups.for_container("/t", "one", where=Layout("v2", {}, (), str(tmp_path)))
    written: list[str] = []

    def write(_path: str, text: str) -> None:
        written.append(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tare.runners.container.cgroup.v2.write", write)
        group.create()
    assert written == ["+memory +pids +cpu +cpuset +io +hugetlb"]


@pytest.mark.parametrize("refusal", [errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS, errno.EOPNOTSUPP])
def test_a_container_gets_the_controllers_that_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    """In a container there are processes beside it, or there is no right: what is not asked for is not missed."""
    fake(tmp_path, "cgroup.controllers", "cgroup.subtree_control")
    (tmp_path / "cgroup.controllers").write_text("memory io pids\n")
    written: list[str] = []

    def write(path: str, text: str) -> None:
        written.append(text)
        if text != "+pids":
            raise OSError(refusal, "no", path)

    monkeypatch.setattr("tare.runners.container.cgroup.v2.write", write)
    cgroups.for_container("/t", "one", where=Layout("v2", {}, (), str(tmp_path))).create()
    assert written == ["+memory +pids +io", "+memory", "+pids", "+io"]
    with pytest.raises(OSError, match="no"):
        cgroups.at("t", where=Layout("v2", {}, (), str(tmp_path))).create()  # one of the bench needs them


#: Above the highest pid_max (proc_sys_kernel(5)): nobody is killed, should a test go wrong.
NOBODY = 1 << 23


def test_frozen_v1_processes_are_killed_before_they_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "t", "freezer.state", "cgroup.procs")
    (tmp_path / "t/freezer.state").write_text("FROZEN\n")
    (tmp_path / "t/cgroup.procs").write_text(f"{NOBODY}\n")
    seen: list[tuple[object, str]] = []
    state = tmp_path / "t/freezer.state"
    where = "tare.runners.container.cgroup.v1"
    monkeypatch.setattr(f"{where}.send_kill", lambda pids: seen.append((pids, state.read_text())))
    monkeypatch.setattr(f"{where}.kill", lambda _pids, _where, _rescue: seen.append(("kill", state.read_text())))
    cgroups.V1("t", Layout("v1", {"freezer": str(tmp_path)}, (str(tmp_path),), None), ("freezer",)).kill()
    # The file is no kernel's: the shorter word is written over the start of the longer one.
    assert seen == [({NOBODY}, "FROZEN\n"), ("kill", "THAWED\n")]


def test_frozen_below_is_let_go_too_and_the_one_above_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with a cgroup mount of its own can freeze what it made; that above it is not ours to thaw."""
    fake(tmp_path / "a/t/inner", "freezer.state", "cgroup.procs")
    fake(tmp_path / "a", "freezer.self_freezing")
    fake(tmp_path / "a/t", "freezer.state", "freezer.self_freezing", "cgroup.procs")
    (tmp_path / "a/freezer.self_freezing").write_text("1\n")
    (tmp_path / "a/t/freezer.self_freezing").write_text("0\n")
    (tmp_path / "a/t/freezer.state").write_text("THAWED\n")
    (tmp_path / "a/t/inner/freezer.state").write_text("FROZEN\n")
    said: list[str] = []
    monkeypatch.setattr("tare.runners.container.cgroup.v1.kill", lambda _pids, where, _rescue: said.append(where))
    group = cgroups.V1("a/t", Layout("v1", {"freezer": str(tmp_path)}, (str(tmp_path),), None), ("freezer",))
    group.kill()
    assert (tmp_path / "a/t/inner/freezer.state").read_text() == "THAWED\n"
    assert group.frozen_by() == "/a"
    assert said == ["/a (frozen)"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ""),
        ({"a": "0"}, ""),
        ({"a": "1"}, "/a"),
        ({"a": "0", "a/b": "0", "a/b/c": "1"}, "/a/b/c"),
        ({"a": "0", "a/b": "1", "a/b/c": "1"}, "/a/b"),
    ],
)
def test_which_cgroup_was_frozen(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    for path, text in files.items():
        fake(tmp_path / path)
        for name in ("freezer.self_freezing", "cgroup.freeze"):
            (tmp_path / path / name).write_text(f"{text}\n")
    where = str(tmp_path)
    assert cgroups.V1("a/b/c", Layout("v1", {"freezer": where}, (where,), None)).frozen_by() == expected
    assert cgroups.V2("a/b/c", Layout("v2", {}, (), where)).frozen_by() == expected
    assert cgroups.V1("a/b/c", Layout("v1", {"memory": where}, (where,), None)).frozen_by() == ""


@pytest.mark.parametrize(("state", "frozen"), [("THAWED", False), ("FROZEN", True), ("FREEZING", True)])
def test_who_enters_a_freezing_cgroup_is_stopped_too(tmp_path: Path, state: str, *, frozen: bool) -> None:
    fake(tmp_path / "t")
    (tmp_path / "t/freezer.state").write_text(f"{state}\n")
    layout = Layout("v1", {"freezer": str(tmp_path)}, (str(tmp_path),), None)
    assert cgroups.V1("t", layout).frozen() is frozen


def test_killing_asks_for_help_once_and_then_gives_up_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of somebody who does not die, as in a frozen cgroup: this process, to whom no signal is sent."""
    monkeypatch.setattr(hierarchies, "_FIRST_MS", 1)
    monkeypatch.setattr(hierarchies, "_DEATH_MS", 5)
    monkeypatch.setattr(hierarchies, "_kill_some", lambda _pids, _deadline: time.sleep(0.002))
    helped: list[list[int]] = []
    with pytest.raises(OSError, match=rf"processes survive SIGKILL: {os.getpid()} \(.*, state [RS]\)") as caught:
        hierarchies.kill(lambda: frozenset({os.getpid()}), "/t", lambda pids: helped.append(list(pids)))
    assert (caught.value.filename, helped) == ("/t", [[os.getpid()]])


def test_more_processes_than_descriptors_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierarchies, "_AT_ONCE", 2)
    children = [os.fork() or os.execv("/bin/sleep", ["sleep", "1000"]) for _ in range(5)]
    alive = set(children)

    def left() -> frozenset[int]:
        alive.difference_update({pid for pid in set(alive) if os.waitpid(pid, os.WNOHANG)[0]})
        return frozenset(alive)

    hierarchies.kill(left, "/t")
    assert not alive


@pytest.mark.parametrize("path", ["system.slice:tare:one", "tare-ü/ß", "a:b"])
def test_names_of_any_letters_are_paths(path: str) -> None:
    assert cgroups.place(path, "unused") == path


def test_what_bears_a_name_where_no_hierarchy_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of crun: directories with ordinary files, beside the hierarchies. Links and other names are none of it."""
    fake(tmp_path / "hugetlb/tare-1/load/i3", "cgroup.procs")
    fake(tmp_path / "hugetlb/other", "cgroup.procs")
    fake(tmp_path / "rdma/tare-0")
    fake(tmp_path / "rdma", "tare-file")
    (tmp_path / "rdma/tare-link").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "hugetlb")
    monkeypatch.setattr(cgroups, "layout", lambda: hierarchies.parse(""))
    found = [str(tmp_path / "hugetlb/tare-1"), str(tmp_path / "rdma/tare-0")]
    assert cgroups.strays("tare-", str(tmp_path)) == found
    assert cgroups.strays("tare-", str(tmp_path / "gone")) == []
    monkeypatch.setattr(cgroups, "layout", lambda: Layout("v2", {}, (), str(tmp_path)))
    assert cgroups.strays("tare-", str(tmp_path)) == []
