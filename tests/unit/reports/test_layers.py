"""Layers of isolation: the questions, and subjects with layers that no runner of ours has yet, through every report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from tare import reports
from tare.bench.records import store
from tare.reports.analysis.figures import Phase
from tare.reports.analysis.model import document
from tare.reports.analysis.phases import between
from tare.reports.charts import svg
from tare.reports.sections.startup.layers import stacks
from tare.reports.terminal import report as terminal
from tare.runners import layers
from tests.unit.reports import fixture as synthetic
from tests.unit.reports import ramps_fixture as ramps

NESTED, SANDBOX, UNHEARD = ("vm", "container"), ("sandbox",), ("unikernel",)


@pytest.mark.parametrize(
    ("found", "isolated", "own", "walled", "name"),
    [
        ((), False, False, False, "process"),
        (("container",), True, False, True, "container"),
        (SANDBOX, True, False, True, "sandbox"),
        (("vm",), True, True, False, "vm"),
        (NESTED, True, True, False, "vm+container"),
        (UNHEARD, True, False, True, "unikernel"),
    ],
)
def test_what_is_asked_of_layers(found: tuple[str, ...], isolated: bool, own: bool, walled: bool, name: str) -> None:
    assert layers.isolated(found) is isolated
    assert layers.own_kernel(found) is own
    assert layers.walled_on_host_kernel(found) is walled
    assert layers.name(found) == layers.kind("any", found) == name
    assert layers.outermost("any", found) == (found[0] if found else "process")
    assert layers.kind("null", ()) == layers.outermost("null", ()) == "null"


@pytest.mark.parametrize("kind", ["process", "container", "vm"])
def test_kinds_of_older_runs(kind: str) -> None:
    assert layers.kind("any", layers.of_kind(kind)) == kind


def test_each_family_has_a_colour_of_its_own() -> None:
    known = [svg.colour(runner, found) for runner, found in (("null", ()), *(("x", (w,)) for w in layers.WORDS))]
    assert len({*known, svg.colour("x", ()), svg.colour("x", UNHEARD)}) == len(layers.WORDS) + 3
    assert layers.family("x", NESTED) == "vm"
    assert layers.family("x", UNHEARD) == "other"


def shown(path: Path) -> tuple[str, str, dict[str, object]]:
    """The page, the terminal and the JSON of a run."""
    report = reports.build(store.load(path))
    console = Console(width=100, record=True, file=(path / "out.txt").open("w", encoding="utf-8"))
    console.print(terminal.render(report, width=100))
    console.file.close()
    page = reports.write(path).read_text("utf-8")
    return page, console.export_text(), json.loads(msgspec.json.encode(document(report)))


@pytest.mark.slow
def test_a_sandbox_and_a_container_in_a_machine_go_through_every_report(tmp_path: Path) -> None:
    subjects = [
        synthetic.subject("process"),
        synthetic.subject("crun", "gvisor", layers=SANDBOX),
        synthetic.subject("vm", "nested", layers=NESTED),
        synthetic.subject("crun", "new", layers=UNHEARD),
    ]
    path = synthetic.write_run(tmp_path / "run", subjects)
    page, told, data = shown(path)
    kinds = {one["label"]: (one["kind"], one["layers"]) for one in data["subjects"]}  # type: ignore[attr-defined]
    assert kinds == {
        "process": ("process", []),
        "gvisor": ("sandbox", ["sandbox"]),
        "nested": ("vm+container", ["vm", "container"]),
        "new": ("unikernel", ["unikernel"]),
    }
    for label, family in (("process", "process"), ("gvisor", "sandbox"), ("nested", "vm"), ("new", "other")):
        assert label in told
        assert re.search(f'<span class="dot k-{family}"[^>]* data-subject="{label}"[^>]*></span>{label}', page)
    towers = {
        stack.title: [one.name for one in (*stack.inside, *stack.beneath)]
        for stack in stacks(reports.build(store.load(path)))
    }
    assert towers == {
        "Process": ["workload", "exec", "fork"],
        "Sandbox": ["workload", "exec", "sandbox"],
        "Unikernel": ["workload", "exec", "unikernel"],
        "Container in a virtual machine": ["workload", "exec", "runtime", "guest kernel", "VMM (QEMU)"],
    }
    nested = next(one for one in stacks(reports.build(store.load(path))) if one.title.startswith("Container in"))
    meanings = {one.name: one.meaning for one in (*nested.inside, *nested.beneath)}
    assert meanings["runtime"] == "created to first instruction"
    assert meanings["guest kernel"] == "part of request to created", "its machine serves before it is created"


@pytest.mark.slow
def test_memory_of_a_sandbox_and_of_a_container_in_a_machine(tmp_path: Path) -> None:
    path = ramps.write(
        tmp_path / "run",
        [ramps.process(), ramps.container("gvisor", layers=SANDBOX), ramps.vm("nested", layers=NESTED)],
        probe="density",
    )
    page, told, data = shown(path)
    assert {one["subject"]: (one["kind"], one["kernels"]) for one in data["layers_memory"]} == {  # type: ignore[attr-defined]
        "process": ("process", 1),
        "gvisor": ("sandbox", 1),
        "nested": ("vm+container", 2),
    }
    assert "gvisor" in told
    assert "k-sandbox" in page


PARTS = (
    ("requested to provisioned", 1.0),
    ("provisioned to created", 2.0),
    ("created to kernel", 3.0),
    ("kernel to ready", 4.0),
)


@pytest.mark.parametrize(
    ("name", "lasted"),
    [
        ("requested to created", 3.0),
        ("created to ready", 7.0),
        ("created to kernel", 3.0),
        ("requested to ready", 10.0),
        ("created to first instruction", None),
        ("first instruction to ready", None),
    ],
)
def test_a_layer_spans_all_that_was_stamped_between_its_marks(name: str, lasted: float | None) -> None:
    start = [
        Phase(name=one, span="start", start=0.0, end=0.0, duration=s, low=None, high=None, share=s / 10)
        for one, s in PARTS
    ]
    stop = Phase(name="stop to stopped", span="stop", start=0.0, end=5.0, duration=5.0, low=None, high=None, share=1.0)
    found = between([*start, stop], name)
    assert (found is None) == (lasted is None)
    if found is not None and lasted is not None:
        assert found[0] == pytest.approx(lasted)
        assert found[1] == pytest.approx(lasted / 10)
