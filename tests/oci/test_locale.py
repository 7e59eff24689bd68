"""Letters that are not ASCII: a configuration is UTF-8, whatever the locale of who starts a container."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import require
from tests.oci.harness import Box

WORD = "grüße-€-語"
PLAIN = {"LC_ALL": "C"}
#: What switches off that Python takes the locale C for one of UTF-8.
STRICT = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def latin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A locale in which each byte is a letter."""
    directory = tmp_path_factory.mktemp("locale")
    name = "de_DE.ISO-8859-1"
    program = shutil.which("localedef")
    require("latin", program is not None, "no localedef")
    command = [str(program), "-i", "de_DE", "-f", "ISO-8859-1", str(directory / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    require("latin", done.returncode == 0, done.stderr)
    return {"LC_ALL": name, "LOCPATH": str(directory)}


@pytest.fixture(params=["C", "strict", "POSIX", "latin", "C.UTF-8"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "latin":
        return dict(request.getfixturevalue("latin"))
    return {"C": PLAIN, "strict": STRICT}.get(request.param, {"LC_ALL": request.param})


@pytest.fixture
def lettered(box: Box, environment: dict[str, str]) -> Box:
    box.environment |= environment
    source = box.directory / f"source-{WORD}"
    source.mkdir()
    (source / f"file-{WORD}").write_text(f"{WORD}\n")
    box.mount(f"/target-{WORD}", "bind", source, "bind")
    box.process["cwd"] = f"/work-{WORD}"
    box.process["env"].append(f"WORD={WORD}")
    box.config["hostname"] = "grüße"
    box.config["annotations"] = {f"key-{WORD}": f"value-{WORD}"}
    return box


def test_every_name(lettered: Box) -> None:
    script = f'cat "/target-{WORD}/file-{WORD}"; pwd; echo "$WORD"; echo "$0"; cat /proc/sys/kernel/hostname'
    done = lettered.run("/bin/sh", "-c", script, f"argument-{WORD}").ok()
    assert done.lines == [WORD, f"/work-{WORD}", WORD, f"argument-{WORD}", "grüße"]


@pytest.mark.deviates("crun", "1.8 has no annotations in its state")
def test_state_and_exec(lettered: Box) -> None:
    lettered.live()
    assert lettered.state()["annotations"] == {f"key-{WORD}": f"value-{WORD}"}
    done = lettered.exec("/bin/sh", "-c", 'pwd; echo "$WORD"; echo "$0"', WORD).ok()
    assert done.lines == [f"/work-{WORD}", WORD, WORD]


def test_errors(lettered: Box) -> None:
    """What is missing is named as it was written."""
    lettered.mount("/data", "bind", f"/no-{WORD}", "bind")
    done = lettered.run("/bin/true").refused()
    assert f"/no-{WORD}" in done.err or not lettered.runtime.ours


def test_a_bundle_with_bytes_that_are_no_letters(our_box: Box) -> None:
    """The host's own paths need not be UTF-8."""
    moved = Path(str(our_box.directory), "b\udcff\udcfe")
    our_box.save()
    our_box.bundle.rename(moved)
    our_box.bundle.mkdir()
    our_box.config["process"]["args"] = ["/bin/echo", "there"]
    (moved / "config.json").write_text(json.dumps(our_box.config))
    done = our_box.call("run", "--bundle", str(moved), our_box.name).ok()
    assert done.out == "there\n"
