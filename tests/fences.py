"""Commands in documents: what stands in blocks of Markdown, and what a comment before a block says of it.

A block ``console`` holds commands, each after ``$ `` (``> `` goes on with it), and what they print, but for numbers. A
test runs them (``tests/system/test_documented_commands.py``), but for blocks that cannot run in a test::

    <!-- not run: REASON -->     a human reads why
    <!-- needs: root podman -->  what the host must have (tests/conftest.py, REQUIREMENTS)
    <!-- exit: 2 -->             the exit code of its last command, where that is not 0
    <!-- file: mine.toml -->     the block is the content of this file, which the commands after it use
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: README first: a reader begins there.
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(path for path in (ROOT / "docs").glob("**/*.md") if "made" not in path.parts),
]
BLOCK = re.compile(
    r"^(?P<marks>(?: *<!--[^\n]*-->\n)*)(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"<!-- (not run|needs|exit|file): (.+?) -->")
#: What differs each time: the name of a run, and every number, with the unit that is chosen by its size.
_RUN = re.compile(r"\d{8}T\d{6}Z-[\w.-]+-[0-9a-f]{4}\b")
_NUMBER = re.compile(r"[<>−-]?\s?\d(?:[\d.,  ]*\d)?(?:\s?(?:ns|µs|ms|s|min|KiB|MiB|GiB|B|%)(?![\w]))?")


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and the lines that the document shows below it."""

    text: str
    shown: tuple[str, ...] = ()
    line: int = 0

    @property
    def bare(self) -> str:
        """The command without the comment behind it."""
        return re.sub(r"\s+# .*", "", self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of a document. ``line`` is that of its fence."""

    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    def commands(self) -> list[Command]:
        """The commands of a ``console``. Raises ValueError where it begins with something else."""
        found: list[list[str]] = []
        lines: list[int] = []
        for number, line in enumerate(self.text.splitlines(), start=self.line + 1):
            if line.startswith("$ "):
                found.append([line[2:]])
                lines.append(number)
            elif not found:
                raise ValueError(f"line {number}: {line!r} stands before the first command")
            elif line.startswith("> ") and len(found[-1]) == 1:
                found[-1][0] += "\n" + line[2:]
            else:
                found[-1].append(line)
        return [Command(text, tuple(shown), number) for (text, *shown), number in zip(found, lines, strict=True)]


def blocks(document: Path) -> list[Block]:
    """All blocks of *document*, in their order."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(
            line=text.count("\n", 0, found.start("indent")) + 1,
            language=found["language"].strip(),
            text=re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
            marks=dict(_MARK.findall(found["marks"])),
        )
        for found in BLOCK.finditer(text)
    ]


def plain(line: str) -> str:
    """*line* without what differs each time."""
    return " ".join(_NUMBER.sub(" # ", _RUN.sub("RUN", line)).split())


def missing(shown: tuple[str, ...], printed: str) -> str:
    """The first line of *shown* that is not in *printed* after those before it, if any; ``...`` is any text."""
    lines = iter([plain(line) for line in printed.splitlines()])
    for line in shown:
        wanted = re.escape(plain(line)).replace(r"\.\.\.", ".*").replace(r".*\ ", ".*").replace(r"\ .*", ".*")
        if wanted not in ("", ".*") and not any(re.fullmatch(wanted, one) for one in lines):
            return line
    return ""
