"""./bootstrap: what it would do, what it refuses, and that it does nothing twice; never run for real here.

It runs in a copy of its own, with a PATH that holds only the tools it may use and recording fakes of those that change
a system. A fake that is called writes its own argv down, so "nothing was installed" is a fact and not a belief.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

#: What Debian's essential packages bring, as far as bootstrap uses it.
TOOLS = [
    *("basename", "cat", "chmod", "cksum", "cut", "date", "dirname", "env", "grep", "head", "id", "mkdir", "mktemp"),
    *("readlink", "rm", "sed", "sh", "stat", "tail", "tr", "true", "uname", "wc"),
]

#: Everything that could change the machine.
CHANGES = ("apt-get", "dnf", "pacman", "zypper", "sudo", "groupadd", "useradd", "unshare", "mount")

#: Debian's names in bootstrap's table; QEMU stands for the package of this architecture.
TABLE = [
    line.split()[1]
    for line in re.findall(
        r"^(?:python|build|module|base|more|engines|browser) +.*$", (ROOT / "bootstrap").read_text(), re.MULTILINE
    )
]
ALL_PACKAGES = "\n".join([*TABLE, "qemu-system-x86", "qemu-system-arm"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A directory with a checkout, a PATH of fakes, and a record of what was called."""

    checkout: Path
    bin: Path
    calls: Path
    env: dict[str, str] = field(default_factory=dict)

    def fake(self, name: str, body: str = "exit 0") -> None:
        """Put a command called *name* on the PATH that records its argv and then does *body*."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>"{self.calls}"\n{body}\n')
        path.chmod(0o755)

    def run(
        self, *arguments: str, env: Mapping[str, str] = {}, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Call ./bootstrap as a user would, without a terminal."""
        return subprocess.run(
            [self.checkout / "bootstrap", *arguments],
            env={**self.env, **env},
            cwd=cwd or self.checkout,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def called(self) -> list[str]:
        """The recorded argvs, in order."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def changes(self) -> list[str]:
        """Those of them that could have changed the machine."""
        return [call for call in self.called() if call.split()[0] in CHANGES]

    def files(self) -> dict[str, tuple[int, int]]:
        """Every path below the checkout and the home directory, with its size and time of change."""
        found = {}
        for top in (self.checkout, Path(self.env["HOME"])):
            for path in sorted(top.rglob("*")):
                status = path.lstat()
                found[str(path)] = (status.st_size, status.st_mtime_ns)
        return found

    def installed(self, packages: str) -> None:
        """Let dpkg-query know these packages, and no others."""
        listed = self.bin / "installed.txt"
        listed.write_text(packages + "\n")
        self.fake("dpkg-query", f'for name; do :; done\ngrep -qxF -e "$name" "{listed}" && printf installed')


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A Debian machine that is root's, and has no package and no Python."""
    checkout = tmp_path / "a checkout; with 'odd' names"
    checkout.mkdir()
    for name in ("bootstrap", "pyproject.toml"):
        shutil.copy2(ROOT / name, checkout / name)
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool, path="/usr/bin:/bin")
        assert found, tool
        (bin_directory / tool).symlink_to(found)
    home = tmp_path / "home"
    home.mkdir()
    made = Machine(
        checkout=checkout,
        bin=bin_directory,
        calls=tmp_path / "calls.txt",
        env={"PATH": str(bin_directory), "HOME": str(home), "LC_ALL": "C", "TMPDIR": str(tmp_path)},
    )
    for name in CHANGES[1:]:
        if name not in ("dnf", "pacman", "zypper", "sudo"):
            made.fake(name)
    made.fake("apt-get")
    made.fake("getent", "exit 0")
    made.fake("pkg-config", "exit 1")
    made.installed("")
    become(made, 0)
    return made


def become(machine: Machine, uid: int) -> None:
    """Be this user, as far as id(1) tells."""
    machine.fake("id", f"case $1 in -u) echo {uid} ;; *) echo user{uid} ;; esac")


def give_python(machine: Machine) -> None:
    """A python3 that is fit, with headers; making an environment gives one that has pip and tare."""
    real = sys.executable
    fake_python = machine.bin / "python3"
    machine.fake(
        "python3",
        f"""case "$*" in
*" venv "*) for directory; do :; done
    mkdir -p "$directory/bin"
    cp_to() {{ cat "$0" >"$1" && chmod 755 "$1"; }}
    cp_to "$directory/bin/python" ;;
*pip\\ install*)
    tare="${{0%/*}}/tare"
    printf '#!/bin/sh\\necho "tare $*" >>"{machine.calls}"\\npwd\\n' >"$tare"
    chmod 755 "$tare" ;;
*Python.h*) exit 0 ;;
*cache_tag*) exec "{real}" "$@" ;;
esac
exit 0""",
    )
    assert fake_python.stat().st_mode & stat.S_IXUSR


