"""The root of the warm helper's containers, with every capability in hand: no way leads from it to the host's.

Both ways to it: *apart*, with the host's mounts below the helper's root, and *alone*, without them.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tare.runners.container.linux import mount_calls, syscalls
from tare.runners.container.setup.kernel import Kernel
from tare.runners.container.warm.root_layer import (
    LAYER,
    EnterLayer,
    Layer,
    StandAlone,
    StandApart,
    can_stand_alone,
    hold,
)
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


@pytest.fixture(params=["apart", "alone"])
def inside(request: pytest.FixtureRequest, place: Path) -> Callable[[], None]:
    """To be called in a child of ours: does what a helper does once, and then what a child of it does."""
    base, lower = os.fspath(place / "base"), os.fspath(place / "lower")
    if request.param == "alone":
        require("detached", can_stand_alone(), f"Linux {platform.release()}")

    def enter() -> None:
        held = hold(lower) if request.param == "alone" else None
        own_mounts()
        kernel = Kernel()
        (StandApart(base) if held is None else StandAlone(base, held)).apply(kernel)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        layer = Layer(lower, base if held is None else LAYER, here=held is not None)
        layer.apply(kernel)
        EnterLayer(f"{layer.base}/m", held).apply(kernel)

    return enter


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


def own_mounts() -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    mount_calls.mount("none", "/", "", mount_calls.MS_REC | mount_calls.MS_SLAVE)


def seen() -> list[str]:
    return sorted(os.listdir("/"))


def test_paths_of_a_helper_that_stands_apart_are_the_hosts(place: Path) -> None:
    def look() -> list[str]:
        own_mounts()
        StandApart(os.fspath(place / "base")).apply(Kernel())
        return [*sorted(os.listdir(place)), *sorted(os.listdir("."))]

    assert told_by(look) == ["base", "lower", "below"]
    assert not os.path.ismount(place / "base")


def test_a_helper_that_stands_alone_has_an_empty_root_and_stands_in_the_image(place: Path) -> None:
    def look() -> list[str]:
        held = hold(os.fspath(place / "lower"))
        own_mounts()
        StandAlone(os.fspath(place / "base"), held).apply(Kernel())
        walked = [f"{directory}: {names} {files}" for directory, names, files in os.walk("/")]
        return [*walked, *sorted(os.listdir(".")), str(os.stat("proc/self/mounts", dir_fd=held.root).st_size)]

    assert told_by(look) == ["/: ['below'] []", "/below: [] []", "inside", "proc", "0"]
    assert not os.path.ismount(place / "base")


def test_only_the_layer_is_seen(inside: Callable[[], None]) -> None:
    def look() -> list[str]:
        inside()
        mount_calls.mount("proc", "/proc", "proc", 0)
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return [os.fspath(Path.cwd()), *seen(), *(line.split()[4] for line in mounts)]

    assert told_by(look) == ["/", "inside", "proc", "/", "/proc"]


def test_a_chroot_is_left_for_the_layer_only(inside: Callable[[], None]) -> None:
    def climb() -> list[str]:
        inside()
        top = os.open("/", os.O_PATH)
        os.chroot("inside")
        os.fchdir(top)
        os.chroot(UP)
        return seen()

    assert told_by(climb) == ["inside", "proc"]


def test_who_enters_the_namespace_anew_is_in_the_layer(inside: Callable[[], None]) -> None:
    """As tare-oci exec and nsenter do."""

    def enter() -> list[str]:
        inside()
        mount_calls.mount("proc", "/proc", "proc", 0)
        namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        os.chroot("inside")
        syscalls.setns(namespace, syscalls.CLONE_NEWNS)
        return [os.fspath(Path.cwd()), *seen()]

    assert told_by(enter) == ["/", "inside", "proc"]


def test_below_the_layer_is_nothing_of_the_host(inside: Callable[[], None], request: pytest.FixtureRequest) -> None:
    """Whoever may unmount (CAP_SYS_ADMIN) finds the empty root, read-only, and at most its own layer."""

    def unmount() -> list[str]:
        inside()
        mount_calls.mount("proc", "/proc", "proc", 0)
        Path("/own").touch()
        namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        mount_calls.umount2("/", mount_calls.MNT_DETACH)
        syscalls.setns(namespace, syscalls.CLONE_NEWNS)
        found = [f"{directory}: {sorted(names)} {files}" for directory, names, files in os.walk("/")]
        try:
            Path("/made").mkdir()
        except OSError as error:
            found.append(error.strerror or "")
        return found

    *found, last = told_by(unmount)
    assert last == "Read-only file system"
    nothing = {"/: ['below'] []", "/below: [] []"}
    own = {"/: ['below'] []", "/below: ['m', 'u', 'w'] []", "/below/m: [] []", "/below/u: [] ['own']"}
    work = {"/below/w: ['work'] []", "/below/w/work: [] []"}
    assert set(found) == (own | work if "alone" in request.node.name else nothing)


def test_a_user_namespace_can_be_made_as_in_any_root(inside: Callable[[], None]) -> None:
    """The kernel refuses one to who stands in a chroot (user_namespaces(7), EPERM): this is none."""

    def make() -> list[str]:
        inside()
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        return seen()

    assert told_by(make) == ["inside", "proc"]
