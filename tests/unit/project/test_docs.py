"""The documents say what the program does: tables and names in them are checked against the code."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from tare import command, runners
from tare.bench import experiments
from tare.bench.experiments.base import Experiment
from tare.bench.records.metrics import METRICS
from tare.bench.scenario import file, resolve

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(runners.REGISTRY))
def test_every_runner_has_its_row_and_its_options_theirs(name: str) -> None:
    page = text("docs/reference/runners.md")
    assert re.search(rf"^\| `{name}` \| {' + '.join(runners.load(name).LAYERS) or 'none'} \|", page, re.MULTILINE)
    for option in runners.load(name).OPTIONS:
        assert re.search(rf"^\| [^|]*`{name}`[^|]* \| `{option}` \|", page, re.MULTILINE), option


def test_every_metric_is_explained() -> None:
    page = text("docs/explanation/method.md")
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


EXPERIMENTS = {name: experiments.load(name) for name in experiments.REGISTRY}
TABLES = [one.table_type for one in EXPERIMENTS.values() if one.table]
KEYS = [file.SubjectTable, *(one.keys_type for one in EXPERIMENTS.values())]


@pytest.mark.parametrize(
    "table", [file.ScenarioFile, file.RunTable, file.GrantTable, file.PayloadTable, *TABLES, *KEYS]
)
def test_every_key_of_a_scenario_is_explained(table: type[msgspec.Struct]) -> None:
    page = text("docs/reference/scenarios.md")
    for field in msgspec.structs.fields(table):
        if field.name in ("run", "grant", "payload", "subjects"):
            assert f"[{field.name}]" in page, field.name
        else:
            assert f"`{field.name}`" in page, field.name


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda one: one.name)
def test_every_experiment_and_its_table_is_explained(experiment: Experiment) -> None:
    page = text("docs/reference/scenarios.md")
    assert f"`{experiment.name}`" in page
    assert f"[{experiment.table}]" in page or not experiment.table


def test_the_walk_of_one_number_is_true() -> None:
    """Each file of the table is there, and defines the name beside it."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `([^`]+)` \| (?:`(\w+)`)? ?\|", page, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 21))
    for _, path, name in rows:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not name or re.search(rf"^\s*def {name}\(", text, re.MULTILINE), (path, name)
