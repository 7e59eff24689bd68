"""podman with our runtime: ``podman --runtime tare-oci run ...``, as root and as an ordinary user.

``OCI_RUNTIME=runc`` makes it the control.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import require
from tests.oci import leftovers, rootless, runtimes
from tests.oci.harness import ENVIRONMENT, OURS, Runtime
from tests.system.engines import IMAGE, Engine, EngineContract, LimitsContract, image

RUNTIMES = os.environ.get("OCI_RUNTIME", OURS).split(",")


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runtimes.compiled(Path(runtimes.__file__).with_name("inside.c"), tmp_path_factory.mktemp("programs"))


@contextmanager
def directory() -> Iterator[Path]:
    """A directory for all that an engine keeps. Short: sockets below it have names of 108 bytes at most."""
    for name in ("podman", "conmon"):
        require("podman", shutil.which(name), f"no {name} on PATH")
    made = Path("/tmp", f"tare-podman-{secrets.token_hex(3)}")
    made.mkdir()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def command(place: Path, runtime: Runtime) -> tuple[str, ...]:
    """podman with its directories below *place*."""
    return (
        "podman",
        *("--root", os.fspath(place / "root"), "--runroot", os.fspath(place / "run")),
        *("--tmpdir", os.fspath(place / "tmp"), "--storage-driver", "vfs", "--events-backend", "file"),
        *("--cgroup-manager", "cgroupfs", "--runtime", runtime.binary),
    )


@contextmanager
def filled(engine: Engine, inside: Path) -> Iterator[Engine]:
    """*engine* with the tests' image; at the end it has no container."""
    archive = image(engine.cwd, inside)
    os.chown(archive, engine.uid, engine.uid)
    try:
        done = engine.call("import", os.fspath(archive), IMAGE)
        require("podman", done.returncode == 0, f"podman import: {done.stderr.strip()}")
        yield engine
    finally:
        engine.call("rm", "--all", "--force", "--time", "0")


@pytest.fixture(scope="module", params=RUNTIMES)
def as_root(request: pytest.FixtureRequest, inside: Path) -> Iterator[Engine]:
    runtime = runtimes.usable(str(request.param), inside)
    with directory() as place:
        made = Engine(
            command=command(place, runtime),
            # podman asks for limits above this host's, which takes CAP_SYS_RESOURCE.
            run_options=("--network", "none", "--ulimit", "nofile=1000:1000", "--ulimit", "nproc=4000:4000"),
            word=place.name,
            cwd=place,
        )
        with filled(made, inside):
            yield made


@pytest.fixture(scope="module", params=RUNTIMES)
def as_user(request: pytest.FixtureRequest, inside: Path) -> Iterator[Engine]:
    rootless.require_namespaces()
    runtime = runtimes.usable(str(request.param), inside)
    with directory() as place:
        for name in ("mine", "mine/xdg"):
            (place / name).mkdir(mode=0o700)
        if runtime.ours:
            runtime = rootless.readable(place / "program")
        rootless.give(place / "mine")
        prefix = rootless.granted(place, ["200000:65536"])
        made = Engine(
            command=(*prefix, *command(place / "mine", runtime)),
            run_options=("--network", "none", "--ulimit", "host"),
            word=place.name,
            cwd=place,
            environment={
                **ENVIRONMENT,
                "HOME": os.fspath(place / "home"),
                "XDG_RUNTIME_DIR": os.fspath(place / "mine" / "xdg"),
            },
            uid=rootless.USER,
        )
        try:
            with filled(made, inside):
                yield made
        finally:
            # What only root of the user's namespace may remove; then the process that keeps it for the next call.
            made.call("unshare", "rm", "-rf", os.fspath(place / "mine" / "root"))
            made.call("system", "migrate")
            assert leftovers.settled(lambda: [said for _, said in leftovers.processes(made.word)]) == []


class TestPodman(EngineContract, LimitsContract):
    """Every test of both contracts."""

    @pytest.fixture
    def engine(self, as_root: Engine) -> Engine:
        return as_root


class TestRootlessPodman(EngineContract):
    """The same by an ordinary user: podman makes a user namespace, and the runtime is root in that alone."""

    @pytest.fixture
    def engine(self, as_user: Engine) -> Engine:
        return as_user

    def test_it_is_the_user_outside(self, engine: Engine) -> None:
        """Root inside is the user, others are ids of his: what podman's namespace says, for the runtime makes none."""
        name = engine.start("echo hello; exec sleep 1000", "--user", "5:6")
        engine.until(name, "hello")
        status = Path(f"/proc/{engine.inspect(name, '{{.State.Pid}}')}/status").read_text()
        assert "\nUid:\t200004\t" in status
        assert "\nGid:\t200005\t" in status
        engine.remove(name)

    def test_devices_are_the_hosts(self, engine: Engine) -> None:
        """mknod(2) would fail in that namespace; and no other device is there."""
        script = "head -c 3 /dev/zero | wc -c; echo x > /dev/null && echo ok; find /dev -type c -o -type b | sort"
        devices = [f"/dev/{name}" for name in ("full", "null", "pts/ptmx", "random", "tty", "urandom", "zero")]
        lines = engine.run("/bin/sh", "-c", script).stdout.splitlines()
        assert lines == ["3", "ok", *devices]

    def test_it_cannot_change_the_host(self, engine: Engine) -> None:
        options = ("--volume", "/etc:/host-etc")
        done = engine.run("/bin/sh", "-c", "echo x > /host-etc/tare-made; cat /host-etc/shadow", options=options)
        assert done.stderr.count("Permission denied") == 2
        assert not Path("/etc/tare-made").exists()

    def test_other_cgroups_are_not_shown(self, engine: Engine) -> None:
        """Without a cgroup namespace the container sees its own cgroup of each hierarchy, not all of them."""
        done = engine.run("/bin/grep", " - cgroup", "/proc/self/mountinfo")
        own = Path("/proc/self/cgroup").read_text().splitlines()
        paths = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in own}
        for line in done.stdout.splitlines():
            controllers = line.rsplit(" rw,", 1)[1]
            assert line.split(" ")[3] == paths.get(controllers, "/"), line
