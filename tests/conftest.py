"""What all tests share: markers by directory, skips that can be forced, waiting without sleeping blindly.

Markers follow the directory: a test below ``tests/system`` is ``system``, and so on; a test need not say it again.

A long proof is marked ``proof``: a further seed of a random test, a thousand simulated runs, a run beside hogs of every
processor. It is left out unless ``--proofs`` is given (``nox -s proofs``; each night).

A test that needs something of the host asks for it by name::

    require("kvm", os.access("/dev/kvm", os.R_OK | os.W_OK), "/dev/kvm cannot be opened")

Where it is missing the test is skipped, and the reason says how to force it. ``TARE_REQUIRE=kvm,userns`` (or ``all``)
turns those skips into failures: a machine that should have a thing then cannot pass silently without it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

TESTS = Path(__file__).parent

#: Directories of tests/ that are markers too (declared in pyproject.toml).
KINDS = ("unit", "conformance", "oci", "escape", "system", "browser", "calibration", "speed")

#: Every name that a test may require, with what it stands for. A name that is not here is a mistake in the test.
REQUIREMENTS = {
    "binutils": "GNU as for both processors that the runtime has a program for",
    "browser": "a Chromium that starts headless",
    "busybox": "a busybox that needs no libraries",
    "bwrap": "bubblewrap, and a user who may make namespaces with it",
    "cgroups": "the right to make cgroups",
    "cloud-hypervisor": "Cloud Hypervisor, and the KVM that it needs",
    "clang": "clang, to see what it says of our C files",
    "containerd": "containerd and ctr, the daemon started by the test itself",
    "crun": "crun, and a cgroup layout that it accepts",
    "detached": "a kernel whose overlayfs takes a mount that is in no namespace (Linux 6.15)",
    "docker": "dockerd, started by the test itself",
    "firecracker": "Firecracker, and the KVM that it needs",
    "gcc": "gcc",
    "hyperfine": "hyperfine, of the package of that name",
    "idmap": "a file system whose mounts can be mapped to other ids",
    "ksm": "samepage merging, and the right to turn it on",
    "kvm": "hardware acceleration that a Linux guest gets through",
    "latin": "a locale that is not UTF-8 (apt-get install locales)",
    "libvirt": "libvirt-python with the QEMU driver",
    "machine": "what makes the disk of a machine (mtools, dosfstools, syslinux, fdisk), and qemu-img",
    "mmdebstrap": "mmdebstrap, and packages that apt reaches",
    "memory": "5 GiB of memory that are available",
    "lxc": "LXC's programs (lxc)",
    "nspawn": "systemd-nspawn (systemd-container)",
    "nat": "nft or iptables",
    "podman": "podman and conmon",
    "processors": "two processors or more",
    "qemu": "qemu-system for this architecture",
    "reachable": "a checkout that another user can read",
    "root": "the privileges of root",
    "runc": "runc",
    "runsc": "gVisor's runsc",
    "strace": "strace, to end a program at any of its system calls",
    "uml": "user-mode Linux (user-mode-linux)",
    "userns": "user namespaces for this user",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--proofs``: the long proofs, and nothing else."""
    parser.addoption("--proofs", action="store_true", help="run the long proofs, and no other test")


def pytest_configure(config: pytest.Config) -> None:
    """Signals that a caller ignores (nohup, a shell's &) are not ignored by what tests start: handlers end with exec.

    A misspelt TARE_REQUIRE would require nothing: refuse it before any test runs.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    unknown = forced() - REQUIREMENTS.keys() - {"all"}
    if unknown:
        known = ", ".join(REQUIREMENTS)
        raise pytest.UsageError(f"TARE_REQUIRE names unknown {', '.join(sorted(unknown))}; known: {known}, all")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with its directory, and part the long proofs from the others."""
    for item in items:
        if not item.path.is_relative_to(TESTS):
            continue
        kind = item.path.relative_to(TESTS).parts[0]
        if kind in KINDS:
            item.add_marker(kind)
    asked = bool(config.getoption("--proofs"))
    left_out = [item for item in items if (item.get_closest_marker("proof") is not None) is not asked]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def first(count: int, values: Iterable[T]) -> list[object]:
    """The parameters *values* of a test: the first *count* are in every run, the others are long proofs."""
    return [value if n < count else pytest.param(value, marks=pytest.mark.proof) for n, value in enumerate(values)]


@pytest.fixture(scope="session", autouse=True)
def _ends_what_was_kept_warm() -> Iterator[None]:
    """Before coverage is summed up, which is before this process ends."""
    yield
    if "tests.warm" in sys.modules:
        sys.modules["tests.warm"].end()


def forced() -> frozenset[str]:
    """The names in TARE_REQUIRE."""
    return frozenset(name.strip() for name in os.environ.get("TARE_REQUIRE", "").split(",") if name.strip())


def require(name: str, ok: object, reason: str) -> None:
    """Go on if *ok*; otherwise skip the test, or fail it where TARE_REQUIRE lists *name*.

    *reason* says what was found missing, with the path or the command in it.
    """
    if name not in REQUIREMENTS:
        raise ValueError(f"{name!r} is no requirement; known: {', '.join(REQUIREMENTS)}")
    if ok:
        return
    if forced() & {name, "all"}:
        pytest.fail(f"{name} is required by TARE_REQUIRE, and missing: {reason}", pytrace=False)
    pytest.skip(f"needs {REQUIREMENTS[name]}: {reason} (TARE_REQUIRE={name} makes this a failure)")


def wait_until(fn: Callable[[], T], deadline_s: float, *, what: str = "") -> T:
    """Call *fn* until its answer is true, and return that answer; fail the test after *deadline_s* seconds.

    For conditions that the kernel gives no event for (a process gone from a cgroup, a file written by another process).
    """
    end_ns = time.monotonic_ns() + int(deadline_s * 1e9)
    pause_s = 0.001
    while True:
        answer = fn()
        if answer:
            return answer
        if time.monotonic_ns() > end_ns:
            pytest.fail(f"{what or getattr(fn, '__name__', 'the condition')} did not come true in {deadline_s:g} s")
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)
