"""The schema of run directories: the committed one is today's, and an experiment's own table is typed in it."""

from __future__ import annotations

from tare.bench import schema
from tests import cli, fifth


def test_the_committed_schema_is_the_generated_one() -> None:
    committed = cli.ROOT / "results" / "schema.json"
    assert committed.read_text(encoding="utf-8") == schema.text(), "python -m tare.bench.schema > results/schema.json"


def test_the_tables_of_experiments_are_typed_in_it() -> None:
    made = schema.generate()
    tables = made["$defs"]["Scenario"]["properties"]["tables"]["properties"]
    kinds = {"startup": "StartupTable", "stack": "StackTable", "least": "LeastTable"}
    assert tables == {name: {"$ref": f"#/$defs/{kind}"} for name, kind in kinds.items()}
    assert made["$defs"]["StackTable"]["properties"]["floor_percent"]["type"] == "number"
    own = made["$defs"]["Subject"]["properties"]["own"]["anyOf"]
    assert [one["$ref"].rpartition("/")[2] for one in own[:3]] == ["StartupSubject", "RampSubject", "LeastSubject"]


def test_so_is_that_of_one_that_is_registered() -> None:
    with fifth.registered():
        made = schema.generate()
    assert made["$defs"]["Scenario"]["properties"]["tables"]["properties"]["end"] == {"$ref": "#/$defs/EndTable"}
    assert "patience_s" in made["$defs"]["EndTable"]["properties"]
