"""How a command ends: what a user reads, the exit code, and nothing that was lost without a word."""

from __future__ import annotations

import errno
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tare.bench.errors import (
    HostError,
    InvalidError,
    NothingToRunError,
    OutputError,
    RegressionError,
    TareError,
    UsageError,
    unwritten,
)
from tare.reports.cli import ending
from tare.runners.base import RunnerError
from tests import cli, warm

pytestmark = pytest.mark.slow

PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def door_words(raising: str, *words: str) -> list[str]:
    """The command of ``tare list`` whose verb does *raising* in place of its own work."""
    code = (
        "import sys; from tare import command\n"
        f"def broken(**_): {raising}\n"
        "command.cli.commands['list'].callback = broken\n"
        f"sys.argv = ['tare', 'list', *{list(words)!r}]\n"
        "command.main()"
    )
    return [sys.executable, "-c", code]


def door(raising: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run :func:`door_words`."""
    return subprocess.run(
        door_words(raising, *words),
        capture_output=True, text=True, cwd=cli.ROOT, env=cli.environment(**env), check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    "how",
    ["signal.signal(signal.SIGCHLD, signal.SIG_IGN)", "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])"],
    ids=["ignored", "blocked"],
)
def test_how_children_end_is_known_whatever_the_caller_does_about_its_own(how: str) -> None:
    raising = "sys.exit(__import__('subprocess').run(['false']).returncode + 40)"
    code = f"import os, signal, sys; {how}; os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *door_words(raising)], cwd=cli.ROOT, env=cli.environment(), check=False, timeout=60
    )
    assert done.returncode == 41


@pytest.mark.parametrize(
    "raising",
    [
        "return [][1]",
        "raise RuntimeError('a\\nb')",
        "(lambda f: f(f))(lambda f: f(f))",
        "raise AssertionError",
        "assert False",
        "{}['x']",
    ],
)
def test_what_nobody_foresaw_is_one_paragraph_and_a_log(tmp_path: Path, raising: str) -> None:
    done = door(raising, TARE_CACHE=str(tmp_path))
    assert done.returncode == 70
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    what, why, fix = done.stderr.splitlines()
    assert (what, why[:6], fix[:6]) == ("tare: an unexpected error", " why: ", " fix: ")
    (log,) = (tmp_path / "errors").iterdir()
    assert str(log) in fix
    assert "report it" in fix
    text = log.read_text("utf-8")
    assert "Traceback" in text
    assert "'tare', 'list'" in text.replace("'tare' 'list'", "'tare', 'list'")
    assert log.stat().st_mode & 0o077 == 0


def test_the_log_goes_elsewhere_where_the_cache_cannot_be_written(tmp_path: Path) -> None:
    done = door("return [][1]", TARE_CACHE="/proc/nowhere", TMPDIR=str(tmp_path))
    (log,) = tmp_path.iterdir()
    assert str(log) in done.stderr
    assert done.returncode == 70


def test_without_any_place_for_a_log_that_is_said(tmp_path: Path) -> None:
    done = door("import tempfile; tempfile.tempdir = '/proc/nowhere'; return [][1]", TARE_CACHE="/proc/nowhere")
    assert done.returncode == 70
    assert "TARE_DEBUG=1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("raising", ["return [][1]", "from tare.bench.errors import UsageError; raise UsageError('x')"])
def test_a_traceback_is_printed_on_demand_alone(tmp_path: Path, raising: str) -> None:
    assert "Traceback" in door(raising, TARE_CACHE=str(tmp_path), TARE_DEBUG="1").stderr
    for value in ("", "0"):
        assert "Traceback" not in door(raising, TARE_CACHE=str(tmp_path), TARE_DEBUG=value).stderr


def test_what_a_library_warns_of_is_shown_on_demand_alone() -> None:
    warns = "__import__('warnings').warn('overflow encountered', RuntimeWarning)"
    assert door(warns).stderr == ""
    assert "overflow encountered" in door(warns, PYTHONWARNINGS="default").stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("w", "y", "f"), 2),
        (NothingToRunError("w"), 3),
        (InvalidError("w"), 5),
        (HostError("w"), 6),
        (OutputError("w"), 74),
        (RunnerError("w", "y", "f"), 6),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 6),
        (OSError(errno.ENOSPC, "full", "/x"), 74),
        (OSError(errno.EROFS, "read-only", "/x"), 74),
        (OSError(errno.EMFILE, "many"), 6),
    ],
)
def test_each_class_has_its_code_and_its_words(
    capfd: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    def command() -> None:
        raise error

    assert ending.run(command, as_json=False) == code
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.startswith("tare: ")


def test_control_characters_and_endless_texts_do_not_reach_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise UsageError("a\x1b[31m\x07\nb", "c" * 10_000, "d\u2028e")

    ending.run(command, as_json=False)
    said = capfd.readouterr().err
    assert not {"\x1b", "\x07", "\u2028"} & set(said)
    assert len(said.splitlines()) == 3
    assert len(said) < 3000


def test_a_full_disk_is_another_class_than_a_path_chosen_badly() -> None:
    found = {number: unwritten("w", OSError(number, "x"), "f").exit_code for number in (errno.ENOSPC, errno.EACCES)}
    assert found == {errno.ENOSPC: 74, errno.EACCES: 2}
    codes = {cls: cls.exit_code for cls in TareError.__subclasses__()}
    assert codes[RegressionError] == 4
    assert len(set(codes.values())) == len(codes)


BAD = {
    "plan": ("plan", "no-such-scenario"),
    "run": ("run", "no-such-scenario"),
    "report": ("report", "/nowhere"),
    "compare": ("compare", "/nowhere", "/nowhere"),
    "list": ("list", "--runs", "--results", "/etc/passwd"),
    "doctor": ("doctor", "--frobnicate"),
    "index": ("index", "/nowhere"),
    "clean": ("clean", "and", "more"),
    "weigh": ("weigh", "-i", "no-such-runner", "true"),
}


@pytest.mark.parametrize("verb", BAD)
def test_with_json_an_error_is_json(verb: str) -> None:
    done = warm.tare(*BAD[verb], "--json")
    error = json.loads(done.stdout)
    assert set(error) == {"error", "why", "fix", "exit_code"}
    assert error["exit_code"] == done.returncode == 2
    assert f"tare: {error['error']}" in done.stderr
    assert warm.tare(*BAD[verb]).stdout == ""


def test_every_verb_with_json_is_among_them() -> None:
    from tare import command

    with_json = {
        name for name, verb in command.cli.commands.items() if any(one.name == "as_json" for one in verb.params)
    }
    assert with_json == set(BAD)


def test_data_that_was_printed_is_not_followed_by_an_error_in_json(tmp_path: Path) -> None:
    raising = "from tare.reports.cli import streams; streams.json([1]); raise RuntimeError('late')"
    done = door(raising, "--json", TARE_CACHE=str(tmp_path))
    assert json.loads(done.stdout) == [1]
    assert done.returncode == 70


def shell(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    tare = shlex.join(cli.command())
    done = subprocess.run(
        ["/bin/bash", "-c", script.replace("TARE", tare)],
        capture_output=True, text=True, cwd=cli.ROOT, env=cli.environment(**env), check=False, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


@pytest.mark.parametrize(
    "words",
    ["plan startup", "plan startup --json", "list", "--help", "plan -h", "--version", "completion bash", "list --json"],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_is_an_error(words: str, unbuffered: str) -> None:
    done = shell(f"TARE {words} >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 74
    assert "No space left on device" in done.stderr
    assert done.stderr.count("tare: ") == 1


@pytest.mark.parametrize("words", ["plan startup", "plan startup --json", "list", "--help"])
def test_a_closed_standard_output_is_an_error_before_anything_starts(words: str) -> None:
    done = shell(f"TARE {words} >&-")
    assert done.returncode == 74
    assert "standard output is closed" in done.stderr


@pytest.mark.parametrize("closed", ["2>&-", "0<&-", "2>/dev/full", "<&- 2>&-"])
def test_closed_and_full_talk_is_no_error(closed: str) -> None:
    assert shell(f"TARE plan startup {closed}").stdout == shell("TARE plan startup").stdout
    assert shell(f"TARE plan nothing {closed}").returncode == 2


def test_a_closed_stream_is_not_the_next_file_that_is_opened(tmp_path: Path) -> None:
    """A descriptor 2 that is a file of the run would get what children say."""
    code = "import os; from tare.reports.cli import streams; streams.prepare()"
    code += "; print([os.readlink(f'/proc/self/fd/{n}') for n in (0, 2)])"
    done = shell(f'{shlex.quote(sys.executable)} -c "{code}" 0<&- 2>&-')
    assert done.stdout == "['/dev/null', '/dev/null']\n"


@pytest.mark.parametrize("words", ["plan startup --rounds 3000", "plan startup --rounds 3000 --json"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_ends_it_quietly(words: str, unbuffered: str) -> None:
    done = shell(f'TARE {words} | head -n 1; echo "${{PIPESTATUS[0]}}"', PYTHONUNBUFFERED=unbuffered)
    assert done.stdout.splitlines()[-1] == str(128 + signal.SIGPIPE)
    assert done.stderr == ""


def test_a_broken_pipe_of_another_kind_is_not_mistaken_for_it(tmp_path: Path) -> None:
    assert door("raise BrokenPipeError", TARE_CACHE=str(tmp_path)).returncode == 70


ASCII = [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, PLAIN]


@pytest.mark.parametrize("env", ASCII, ids=lambda env: "-".join(env.values()))
@pytest.mark.parametrize(
    "words",
    ["--help", "list", "plan calibration", "plan nä×µ", "run nä×µ", "report nä×µ --json", "list --runs --results ä"],
)
def test_every_encoding_takes_what_is_said(env: dict[str, str], words: str) -> None:
    tare = [*cli.command(), *words.split()]
    done = subprocess.run(tare, capture_output=True, cwd=cli.ROOT, env=cli.environment(**env), check=False, timeout=60)
    assert b"Traceback" not in done.stderr
    assert done.returncode in (0, 2)


def test_characters_that_are_lacking_become_plain_ones() -> None:
    said = "5 µs × 2 ± 1 − 3 … — \\u202f\\xa0 • ∞ é\\udcff\\n"
    code = f"from tare.reports.cli import streams; streams.prepare(); streams.out('{said}')"
    for encoding, shown in (
        ("ascii", b"5 us x 2 +/- 1 - 3 ... -    * inf \\xe9\xff\n"),
        ("latin-1", b"5 \xb5s \xd7 2 \xb1 1 - 3 ... -  \xa0 * inf \xe9\xff\n"),
    ):
        env = cli.environment(PYTHONIOENCODING=encoding)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=cli.ROOT, env=env, check=True)
        assert done.stdout == shown


def test_json_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    folder = tmp_path / "é"
    (folder / "20260101T000000Z-x-1a2b").mkdir(parents=True)
    (folder / "20260101T000000Z-x-1a2b" / "run.json").write_text("{")
    for env in ASCII:
        tare = [*cli.command(), "list", "--runs", "--json", "--results", str(folder)]
        done = subprocess.run(tare, capture_output=True, cwd=cli.ROOT, env=cli.environment(**env), check=True)
        assert json.loads(done.stdout.decode("utf-8"))[0]["state"] == "unreadable"