def test_dry_run_changes_nothing_and_runs_nothing(machine: Machine) -> None:
    before = machine.files()
    done = machine.run("--dry-run")
    assert done.returncode == 0, done.stderr
    assert machine.changes() == []
    assert machine.files() == before
    assert "nothing is changed" in done.stdout
    assert "apt-get -q install -y --no-install-recommends python3 python3-venv" in done.stdout
    assert "chromium" not in done.stdout
    assert "msgspec" in done.stdout


@pytest.mark.parametrize("verb", ["demo", "test", "setup", "shell"])
def test_dry_run_takes_every_verb(machine: Machine, verb: str) -> None:
    done = machine.run("--dry-run", verb)
    assert done.returncode == 0, done.stderr
    assert ("chromium" in done.stdout) == (verb == "test")
    assert machine.changes() == []


def test_dry_run_of_run_shows_the_command(machine: Machine) -> None:
    done = machine.run("--dry-run", "run", "plan", "startup", "--seed", "7")
    assert "tare plan startup --seed 7" in done.stdout
    assert machine.changes() == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("dance",), "dance"), (("--fast", "demo"), "--fast"), (("demo", "test"), "demo and test"), ((), "no verb")],
)
def test_bad_usage_is_2_and_does_nothing(machine: Machine, arguments: tuple[str, ...], named: str) -> None:
    before = machine.files()
    done = machine.run(*arguments)
    assert done.returncode == 2
    what, why, fix = done.stderr.splitlines()
    assert named in what
    assert why.startswith("why:")
    assert fix == "fix:  ./bootstrap --help"
    assert done.stdout == ""
    assert machine.called() == []
    assert machine.files() == before


def test_help_names_every_verb_and_option(machine: Machine) -> None:
    done = machine.run("--help")
    assert done.returncode == 0
    for word in ("demo", "test", "setup", "run", "shell", "--dry-run", "--no-packages", "PYTHON", "TARE_CACHE"):
        assert word in done.stdout
    assert machine.called() == []


def test_set_up_installs_once_and_only_once(machine: Machine) -> None:
    give_python(machine)
    done = machine.run("setup")
    assert done.returncode == 0, done.stderr
    first = machine.changes()
    assert [call.split()[:3] for call in first] == [["apt-get", "-q", "update"], ["apt-get", "-q", "install"]]
    assert "--no-install-recommends" in first[1]
    assert "python3-venv" not in first[1], "a Python that is fit needs no other"
    machine.installed(ALL_PACKAGES)
    before = machine.files()
    machine.calls.unlink()
    done = machine.run("setup")
    assert done.returncode == 0, done.stderr
    assert machine.changes() == []
    assert not [call for call in machine.called() if "-m pip" in call or "-m venv" in call]
    log = str(machine.checkout / ".bootstrap.log")
    assert {path: was for path, was in machine.files().items() if path != log} == {
        path: was for path, was in before.items() if path != log
    }


def test_the_demo_needs_no_tools_of_developers(machine: Machine) -> None:
    """A bare machine: the distribution's libvirt module instead of what compiles one; no tools of the tests."""
    asked = machine.run("--dry-run", "demo").stdout
    assert "python3-libvirt" in asked
    for name in ("python3-dev", "libvirt-dev", "pkg-config", "runc", "busybox-static", "hypothesis", "mypy"):
        assert name not in asked, name
        assert name in machine.run("--dry-run", "setup").stdout, name
    assert "python3-libvirt" not in machine.run("--dry-run", "setup").stdout


def test_what_the_demo_made_is_made_whole_by_set_up_and_not_the_other_way_round(machine: Machine) -> None:
    give_python(machine)
    script = machine.checkout / "bootstrap"  # for which the fake is the distribution's Python
    script.write_text(script.read_text().replace("/usr/bin/python3", str(machine.bin / "python3")))
    machine.env["PYTHON"] = str(machine.bin / "python3")
    machine.run("demo")
    install = next(call for call in machine.changes() if " install " in call)
    machine.installed("\n".join(install.split("--no-install-recommends ")[1].split()))
    assert [call.split("--editable ")[1] for call in machine.called() if "pip install" in call] == [". --no-compile"]
    machine.calls.unlink()
    machine.run("demo")
    assert not [call for call in machine.called() if "pip install" in call], "a second demo has all it needs"
    assert machine.changes() == []
    machine.run("setup")
    assert [call for call in machine.called() if "--editable .[dev]" in call]
    machine.calls.unlink()
    machine.run("demo")
    assert not [call for call in machine.called() if "pip install" in call], "a demo takes what there is"


