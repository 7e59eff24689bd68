"""Every command of the documents is run, and prints what they show, but for numbers.

The commands of a document are one session of a shell, in a directory that looks like the checkout. What measures is run
once: where a command that begins with ``tare run`` stands in a second document, its run is there, and it prints what it
did the first time.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tare import runners
from tare.runners.image.cache import cache_dir
from tests import fences
from tests.conftest import require

ALL = {path: fences.blocks(path) for path in fences.DOCUMENTS}
RUNNABLE = [
    path
    for path, blocks in ALL.items()
    if any(block.language == "console" and "not run" not in block.marks for block in blocks)
]


def _installed(program: str) -> Callable[[], bool]:
    return lambda: bool(shutil.which(program))


#: What a document may need, and whether it is here.
HAS: Mapping[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "busybox": _installed("busybox"),
    "crun": lambda: runners.load("crun").probe({}, cache_dir()).ok,
    "docker": _installed("dockerd"),
    "mmdebstrap": _installed("mmdebstrap"),
    "podman": _installed("podman"),
    "runc": _installed("runc"),
    "qemu": _installed("qemu-system-x86_64"),
}
PAGE_S = 300
STALLED = "the measuring process did not run"


@dataclass(kw_only=True)
class Session:
    """What documents have in common: of each ``tare run`` its exit code, what it printed, and its directory."""

    kept: dict[str, tuple[int, Path, Path]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session()


def checkout(directory: Path) -> Path:
    """A directory in which every path of the checkout leads there, and nothing that is written does."""
    directory.mkdir()
    for path in fences.ROOT.iterdir():
        if path.name not in (".git", "results", "site"):
            (directory / path.name).symlink_to(path)
    return directory


def script(blocks: list[fences.Block], session: Session, where: Path) -> tuple[str, list[tuple[fences.Command, int]]]:
    """A script that runs the commands one after another, and those commands, each with the exit code it must have."""
    parts: list[str] = []
    commands: list[tuple[fences.Command, int]] = []
    for block in blocks:
        if "file" in block.marks:
            (where / f"file-{len(parts)}").write_text(block.text, encoding="utf-8")
            parts.append(f"cp '{where}/file-{len(parts)}' '{block.marks['file']}'")
        if block.language != "console" or "not run" in block.marks:
            continue
        for name in block.marks.get("needs", "").split():
            require(name, HAS[name](), f"{name} is not here")
        for command in block.commands():
            n = len(commands)
            text = command.bare
            if text in session.kept:
                code, printed, run = session.kept[text]
                text = f"cat '{printed}'; cp -r '{run}' \"$TARE_RESULTS\"; (exit {code})"
            parts.append(f"{{ {text}\n}} >'{where}/out-{n}' 2>&1 </dev/null\necho $? >'{where}/code-{n}'")
            commands.append((command, 0))
        if commands and "exit" in block.marks:
            commands[-1] = (commands[-1][0], int(block.marks["exit"]))
    return "\n".join(parts) + "\n", commands


@pytest.mark.parametrize("document", RUNNABLE, ids=lambda path: str(path.relative_to(fences.ROOT)))
def test_the_commands_of_a_document_do_what_it_says(document: Path, session: Session, tmp_path: Path) -> None:
    where = tmp_path / "outputs"
    where.mkdir()
    text, commands = script(ALL[document], session, where)
    tools = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"))
    results = tmp_path / "results"
    results.mkdir()
    environment = {**os.environ, "PATH": tools, "TARE_RESULTS": str(results), "COLUMNS": "100", "NO_COLOR": "1"}
    shell = subprocess.Popen(
        ["bash", "-c", text], cwd=checkout(tmp_path / "tare"), env=environment, start_new_session=True
    )
    try:
        shell.wait(PAGE_S)
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGTERM)
            shell.wait()
    for n, (command, wanted) in enumerate(commands):
        printed = (where / f"out-{n}").read_text(encoding="utf-8", errors="replace")
        code = int((where / f"code-{n}").read_text())
        at = f"{document.relative_to(fences.ROOT)}:{command.line}: {command.text}\n{printed}"
        if (code, wanted) == (1, 0) and STALLED in printed:
            continue  # this host was too busy for some trial, and the run says so: no fault of the document
        assert code == wanted, at
        assert not (line := fences.missing(command.shown, printed)), f"not printed: {line!r}\n{at}"
        if command.text.startswith("tare run ") and (
            found := re.findall(r"^/\S*/results/[^/\s]+$", printed, re.MULTILINE)
        ):
            session.kept.setdefault(command.bare, (code, where / f"out-{n}", Path(found[-1])))
