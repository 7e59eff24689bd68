"""Sessions of tare; `nox` alone runs lint, types, unit and conformance.

::

    lint         ruff: rules and format; import-linter: who may import whom
    types        mypy --strict, tests included
    fast         the unit tests that take no time: under a minute, without root, libvirt or a C compiler
    unit         tests without privilege or clock, as many at once as there are processors
    conformance  every runner against the one contract
    oci          one suite for crun, runc and our runtime; OCI_RUNTIME names others (./bootstrap test: ours alone)
    escape       known ways out of a container, on ours and on runc
    fuzz         ten minutes (TARE_FUZZ_S) of changed configurations and of SIGKILL at every step
    system       real engines and virtual machines; as root for all of it
    proofs       the long proofs: more seeds of the random tests, thousands of simulated runs, runs beside hogs of every
                 processor; on a quiet machine, as root
    first_run    a user made for it clones this checkout, sets it up and runs the demo; as root, with a package index
    interrupts   200 runs of the demo and 200 ascents, each interrupted at a random moment (TARE_INTERRUPTS); as root
    browser      a headless Chromium reads a report
    tests        all of it, with the coverage of bench/, runners/ and reports/ against the floor of each
    calibrate    the scale weighs itself: A/A over 20 seeds, known delays; many minutes, on a quiet machine
    bench        how fast tare's own code is (pytest-benchmark); with `runtime`, each container runtime against the
                 kernel's floor, then a thousand containers; as root
    samples      the sample reports of the documentation, measured anew, and the README's pictures; as root
    docs         the documentation as a site, in site/, built strictly; and the tests that hold it to the code

Arguments after ``--`` go to pytest: ``nox -s unit -- -k stats``.

A session makes an environment of its own and installs the project into it. With ``nox --no-venv`` (or
``NOX_DEFAULT_VENV_BACKEND=none``) it uses the one that nox runs in and installs nothing: so does ``./bootstrap test``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "unit", "conformance"]
nox.options.reuse_existing_virtualenvs = True

#: Unit tests share nothing. worksteal: the tests of a file stay on one worker, until another has nothing left to do.
SIDE_BY_SIDE = ("--numprocesses=logical", "--maxprocesses=4", "--dist=worksteal")
PYTHON_FILES = ("bench", "docs", "reports", "runners", "tests", "tare", "noxfile.py")


def install(session: nox.Session, extras: str = "dev") -> None:
    if session.virtualenv.venv_backend != "none":
        session.install("--editable", f".[{extras}]")
    else:  # the environment that nox is in need not be an activated one
        os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))


def pytest(session: nox.Session, *arguments: str, extras: str = "dev") -> None:
    install(session, extras)
    session.run("python", "-m", "pytest", *arguments, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format; import-linter: who may import whom."""
    install(session)
    session.run("ruff", "check", *PYTHON_FILES)
    session.run("ruff", "format", "--check", *PYTHON_FILES)
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy --strict, tests included."""
    install(session)
    session.run("mypy")


@nox.session
def fast(session: nox.Session) -> None:
    """The unit tests that take no time: under a minute, without root, libvirt or a C compiler."""
    pytest(session, "tests/unit", "-m", "not slow and not compiler", *SIDE_BY_SIDE)


@nox.session
def unit(session: nox.Session) -> None:
    """Tests without privilege or clock, as many at once as there are processors."""
    pytest(session, "tests/unit", *SIDE_BY_SIDE)


@nox.session
def conformance(session: nox.Session) -> None:
    """Every runner against the one contract."""
    pytest(session, "tests/conformance", extras="vm,dev")


@nox.session
def oci(session: nox.Session) -> None:
    """One suite for every OCI runtime; crun and runc prove it. As root."""
    pytest(session, "tests/oci")


@nox.session
def escape(session: nox.Session) -> None:
    """Known ways out of a container, tried on our runtime and, as the control, on runc. As root."""
    pytest(session, "tests/escape")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Ten minutes of configurations changed by chance, and of SIGKILL at every step of our runtime. As root."""
    os.environ.setdefault("TARE_FUZZ_S", "600")
    pytest(session, "tests/oci/test_fuzz.py", "tests/oci/test_crash.py")


@nox.session
def system(session: nox.Session) -> None:
    """Real engines and virtual machines; as root for all of it."""
    pytest(session, "tests/system", extras="vm,dev")


@nox.session
def proofs(session: nox.Session) -> None:
    """The long proofs, which the suite leaves out."""
    pytest(session, "--proofs", extras="vm,dev")


@nox.session
def first_run(session: nox.Session) -> None:
    """A user made for it clones this checkout, runs ./bootstrap setup and the demo. As root."""
    os.environ["TARE_FIRST_RUN"] = "clone"
    pytest(session, "tests/system/test_plain_user.py", extras="vm,dev")


@nox.session
def interrupts(session: nox.Session) -> None:
    """200 runs of the demo and 200 ascents, each interrupted at a random moment: nothing may be left. As root."""
    os.environ.setdefault("TARE_INTERRUPTS", "200")
    pytest(session, "-s", "tests/system/test_interrupts.py", extras="vm,dev")


@nox.session
def browser(session: nox.Session) -> None:
    """A headless Chromium reads a report."""
    pytest(session, "tests/browser")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite in two parts, with the coverage of each package against its floor (tests/whole.py)."""
    install(session, "vm,dev")
    session.run("python", "-m", "tests.whole", *session.posargs)


@nox.session
def calibrate(session: nox.Session) -> None:
    """The scale weighs itself: A/A over 20 seeds gives one verdict of difference at most; known delays come back.

    By the payload's mark, by tcp and by http. And a command takes as long as hyperfine says: apt-get install hyperfine.
    """
    pytest(session, "tests/calibration", "-q", extras="vm,dev")


@nox.session
def bench(session: nox.Session) -> None:
    """How fast tare's own code is; `-- runtime`: the container runtimes. Figures belong to this machine and hour."""
    runtime = "runtime" in session.posargs
    install(session, "vm,dev")
    words = [word for word in session.posargs if word != "runtime"]
    where = "tests/speed/test_runtime.py" if runtime else "tests/speed/test_own_speed.py"
    columns = "--benchmark-columns=min,median,iqr,rounds"
    session.run("python", "-m", "pytest", where, "--benchmark-enable", "--benchmark-only", columns, *words)
    if runtime:
        # Not after thousands: the kernel is still busy with what they left when this begins.
        session.run("python", "-m", "tests.speed.together")
        session.run("python", "-m", "tests.speed.scale")


@nox.session
def samples(session: nox.Session) -> None:
    """Measure the sample reports anew, and take the README's pictures; as root, on a quiet machine. `-- quick`: one."""
    install(session, "vm,dev")
    session.run("python", "-m", "docs.sample_reports", *session.posargs)
    session.run("python", "-m", "docs.pictures")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site, built strictly: site/index.html; then the tests that hold it to the code."""
    install(session, "dev,docs")
    # -n: a link that leads nowhere is a warning; -W: a warning is an error; --fresh-env: all pages, each time.
    session.run("sphinx-build", "-n", "-W", "--keep-going", "--fresh-env", "--quiet", "docs", "site")
    session.run("python", "-m", "pytest", "tests/unit", "-k", "docs", *session.posargs)
