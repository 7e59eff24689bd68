"""docs/reference/runtime-spec.md leaves out no section of the specification, and names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tare.runners.container.cli import main

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "runtime-spec.md").read_text(encoding="utf-8")
VERSION = "1.2.1"
#: MUST, SHOULD, REQUIRED and RECOMMENDED (with or without NOT), outside of examples, in each section of that version.
WORDS = {
    "bundle.md": {"Container Format": 4},
    "config.md": {
        "Specification version": 2,
        "Root": 9,
        "Mounts": 9,
        "Linux mount options": 75,
        "POSIX-platform Mounts": 6,
        "Process": 8,
        "POSIX process": 8,
        "Linux Process": 8,
        "POSIX-platform User": 2,
        "Platform-specific configuration": 1,
        "POSIX-platform Hooks": 20,
        "Prestart": 4,
        "CreateRuntime Hooks": 3,
        "CreateContainer Hooks": 4,
        "StartContainer Hooks": 3,
        "Poststart": 3,
        "Poststop": 3,
        "Annotations": 25,
        "Extensibility": 1,
        "Valid values": 1,
    },
    "runtime.md": {
        "Scope of a Container": 1,
        "State": 8,
        "Lifecycle": 19,
        "Errors": 1,
        "Warnings": 1,
        "Operations": 1,
        "Query State": 3,
        "Create": 8,
        "Start": 5,
        "Kill": 4,
        "Delete": 5,
    },
    "config-linux.md": {
        "Default Filesystems": 1,
        "Namespaces": 8,
        "User namespace mappings": 4,
        "Devices": 6,
        "Default Devices": 1,
        "Control groups": 1,
        "Cgroups Path": 4,
        "Cgroup ownership": 9,
        "Allowed Device list": 2,
        "Memory": 3,
        "CPU": 2,
        "Block IO": 6,
        "Huge page limits": 2,
        "Network": 2,
        "PIDs": 1,
        "RDMA": 1,
        "Unified": 3,
        "Example": 1,
        "IntelRdt": 17,
        "Seccomp": 16,
        "The Container Process State": 6,
        "Masked Paths": 1,
        "Readonly Paths": 1,
        "Personality": 1,
    },
    "runtime-linux.md": {"Dev symbolic links": 1},
    "features.md": {
        "Features Structure": 2,
        "Specification version": 6,
        "Hooks": 1,
        "Mount Options": 2,
        "Annotations": 1,
    },
    "features-linux.md": {"Namespaces": 1, "Capabilities": 1, "Seccomp": 5, "MountExtensions": 1},
}
_ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \| `(tests/[\w/]+\.py)::(test_\w+)` \|$", re.MULTILINE)


def sections() -> dict[tuple[str, str], str]:
    """(document, section) -> its text in the page."""
    found = {}
    for document in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        name, _, text = document.partition("\n")
        for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
            title, _, rows = section.partition("\n")
            found[name, title] = rows
    return found


def test_it_is_about_the_newest_version_known_here() -> None:
    assert main.SPEC == VERSION
    assert f"version {VERSION} of the" in PAGE


def test_no_section_is_left_out() -> None:
    wanted = {(document, title): words for document, titles in WORDS.items() for title, words in titles.items()}
    assert {key: sum(int(row[0]) for row in _ROW.findall(text)) for key, text in sections().items()} == wanted


def test_every_line_of_a_table_is_a_row() -> None:
    """With something asked, something done, and a test."""
    for key, text in sections().items():
        lines = [line for line in text.splitlines() if line.startswith("|")][2:]
        assert len(lines) == len(_ROW.findall(text)), key


@pytest.mark.parametrize("file", sorted({row[3] for row in _ROW.findall(PAGE)}))
def test_each_test_exists(file: str) -> None:
    names = {row[4] for row in _ROW.findall(PAGE) if row[3] == file}
    defined = set(re.findall(r"^ *def (test_\w+)\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE))
    assert names <= defined, names - defined
