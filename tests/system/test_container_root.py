"""The root of the warm helper's containers, with every capability in hand: no way leads from it to the host's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runners.container import syscalls
from runners.container.kernel import Kernel
from runners.container.root_layer import EnterLayer, Layer, StandApart
from tests.conftest import require

#: Above "/", more often than any path here is deep.
UP = "/".join([".."] * 40)


@pytest.fixture
def place() -> Iterator[Path]:
    require("root", os.geteuid() == 0, "not root")
    place = Path("/tmp", f"tare-root-test-{os.getpid()}")
    for name in ("base", "lower/inside", "lower/proc"):
        (place / name).mkdir(parents=True)
    yield place
    shutil.rmtree(place)


def told_by(action: Callable[[], list[str]]) -> list[str]:
    """What *action* returns in a child of ours, or the error that it raises."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writer, "\n".join(action()).encode())
        except OSError as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read().splitlines()
    os.waitpid(pid, 0)
    return said


def apart(place: Path) -> None:
    """What the helper does once."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    StandApart(os.fspath(place / "base")).apply(Kernel())


def inside(place: Path) -> None:
    """What a child of it does, with a namespace of its own."""
    apart(place)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    base = os.fspath(place / "base")
    Layer(os.fspath(place / "lower"), base).apply(Kernel())
    EnterLayer(f"{base}/m").apply(Kernel())


def seen() -> list[str]:
    return sorted(os.listdir("/"))


def test_paths_of_the_helper_are_the_hosts(place: Path) -> None:
    def look() -> list[str]:
        apart(place)
        return [*sorted(os.listdir(place)), *sorted(os.listdir("."))]

    assert told_by(look) == ["base", "lower", "host"]
    assert not os.path.ismount(place / "base")


def test_only_the_layer_is_seen(place: Path) -> None:
    def look() -> list[str]:
        inside(place)
        syscalls.mount("proc", "/proc", "proc", 0)
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return [os.fspath(Path.cwd()), *seen(), *(line.split()[4] for line in mounts)]

    assert told_by(look) == ["/", "inside", "proc", "/", "/proc"]


def test_a_chroot_is_left_for_the_layer_only(place: Path) -> None:
    def climb() -> list[str]:
        inside(place)
        top = os.open("/", os.O_PATH)
        os.chroot("inside")
        os.fchdir(top)
        os.chroot(UP)
        return seen()

    assert told_by(climb) == ["inside", "proc"]


def test_who_enters_the_namespace_anew_is_in_the_layer(place: Path) -> None:
    """As tare-oci exec and nsenter do."""

    def enter() -> list[str]:
        inside(place)
        syscalls.mount("proc", "/proc", "proc", 0)
        namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        os.chroot("inside")
        syscalls.setns(namespace, syscalls.CLONE_NEWNS)
        return [os.fspath(Path.cwd()), *seen()]

    assert told_by(enter) == ["/", "inside", "proc"]


def test_below_the_layer_is_nothing(place: Path) -> None:
    """Whoever may unmount (CAP_SYS_ADMIN) finds the empty root, read-only: no host, no layers of others."""

    def unmount() -> list[str]:
        inside(place)
        syscalls.mount("proc", "/proc", "proc", 0)
        namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        syscalls.umount2("/", syscalls.MNT_DETACH)
        syscalls.setns(namespace, syscalls.CLONE_NEWNS)
        found = [f"{directory}: {names} {files}" for directory, names, files in os.walk("/")]
        try:
            Path("/made").mkdir()
        except OSError as error:
            found.append(error.strerror or "")
        return found

    assert told_by(unmount) == ["/: ['host'] []", "/host: [] []", "Read-only file system"]


def test_a_user_namespace_can_be_made_as_in_any_root(place: Path) -> None:
    """The kernel refuses one to who stands in a chroot (user_namespaces(7), EPERM): this is none."""

    def make() -> list[str]:
        inside(place)
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        return seen()

    assert told_by(make) == ["inside", "proc"]
