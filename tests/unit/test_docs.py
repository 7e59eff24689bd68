"""The documents say what the program does: tables and names in them are checked against the code."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from tare import command, runners
from tare.bench.records.metrics import METRICS
from tare.bench.scenario import file, resolve

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(runners.REGISTRY))
def test_every_runner_has_its_row_and_its_options_theirs(name: str) -> None:
    page = text("docs/runners.md")
    assert re.search(rf"^\| `{name}` \| {' + '.join(runners.load(name).LAYERS) or 'none'} \|", page, re.MULTILINE)
    for option in runners.load(name).OPTIONS:
        assert re.search(rf"^\| [^|]*`{name}`[^|]* \| `{option}` \|", page, re.MULTILINE), option


def test_every_metric_is_explained() -> None:
    page = text("docs/method.md")
    assert all(f"`{name}`" in page for name in METRICS)


def test_every_verb_and_scenario_is_named_in_the_readme() -> None:
    page = text("README.md")
    assert all(f"tare {verb}" in page for verb in command.cli.commands if verb != "list")
    assert all(f"`{name}`" in page for name in resolve.shipped())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize(
    "name", ["ScenarioFile", "RunTable", "GrantTable", "PayloadTable", "StackTable", "SubjectTable"]
)
def test_every_key_of_a_scenario_is_explained(name: str) -> None:
    page = text("docs/scenarios.md")
    for field in msgspec.structs.fields(getattr(file, name)):
        if field.name not in ("run", "grant", "payload", "stack", "least", "subjects"):
            assert f"`{field.name}`" in page, field.name
        else:
            assert f"[{field.name}]" in page, field.name
