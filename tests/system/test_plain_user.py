"""The first run of a user who is not root: a real one, made here and removed again.

The user is shown this checkout, wherever it is, and its environment. With ``TARE_FIRST_RUN=clone`` (``nox -s
first_run``) it is a clone of their own, in which ``./bootstrap setup`` runs first, as the README says: that takes
minutes, and a package index.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tare.bench.host import workspace
from tare.bench.records import store
from tare.runners.container.cgroup import cgroups
from tare.runners.image.cache import cache_dir
from tare.runners.vm import backend
from tests import cli, users
from tests.conftest import require
from tests.workloads import scenario

CLONED = os.environ.get("TARE_FIRST_RUN") == "clone"
#: In a mount namespace of its own: a checkout below a directory that is root's alone can then be read, too.
AS_USER = """
set -e
mount --bind "$1" "$2"
cd -- "$2"
user=$3
shift 3
exec setpriv --reuid "$user" --regid "$user" --init-groups --reset-env -- env "$@"
"""


@dataclass(frozen=True, slots=True)
class User:
    """A user of this host, who finds *checkout* in the home directory."""

    name: str
    uid: int
    home: Path

    @property
    def checkout(self) -> Path:
        return self.home / "tare"

    def run(self, *command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run *command* as this user, in the checkout; nothing of the caller's environment is handed on."""
        shown = self.checkout if CLONED else cli.ROOT
        given = [f"{name}={value}" for name, value in env.items()]
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", AS_USER, "sh"]
        return subprocess.run(
            [*words, shown, self.checkout, self.name, *given, *command],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def tare(self, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        done = self.run(self.checkout / ".venv/bin/python", "-m", "tare", *words, **env)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def owned(self) -> tuple[list[str], list[Path]]:
        """The processes of this user, and what they have in the directories that all may write to."""
        return [" ".join(one.cmdline()) for one in users.processes(self.uid)], users.files(self.uid)


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    require("root", os.geteuid() == 0, "only root can make a user")
    missing = [name for name in ("useradd", "userdel", "setpriv", "unshare") if shutil.which(name) is None]
    require("root", not missing, f"not installed: {', '.join(missing)}")
    name = f"tare{secrets.token_hex(3)}"
    with users.made(name) as entry:
        user = User(name, entry.pw_uid, Path(entry.pw_dir))
        if CLONED:
            subprocess.run(["git", "-c", "safe.directory=*", "clone", "--quiet", cli.ROOT, user.checkout], check=True)
        else:
            user.checkout.mkdir()
            # What ./bootstrap setup unpacked: the guest's kernel.
            for kernel in cache_dir().glob("linux-*"):
                shutil.copytree(kernel, user.home / ".cache/tare" / kernel.name)
        subprocess.run(["chown", "--recursive", f"{name}:{entry.pw_gid}", user.home], check=True)
        yield user


@pytest.fixture(scope="module")
def ready(user: User) -> User:
    """The user, after ``./bootstrap setup``."""
    if CLONED:
        done = user.run("./bootstrap", "--no-packages", "setup")
        assert done.returncode == 0, done.stderr
    return user


@pytest.fixture(params=["no runtime directory", "runtime directory"])
def place(request: pytest.FixtureRequest, ready: User) -> dict[str, str]:
    """The environment of a login with systemd, and of one without, where short-lived files are in /tmp."""
    if request.param == "no runtime directory":
        return {}
    directory = ready.home / "runtime"
    if not directory.exists():
        directory.mkdir(mode=0o700)
        os.chown(directory, ready.uid, ready.uid)
    return {"XDG_RUNTIME_DIR": str(directory)}


def test_the_first_run_ends_well_and_leaves_nothing(ready: User, place: dict[str, str]) -> None:
    rounds = () if CLONED else ("--rounds", "2")
    done = ready.tare("run", "quick", *rounds, "--results", ready.home / "runs", **place)
    assert done.returncode == 0, done.stderr
    run = store.load(Path(done.stdout.strip()))
    assert (run.header.state, run.header.leaks) == ("complete", ())
    subjects = {subject.label: subject for subject in run.header.subject_records()}
    assert not subjects["process"].skipped
    assert "Operation not permitted" in subjects["container"].skipped
    assert subjects["container"].fix.startswith("run as root")
    support = backend.probe({}, cache_dir())
    require("qemu", support.ok, support.why)
    assert not subjects["vm"].skipped
    processes, entries = ready.owned()
    assert processes == []
    assert [entry.name for entry in entries if entry.name != "tare.lock"] == []
    assert list(ready.home.glob("runtime/tare-*")) == []


def test_the_other_verbs_end_well_too(ready: User, place: dict[str, str]) -> None:
    runs = ready.home / "runs"
    done = ready.tare("run", "quick", "--rounds", "1", "--subject", "process", "--results", runs, **place)
    assert done.returncode == 0, done.stderr
    run = done.stdout.strip()
    for words in (
        ("doctor",),
        ("report", run),
        ("list", "--runs", "--results", runs),
        ("compare", run, run),
        ("clean",),
    ):
        done = ready.tare(*words, **place)
        assert done.returncode == 0, (words, done.stderr)


def test_a_user_is_not_kept_out_by_the_lock_of_another_who_ran_before(ready: User) -> None:
    lock = Path("/tmp/tare.lock")
    before = lock.stat() if lock.exists() else None
    lock.touch()
    os.chown(lock, 65534, 65534)
    lock.chmod(0o666)  # as the first to run leaves it
    try:
        done = ready.tare("clean")
        assert done.returncode == 0, done.stderr
    finally:
        if before is None:
            lock.unlink()
        else:
            os.chown(lock, before.st_uid, before.st_gid)


def test_what_another_user_left_is_theirs_to_clean(ready: User) -> None:
    left = Path(f"/tmp/{workspace.new_prefix()}")
    left.mkdir(mode=0o700)
    group = cgroups.at(left.name)
    group.create()  # as of a run of root's that measures, or was killed
    try:
        done = ready.tare("clean")
        assert done.returncode == 0, done.stderr
        assert left.is_dir()
        assert group.path.is_dir()
    finally:
        left.rmdir()
        group.remove()


@pytest.mark.parametrize("contract", ["{ tcp = 48125 }", '{ line = "Serving" }'])
def test_a_workload_of_theirs_runs_where_no_root_is_needed(ready: User, contract: str) -> None:
    file = ready.home / "own.toml"
    subjects = {"process": "process", "bwrap": "bwrap", "container": "container"}
    file.write_text(scenario(["python3", "-u", "-m", "http.server", "48125"], contract, subjects))
    done = ready.tare("run", file, "--results", ready.home / "own")
    run = store.load(max((ready.home / "own").iterdir(), key=lambda one: one.stat().st_mtime_ns))
    assert (run.header.state, run.header.leaks) == ("complete", ())
    by_subject = {name: [one for one in run.outcomes if one.subject == name] for name in subjects}
    assert done.returncode == 0, [one.reason for one in run.outcomes]
    assert [one.status for one in by_subject["process"]] == ["ok", "ok"]
    assert [one.status for one in by_subject["container"]] == ["skipped"]
    assert by_subject["container"][0].fix.startswith("run as root")
    if by_subject["bwrap"][0].status == "skipped":
        assert "tcp" in contract or "namespace" in by_subject["bwrap"][0].reason
    else:
        assert [one.status for one in by_subject["bwrap"]] == ["ok", "ok"]
    assert ready.owned()[0] == []


def test_a_workload_of_another_user_is_refused_to_them(ready: User) -> None:
    file = ready.home / "other.toml"
    file.write_text(scenario(["true"], "{ exit = 0 }", {"process": "process"}, workload='user = "daemon"'))
    done = ready.tare("run", file, "--results", ready.home / "other")
    assert done.returncode == 3
    assert "may not become another" in done.stderr


SESSION = """
schema = 1
question = "What does a virtual machine of a user's own daemon take?"
reference = "vm"
[run]
rounds = 1
warmup = 1
timeout_s = 120
[grant]
memory_mib = 128
[[subjects]]
label = "vm"
runner = "vm"
options = { uri = "qemu:///session", accelerator = "tcg" }
"""


def test_a_machine_of_their_own_daemon_ends_well_though_that_daemon_stays(ready: User, place: dict[str, str]) -> None:
    """libvirt starts libvirtd, and that virtlogd, for a user who asks for a session: neither is a leak of the run."""
    support = backend.probe({"accelerator": "tcg"}, cache_dir())
    require("qemu", support.ok, support.why)
    file = ready.home / "session.toml"
    file.write_text(SESSION)
    try:
        done = ready.tare("run", file, "--results", ready.home / "session", **place)
        run = store.load(max((ready.home / "session").iterdir(), key=lambda one: one.stat().st_mtime_ns))
        assert [(one.status, one.reason) for one in run.outcomes if one.subject == "vm"] == [("ok", "")] * 2
        assert (run.header.state, run.header.leaks) == ("complete", ())
        assert done.returncode == 0, done.stderr
        assert not any("qemu-system" in one for one in ready.owned()[0])
    finally:
        users.end(ready.uid)
