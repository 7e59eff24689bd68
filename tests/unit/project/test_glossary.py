"""The glossary holds the words that tare uses; the words that it replaces are not used."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from tare import command

ROOT = Path(__file__).resolve().parents[3]
GLOSSARY = ROOT / "docs" / "explanation" / "glossary.md"
PAGES = [
    *(page for page in sorted(ROOT.glob("*.md")) if page.name != "CHANGELOG.md"),
    *(
        page
        for page in sorted(ROOT.glob("docs/*/*.md"))
        if page != GLOSSARY and not {"decisions", "made"} & {*page.parts}
    ),
]
TEMPLATES = sorted(ROOT.glob("reports/**/*.html"))
SCENARIOS = sorted(ROOT.glob("scenarios/*.toml"))
#: What is about other things than tare's own words: names in code, links, blocks of commands.
QUOTED = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)", re.DOTALL)


def rows() -> list[tuple[str, str, str]]:
    """Word, meaning, and the words that it replaces."""
    found = re.findall(r"^\| (.+?) \| (.+?) \| (.*?) ?\|$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    return [row for row in found if row[0] not in ("word", "---")]


def replaced() -> list[str]:
    return [word for _, _, words in rows() for word in words.split(", ") if word]


def helps() -> list[tuple[str, str]]:
    """Each text of ``tare --help``, with the name of its verb."""
    verbs = {"tare": command.cli, **command.cli.commands}
    return [(name, verb.get_help(click.Context(verb, info_name=name))) for name, verb in verbs.items()]


def texts() -> list[tuple[str, str]]:
    """What a user reads before a run, with the name of the place."""
    return [
        *((page.name, QUOTED.sub(" ", page.read_text(encoding="utf-8"))) for page in PAGES),
        *((scenario.name, scenario.read_text(encoding="utf-8")) for scenario in SCENARIOS),
        *helps(),
    ]


def test_every_word_has_one_meaning_in_one_sentence() -> None:
    words = [word for word, _, _ in rows()]
    assert len(words) > 40
    assert len(set(words)) == len(words)
    for word, meaning, _ in rows():
        assert meaning.endswith("."), word
        assert len(meaning) < 130, word


@pytest.mark.parametrize("word", [one for row in rows() for one in row[0].split(", ")])
def test_every_word_is_in_use(word: str) -> None:
    """In a page of the documents, or of a report; ``fixed cost a`` is a name and its letter."""
    name = re.sub(r" [ab]$", "", word)
    read = [page.read_text(encoding="utf-8") for page in (*PAGES, *TEMPLATES)]
    assert any(re.search(rf"\b{re.escape(name)}", text.replace("\n", " "), re.IGNORECASE) for text in read)


@pytest.mark.parametrize("word", replaced())
def test_no_replaced_word_is_in_use(word: str) -> None:
    """``weigh`` stands for its forms, too."""
    pattern = re.compile(rf"\b{re.escape(word)}(s|ed|ing)?\b", re.IGNORECASE)
    assert [name for name, text in texts() if pattern.search(text)] == []