def test_a_changed_pyproject_is_installed_again(machine: Machine) -> None:
    give_python(machine)
    machine.installed(ALL_PACKAGES)
    assert machine.run("setup").returncode == 0
    with (machine.checkout / "pyproject.toml").open("a") as file:
        file.write("\n# changed\n")
    machine.calls.unlink()
    assert machine.run("setup").returncode == 0
    assert [call for call in machine.called() if "pip install" in call]
    assert not [call for call in machine.called() if "-m venv" in call], "the environment itself is still good"


def test_without_root_or_sudo_it_says_the_line_and_goes_on(machine: Machine) -> None:
    give_python(machine)
    become(machine, 1000)
    done = machine.run("setup")
    assert done.returncode == 0, done.stderr
    assert machine.changes() == []
    lines = [line.strip() for line in done.stderr.splitlines() if "sudo sh -c" in line]
    assert len(lines) == 1
    assert lines[0].startswith("sudo sh -c 'apt-get -q update && apt-get -q install -y")
    assert lines[0].endswith("'")
    assert [call for call in machine.called() if "pip install" in call], "it did not go on"


def test_sudo_is_used_where_it_asks_nothing(machine: Machine) -> None:
    give_python(machine)
    become(machine, 1000)
    machine.fake("sudo", 'case $1 in -*) exit 0 ;; esac\nexec "$@"')
    done = machine.run("setup")
    assert done.returncode == 0, done.stderr
    assert any(
        call.startswith("sudo env DEBIAN_FRONTEND=noninteractive apt-get -q install") for call in machine.called()
    )


def test_a_user_whom_sudo_refuses_is_one_without_it(machine: Machine) -> None:
    give_python(machine)
    become(machine, 1000)
    machine.fake("sudo", "case $1 in -n) exit 0 ;; *) exit 1 ;; esac")
    done = machine.run("setup")
    assert done.returncode == 0, done.stderr
    assert "neither root nor sudo" in done.stderr
    assert not [call for call in machine.changes() if call.startswith("apt-get")]


def test_a_dry_run_does_not_even_ask_sudo(machine: Machine) -> None:
    become(machine, 1000)
    machine.fake("sudo")
    assert "apt-get -q install" in machine.run("--dry-run").stdout
    assert machine.changes() == []


def test_a_moved_checkout_gets_a_new_environment(machine: Machine, tmp_path: Path) -> None:
    give_python(machine)
    machine.installed(ALL_PACKAGES)
    assert machine.run("setup").returncode == 0
    moved = replace(machine, checkout=machine.checkout.rename(tmp_path / "moved"))
    machine.calls.unlink()
    assert moved.run("setup").returncode == 0
    assert [call for call in machine.called() if f"-m venv --clear {moved.checkout}/.venv" in call]


def test_another_python_gets_a_new_environment(machine: Machine) -> None:
    give_python(machine)
    machine.installed(ALL_PACKAGES)
    assert machine.run("setup").returncode == 0
    machine.fake("python-other", 'case "$*" in *cache_tag*) echo other 3.99 ;; *) exec python3 "$@" ;; esac')
    assert machine.run("setup", env={"PYTHON": "python-other"}).returncode == 0
    assert [call for call in machine.called() if call.startswith("python-other -m venv --clear")]


def test_no_packages_leaves_the_system_alone(machine: Machine) -> None:
    give_python(machine)
    done = machine.run("--no-packages", "setup")
    assert done.returncode == 0, done.stderr
    assert machine.changes() == []
    assert "left alone" in done.stderr


def test_a_package_manager_that_fails_is_quoted(machine: Machine) -> None:
    give_python(machine)
    machine.fake("apt-get", 'case "$*" in *install*) echo "E: the mirror is on fire"; exit 100 ;; esac')
    done = machine.run("setup")
    assert done.returncode == 1
    assert "E: the mirror is on fire" in done.stderr
    what, why, fix = done.stderr.splitlines()[-3:]
    assert what.startswith("what: apt-get -q install")
    assert str(machine.checkout / ".bootstrap.log") in why
    assert "--no-packages" in fix
    assert not [call for call in machine.called() if "pip install" in call]


