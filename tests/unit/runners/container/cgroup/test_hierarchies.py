"""What is done to cgroup directories, on ordinary ones: rmdir refuses what is not empty there, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tare.runners.container.cgroup import hierarchies
from tare.runners.container.setup.steps import without_pivot
from tare.runners.container.warm import leftovers


def test_directories_that_are_empty_or_gone_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert hierarchies.removed([str(tmp_path / "a"), str(tmp_path / "never")])
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_in_use_stays_and_is_said(tmp_path: Path) -> None:
    (tmp_path / "busy" / "child").mkdir(parents=True)
    assert not hierarchies.removed([str(tmp_path / "busy")])
    assert (tmp_path / "busy" / "child").is_dir()


def test_a_long_file_is_read_whole_and_odd_bytes_come_back(tmp_path: Path) -> None:
    content = b"x" * 200_000 + b"\xff\n"
    (tmp_path / "long").write_bytes(content)
    assert hierarchies.read(str(tmp_path / "long")).encode(errors="surrogateescape") == content


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        hierarchies.read(str(tmp_path))
    assert caught.value.filename == str(tmp_path)


def _line(number: int, parent: int, root: str, point: str, kind: str = "cgroup", words: str = "rw,memory") -> str:
    return f"{number} {parent} 0:{number} {root} {point} rw,relatime - {kind} {kind} {words}\n"


ROOT = _line(1, 0, "/", "/", "ext4") + _line(2, 1, "/", "/sys/fs/cgroup", "tmpfs")


@pytest.mark.parametrize(
    ("lines", "own", "chosen"),
    [
        # A part of the hierarchy is bound first, as an engine does it that prepares a container.
        (_line(3, 1, "/docker/a", "/srv/a") + _line(4, 2, "/", "/sys/fs/cgroup/memory"), "", "/sys/fs/cgroup/memory"),
        (_line(3, 1, "/a", "/first") + _line(4, 1, "/b", "/second") + _line(5, 1, "/", "/third"), "/b", "/third"),
        # In a container without a cgroup namespace there is only its own part, and maybe others.
        (_line(3, 2, "/docker/a", "/sys/fs/cgroup/memory"), "/docker/a", "/sys/fs/cgroup/memory"),
        (_line(3, 1, "/docker/b", "/b") + _line(4, 1, "/docker/a", "/a"), "/docker/a", "/a"),
        (_line(3, 1, "/docker/ab", "/b") + _line(4, 1, "/docker/a", "/a"), "/docker/a/inner", "/a"),
        (_line(3, 1, "/docker", "/whole") + _line(4, 1, "/docker/a", "/a"), "/docker/a", "/whole"),
        # In a cgroup namespace: "/" is where it begins, and the host's mounts show what lies above.
        (_line(3, 1, "/..", "/host") + _line(4, 1, "/", "/own"), "/", "/own"),
        (_line(3, 1, "/../beside", "/beside") + _line(4, 1, "/../..", "/host"), "/", "/host"),
        (_line(3, 1, "/..", "/near") + _line(4, 1, "/../..", "/far"), "/../../moved", "/far"),
        # One of a cgroup that was removed, and the second of two of the whole.
        (_line(3, 1, "/a//deleted", "/gone") + _line(4, 1, "/a", "/there"), "/a", "/there"),
        (_line(3, 1, "/", "/one") + _line(4, 1, "/", "/two"), "", "/one"),
        # None shows our own: the first, as ever.
        (_line(3, 1, "/a", "/a") + _line(4, 1, "/b", "/b"), "/c", "/a"),
        # What another mount covers leads elsewhere: the same point, or one above it.
        (_line(3, 1, "/", "/m") + _line(4, 3, "/", "/m", "tmpfs") + _line(5, 1, "/", "/two"), "", "/two"),
        (_line(3, 1, "/", "/over/m") + _line(4, 1, "/", "/over", "tmpfs") + _line(5, 1, "/", "/two"), "", "/two"),
        (_line(3, 1, "/part", "/m") + _line(4, 3, "/", "/m"), "", "/m"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_the_mount_that_shows_all_or_our_own_is_used(version: int, lines: str, own: str, chosen: str) -> None:
    if version == 2:
        lines = lines.replace("- cgroup cgroup rw,memory", "- cgroup2 cgroup2 rw")
    layout = hierarchies.parse(ROOT + lines, lambda: f"9:pids:/other\n4:memory:{own}\n0::{own}\n")
    assert (layout.v1.get("memory") or layout.v2) == chosen


def test_a_hierarchy_that_is_covered_is_not_there() -> None:
    text = ROOT + _line(3, 2, "/", "/sys/fs/cgroup/memory") + _line(4, 2, "/", "/sys/fs/cgroup", "tmpfs", "rw")
    assert hierarchies.parse(text).mode == "none"


def test_below_a_chroot_paths_begin_at_more_than_one_mount() -> None:
    text = _line(3, 90, "/", "/sys/fs/cgroup/memory") + _line(4, 91, "/", "/proc", "proc", "rw")
    assert hierarchies.parse(text).v1 == {"memory": "/sys/fs/cgroup/memory"}


def test_a_mount_that_is_its_own_parent() -> None:
    text = _line(1, 1, "/", "/", "rootfs", "rw") + _line(3, 1, "/", "/m")
    assert hierarchies.parse(text).v1 == {"memory": "/m"}


def test_the_own_cgroup_is_asked_for_only_where_no_mount_shows_all() -> None:
    def never() -> str:
        raise AssertionError("not needed")

    hierarchies.parse(ROOT + _line(3, 1, "/a", "/a") + _line(4, 1, "/", "/all"), never)


def test_where_a_cgroup_is_in_a_mount_of_a_part() -> None:
    whole = hierarchies.Layout("v1", {}, ("/m",), None)
    part = hierarchies.Layout("v1", {}, ("/m",), None, (("/m", "/a/b"),))
    above = hierarchies.Layout("v1", {}, ("/m",), None, (("/m", "/../.."),))
    assert whole.below("/m", "/c/d") == part.below("/m", "/a/b/c/d") == "c/d"
    assert part.below("/m", "/a/b") == whole.below("/m", "/") == ""
    assert part.below("/m", "/c/d") == part.below("/m", "/a/bc") == above.below("/m", "/c/d") == ""


@pytest.mark.parametrize("end", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_a_mount_point_may_hold_what_looks_like_the_end_of_a_line(end: str) -> None:
    """The kernel writes nothing but space, tab, newline and backslash in another way (proc(5))."""
    forged = _line(9, 1, "/", "/evil").rstrip("\n")
    text = ROOT + _line(5, 1, "/", f"/x{end}{forged}{end}y", "ext4") + _line(3, 1, "/", f"/one{end}two")
    assert hierarchies.parse(text).v1 == {"memory": f"/one{end}two"}
    assert without_pivot.whole(ROOT + _line(3, 1, "/", f"/p{end}roc", "proc"), "/own") == [f"/p{end}roc"]
    assert leftovers.mounts(ROOT + _line(3, 1, "/", f"/x{end}y")) == []


def test_the_layout_is_read_anew_where_it_may_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"/proc/self/mountinfo": ROOT + _line(3, 1, "/", "/one"), "/proc/self/cgroup": "4:memory:/a\n"}
    monkeypatch.setattr(hierarchies, "read", texts.__getitem__)
    assert hierarchies.layout() is hierarchies.layout()
    assert hierarchies.layout().v1 == {"memory": "/one"}
    texts["/proc/self/mountinfo"] = ROOT + _line(3, 1, "/a", "/a") + _line(4, 1, "/b", "/b")
    assert hierarchies.layout().v1 == {"memory": "/a"}
    texts["/proc/self/cgroup"] = "4:memory:/b\n"
    assert hierarchies.layout().v1 == {"memory": "/b"}
