"""Where a page goes that a user asked for: files, links, pipes and descriptors; whole or not at all."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tare.bench.records import files
from tests import cli, warm
from tests.unit.reports import fixture
from tests.warm import fails

pytestmark = pytest.mark.slow

#: Its end is reached only if more is written than a pipe holds at once.
PAGE = "<!doctype html>" + "x" * 300_000 + "</html>\n"


def reporting(*words: str | Path, before: str = "") -> list[str]:
    """The command of ``tare report WORDS`` that writes PAGE in place of a page, which takes a second to draw."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom tare import command, reports\n"
        "from tare.bench.records import files\n"
        "reports.build = lambda *_: None\n"
        f"reports.html = lambda *_: {PAGE[:15]!r} + 'x' * 300_000 + '</html>\\n'\n"
        f"{before}\n"
        f"sys.argv = ['tare', 'report', *{[*map(str, words)]!r}, *sys.argv[1:]]\n"
        "command.main()"
    )
    return [sys.executable, "-c", code]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture.write_run(tmp_path_factory.mktemp("runs") / "run", rounds=2)


def shell(run: Path, script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run *script* in *folder*; TARE is ``tare report RUN``, with a page of no meaning."""
    return subprocess.run(
        ["/bin/bash", "-c", script.replace("TARE", shlex.join(reporting(run)))],
        capture_output=True, text=True, cwd=folder, env=cli.environment(), check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    "script",
    [
        "TARE -o >(cat >page.html) && wait $!",
        "TARE -o /dev/fd/1 | cat >page.html",
        "TARE -o /proc/self/fd/1 >page.html",
        "TARE -o /dev/stdout >page.html",
        "TARE -o - >page.html",
        "TARE -o /dev/fd/7 7>page.html",
        "TARE -o /dev/fd/7 7> >(cat >page.html); wait $!",
        "mkfifo pipe; cat pipe >page.html & sleep 0.2; TARE -o pipe; wait",
        "exec 7<>gone; rm gone; TARE -o /dev/fd/7; cat /dev/fd/7 >page.html",
    ],
)
def test_a_page_goes_where_the_shell_says(run: Path, tmp_path: Path, script: str) -> None:
    done = shell(run, script, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    whole = (tmp_path / "page.html").read_text("utf-8").rstrip("\n") == PAGE.rstrip("\n")
    assert whole  # shown, they would fill the screen
    assert sorted(os.listdir(tmp_path)) in (["page.html"], ["page.html", "pipe"])


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_a_file_that_is_written_again_keeps_its_mode_and_owner(tmp_path: Path, mode: int) -> None:
    file, link = tmp_path / "page.html", tmp_path / "link.html"
    file.write_text("old")
    os.chown(file, 1234, 2345)
    file.chmod(mode)
    link.symlink_to(file)
    for path in (file, link):
        files.write_atomically(path, b"new")
        found = file.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (mode, 1234, 2345)
        assert file.read_text() == "new"


def test_a_new_file_has_the_mode_that_the_user_wants(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write_atomically(tmp_path / "page.html", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o640


def test_a_link_that_is_replaced_gives_nothing_of_what_it_led_to(tmp_path: Path) -> None:
    secret, page = tmp_path / "secret", tmp_path / "page.html"
    secret.write_text("secret")
    secret.chmod(0o777)
    page.symlink_to(secret)
    files.write_own(page, b"new")
    assert not page.is_symlink()
    assert stat.S_IMODE(page.stat().st_mode) & 0o111 == 0
    assert secret.read_text() == "secret"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "moment",
    ["Path.replace = lambda *_: arrive()", "files._write_as = lambda *given: (write(*given), arrive())"],
    ids=["before the rename", "written"],
)
def test_a_signal_while_a_page_is_written_leaves_no_part_of_it(
    run: Path, tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")
    before = f"write, arrive = files._write_as, lambda: os.kill(os.getpid(), {number.value})\n{moment}"
    done = subprocess.run(
        reporting(run, "-o", page, before=before),
        capture_output=True, text=True, cwd=cli.ROOT, env=cli.environment(), check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == f"tare: interrupted by {number.name}\n"
    assert page.read_text() == "old"
    assert os.listdir(tmp_path) == ["page.html"]


@pytest.mark.parametrize(
    "output", ["FOLDER", "FOLDER/none/report.html", "FILE/report.html", "/", "PIPE", "LOOP", "/proc/x"]
)
def test_an_output_that_cannot_be_written_leaves_nothing(run: Path, tmp_path: Path, output: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")  # nobody reads it: an error, not a wait
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.rglob("*")), sorted(os.listdir("/"))
    for name in ("folder", "file", "pipe", "loop"):
        output = output.replace(name.upper(), str(tmp_path / name))
    assert "cannot write" in fails("report", run, "-o", output)
    assert (sorted(tmp_path.rglob("*")), sorted(os.listdir("/"))) == before


def test_an_output_keeps_links_and_devices(run: Path, tmp_path: Path) -> None:
    (tmp_path / "real.html").touch()
    (tmp_path / "link.html").symlink_to("real.html")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("link.html", "null"):
        assert warm.tare("report", run, "-o", tmp_path / name).returncode == 0
        assert (tmp_path / name).is_symlink()
    assert Path("/dev/null").is_char_device()
    assert (tmp_path / "real.html").read_text("utf-8").startswith("<!doctype html>")
    assert fails("report", run, "-o", "/dev/full", code=74)


@pytest.mark.parametrize("to", ["victim", "gone", "folder", "/dev/null", "report.html"])
def test_the_page_in_the_run_is_its_own_whatever_link_stands_there(tmp_path: Path, to: str) -> None:
    """The directory may be another user's: nothing outside of it is written, as nothing outside of it is quoted."""
    run = fixture.write_run(tmp_path / "run")
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "folder").mkdir()
    page = run / "report.html"
    page.symlink_to(to if to == page.name else tmp_path / to)
    assert warm.tare("report", run).stdout == f"{page}\n"
    assert not page.is_symlink()
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "gone").exists()
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_link_at_the_name_to_write_under_is_not_followed(tmp_path: Path) -> None:
    victim, target = tmp_path / "victim", tmp_path / "report.html"
    victim.write_text("mine")
    (tmp_path / f".report.html.{os.getpid()}").symlink_to(victim)
    files.write_own(target, b"page")
    assert (victim.read_text(), target.read_bytes(), target.is_symlink()) == ("mine", b"page", False)
    target.unlink()
    target.symlink_to(victim)
    assert not files.write_over(target, b"page")
    assert victim.read_text() == "mine"


def test_a_page_that_cannot_be_put_into_the_run_is_said(tmp_path: Path) -> None:
    run = fixture.write_run(tmp_path / "run")
    (run / "report.html").mkdir()
    assert "give -o a file" in fails("report", run)
    assert list((run / "report.html").iterdir()) == []