def test_no_python_is_6_and_says_what_to_do(machine: Machine) -> None:
    done = machine.run("setup")
    assert done.returncode == 6
    assert done.stderr.splitlines()[-1].startswith("fix:  install python3, python3-venv")


def test_a_bad_PYTHON_is_refused(machine: Machine) -> None:  # noqa: N802 - the variable's name
    machine.fake("python2", "exit 1")
    done = machine.run("setup", env={"PYTHON": "python2"})
    assert done.returncode == 2
    assert "PYTHON=python2" in done.stderr
    assert machine.changes() == []


def test_missing_virtual_machines_are_never_silent(machine: Machine) -> None:
    give_python(machine)
    machine.installed(ALL_PACKAGES)
    for _ in range(2):  # nor is a second run, which does nothing
        assert "NO VIRTUAL MACHINES: libvirt's headers are not there" in machine.run("setup").stderr
    assert not [call for call in machine.called() if "pip install" in call and "vm" in call]


def test_headers_that_arrive_later_bring_virtual_machines(machine: Machine) -> None:
    give_python(machine)
    machine.installed(ALL_PACKAGES)
    machine.run("setup")
    machine.fake("pkg-config", "exit 0")
    done = machine.run("setup")
    assert "NO VIRTUAL MACHINES" not in done.stderr
    assert [call for call in machine.called() if "--editable .[vm,dev]" in call]
    assert [call for call in machine.called() if "-m tare.runners.image.kernel" in call]


def test_libvirts_user_is_made_where_no_package_makes_it(machine: Machine) -> None:
    give_python(machine)
    machine.installed(ALL_PACKAGES)
    machine.fake("getent", "exit 2")
    assert machine.run("setup").returncode == 0
    assert [call.split()[0] for call in machine.changes()] == ["groupadd", "groupadd", "useradd"]


def test_run_passes_its_arguments_and_keeps_the_callers_directory(machine: Machine, tmp_path: Path) -> None:
    give_python(machine)
    machine.installed(ALL_PACKAGES)
    done = machine.run("run", "plan", "--json", "my scenario.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tare plan --json my scenario.toml" in machine.called()
    assert done.stdout == f"{tmp_path}\n", "standard output is tare's alone"


@pytest.mark.parametrize(
    ("manager", "query", "name"),
    [("dnf", "rpm", "libvirt-devel"), ("pacman", "pacman", "qemu-base"), ("zypper", "rpm", "qemu-x86")],
)
def test_other_managers_have_names_marked_untested(machine: Machine, manager: str, query: str, name: str) -> None:
    (machine.bin / "apt-get").unlink()
    machine.fake(query, "exit 1")
    machine.fake(manager, "exit 1")
    done = machine.run("--dry-run")
    assert done.returncode == 0, done.stderr
    assert f" {name} " in done.stdout
    assert "untested" in done.stdout
    assert "QEMU" not in done.stdout
    assert " - " not in done.stdout


def test_only_a_browser_that_starts_counts(machine: Machine) -> None:
    machine.fake("chromium-browser", "echo 'needs the snap' >&2; exit 1")
    assert "chromium" in machine.run("--dry-run", "test").stdout
    machine.fake("google-chrome")
    assert "chromium" not in machine.run("--dry-run", "test").stdout


def test_engines_are_for_the_tests_alone(machine: Machine) -> None:
    assert "podman" in machine.run("--dry-run", "test").stdout
    for verb in ("demo", "setup", "shell"):
        assert "podman" not in machine.run("--dry-run", verb).stdout


def test_it_never_names_a_kernel() -> None:
    assert not [name for name in TABLE if name.startswith("linux-")]


def test_docs_list_the_packages_that_bootstrap_installs() -> None:
    page = (ROOT / "docs" / "how-to" / "install.md").read_text()
    assert [name for name in TABLE if name != "QEMU" and f"`{name}`" not in page] == []


@pytest.mark.skipif(not shutil.which("dash"), reason="needs dash, Debian's sh")
def test_it_is_plain_sh() -> None:
    done = subprocess.run(["dash", "-n", ROOT / "bootstrap"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck: apt-get install shellcheck")
def test_shellcheck_has_nothing_to_say() -> None:
    done = subprocess.run(
        ["shellcheck", ROOT / "bootstrap", ROOT / ".ci" / "run"], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


def test_it_can_be_executed() -> None:
    assert os.access(ROOT / "bootstrap", os.X_OK)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
