"""The documents say what the program does: tables and names in them are checked against the code."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import click
import msgspec
import pytest

from docs import from_code, sample_reports
from tare import command, runners
from tare.bench import experiments
from tare.bench.records.metrics import METRICS
from tare.bench.scenario import file, resolve
from tests import fences

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for path in ROOT.glob("docs/**/*.md") if "made" not in path.parts)])


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(runners.REGISTRY))
def test_every_runner_has_its_row(name: str) -> None:
    page = text("docs/reference/runners.md")
    assert f"\n| `{name}` | {' + '.join(runners.load(name).LAYERS) or 'none'} |" in page


def test_every_metric_is_explained() -> None:
    page = text("docs/explanation/method.md")
    assert all(f"`{name}`" in page for name in METRICS)


def test_every_verb_and_scenario_is_named_in_the_readme() -> None:
    page = text("README.md")
    assert all(f"tare {verb}" in page for verb in command.cli.commands if verb != "list")
    assert all(f"`{name}`" in page for name in resolve.shipped())


def test_commands_stand_where_a_test_runs_them() -> None:
    """A block of a shell is ``console``, or a file; one that no test runs says why, and there are few."""
    left_out = []
    for document in fences.DOCUMENTS:
        for block in fences.blocks(document):
            at = f"{document.relative_to(ROOT)}:{block.line}"
            assert block.language not in ("sh", "bash", "shell", "shell-session") or "file" in block.marks, at
            assert block.language == "console" or not block.text.startswith("$ "), at
            if block.language == "console":
                assert block.commands(), at
                left_out += [at] * ("not run" in block.marks)
    assert len(left_out) <= 13, left_out


def test_a_command_that_is_shown_is_told_from_what_it_prints(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "1. Do:\n\n   <!-- exit: 2 -->\n   ```console\n   $ one \\\n   > two\n   3.1 ms and more\n   $ four\n   ```\n"
    )
    (block,) = fences.blocks(page)
    assert block.marks == {"exit": "2"}
    assert block.line == 4
    assert [(one.text, one.shown) for one in block.commands()] == [("one \\\ntwo", ("3.1 ms and more",)), ("four", ())]


@pytest.mark.parametrize(
    ("shown", "fine"),
    [
        (("vm   1.2 s", "..."), True),
        (("container 5 µs",), True),
        (("...", "container 5.00 ms"), True),
        (("container 5 ms", "vm 1 s"), False),
        (("container 5 ms of 3",), False),
        (("cont... ms",), False),
        (("vm ...", "... 3 ms"), True),
        (("run 20260101T000000Z-quick-1a2b",), True),
    ],
)
def test_what_a_page_shows_is_what_is_printed_but_for_numbers(shown: tuple[str, ...], fine: bool) -> None:
    printed = "vm  345 ms\ncontainer   7.28 ms\nrun 20261128T180200Z-quick-9fd7\n"
    assert (fences.missing(shown, printed) == "") == fine


def inline() -> list[tuple[str, list[str]]]:
    """Every ``tare ...`` that stands within a sentence, with its place."""
    found = []
    for document in fences.DOCUMENTS:
        text = fences.BLOCK.sub("", document.read_text(encoding="utf-8"))
        commands = re.findall(r"`(?:\.venv/bin/)?tare ([^`]+)`", text)
        found += [(f"{document.relative_to(ROOT)}: {words}", words.split()) for words in commands]
    return found


@pytest.mark.parametrize(("at", "words"), inline(), ids=lambda one: one if isinstance(one, str) else "")
def test_commands_within_sentences_name_verbs_and_options_that_there_are(at: str, words: list[str]) -> None:
    if words[0].isupper() or words[0].startswith(("-", ".", "first", "ready", "inside", "exit")):
        return  # tare VERB, tare --help; and the payload's marks, which begin with its name as well
    verb = command.cli.commands[words[0].rstrip(",")]
    if isinstance(verb, click.Group):
        verb = verb.commands[words[1].rstrip(",")] if len(words) > 1 else verb
    options = {option for parameter in verb.params for option in parameter.opts} | {"-h", "--help"}
    assert {word.partition("=")[0] for word in words[1:] if word.startswith("--")} <= options, at


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text):
        if "://" not in target:
            assert (document.parent / target).exists(), target


PARTS = {name: part() for name, part in from_code.PARTS.items()}


def test_the_reference_has_every_command_and_option() -> None:
    for name, verb in command.cli.commands.items():
        section = PARTS["commands"].split(f"## tare {name}\n")[1].split("\n## ")[0]
        assert all(option in section for parameter in verb.params for option in parameter.opts if option[0] == "-")


def test_the_reference_has_every_key_of_every_table_of_a_scenario() -> None:
    designs = [experiments.load(name) for name in experiments.REGISTRY]
    kind = file.format_of({one.name: one for one in designs})
    for field in msgspec.structs.fields(kind):
        assert f"| `{field.name}` |" in PARTS["scenarios"] or f"`[{field.name}]`" in PARTS["scenarios"], field.name
    tables: list[type[msgspec.Struct]] = [file.RunTable, file.GrantTable, file.PayloadTable]
    for one in (*tables, *(one.table_type for one in designs)):
        assert all(f"| `{field.name}` | " in PARTS["scenarios"] for field in msgspec.structs.fields(one)), one


def test_the_reference_has_every_option_metric_and_experiment() -> None:
    for name in runners.REGISTRY:
        assert all(f"| `{option}` |" in PARTS["options"] for option in runners.load(name).OPTIONS), name
    assert all(f"| `{name}` |" in PARTS["metrics"] for name in METRICS)
    assert all(f"| `{name}` |" in PARTS["scenarios"] for name in experiments.REGISTRY)


def test_the_reference_has_every_type_that_is_on_disk() -> None:
    """What results/schema.json defines: a type that is new there must be told of here."""
    defined = json.loads(text("results/schema.json"))["$defs"]
    assert {kind.__name__ for kind in (*from_code.RECORDS, *from_code.added())} == set(defined)
    for name, one in defined.items():
        section = PARTS["records"].split(f"### {name}\n")[1].split("\n### ")[0]
        assert all(f"| `{field}` |" in section for field in one["properties"]), name


class Silent(msgspec.Struct):
    """What it is.

    told: what this one is
    """

    told: int
    untold: int


class Chatty(msgspec.Struct):
    """What it is.

    told: what this one is
    gone: what nobody has
    """

    told: int


@pytest.mark.parametrize(("kind", "word"), [(Silent, "untold"), (Chatty, "gone")])
def test_a_key_without_a_sentence_is_an_error_and_so_is_a_sentence_without_a_key(kind: type, word: str) -> None:
    with pytest.raises(from_code.MissingError, match=word):
        from_code.about(kind)


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "docs" / "samples").glob("*.zip")))
def test_a_sample_report_is_small_and_nameless(name: str, tmp_path: Path) -> None:
    packed = ROOT / "docs" / "samples" / f"{name}.zip"
    assert packed.stat().st_size < 300 << 10
    with zipfile.ZipFile(packed) as file:
        texts = {member: file.read(member).decode("utf-8", "replace") for member in file.namelist()}
    for member, said in texts.items():
        assert not re.search(r"/(root|home/(?!you)|work|tmp/(?!tare))\b", said), member
    rounds, most, machines = sample_reports.SMALLER[name]
    smaller = tmp_path / f"{name}.toml"
    smaller.write_text(sample_reports.smaller(resolve.shipped()[name].read_text("utf-8"), most, machines), "utf-8")
    planned = experiments.plan(experiments.scenario(smaller, {"rounds": rounds}))
    assert {one.label for one in planned.scenario.subjects} == {
        one.label for one in experiments.scenario(resolve.shipped()[name]).subjects
    }
    for subject in planned.scenario.subjects:
        bound = machines if subject.runner == "vm" else most
        assert max(subject.own.get("counts", [0])) <= bound, subject.label


def test_the_walk_of_one_number_is_true() -> None:
    """Each file of the table is there, and defines the name beside it."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `([^`]+)` \| (?:`(\w+)`)? ?\|", page, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 21))
    for _, path, name in rows:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not name or re.search(rf"^\s*def {name}\(", text, re.MULTILINE), (path, name)
