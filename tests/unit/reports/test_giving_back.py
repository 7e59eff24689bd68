"""Who gives memory back: which subjects are held against which, what is said of it, and by what rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tare import reports
from tare.bench.records import store
from tare.reports.analysis.model import Report
from tare.reports.sections.ramp.memory import released
from tare.reports.sections.ramp.memory.model import Released
from tare.runners.payload import Payload
from tests.unit.reports import ramps_fixture as synthetic
from tests.unit.reports.ramps_fixture import CONTAINER, MIB, VM, Burden, Climber

Build = Callable[..., Report]
TOUCHED, FREED = Payload(touch_mib=32), Payload(touch_mib=32, release=True)
LAZILY = Payload(touch_mib=32, release="lazily")


def taking(base: Burden, part: str, more: float, **parts: float) -> Burden:
    each = {**base.each, part: base.each[part] + more, **parts}
    return Burden(each=each, once=base.once, guest=base.guest)


def container(label: str, told: Payload, more: float, **changes: object) -> Climber:
    burden = taking(CONTAINER, "payload", more)
    return synthetic.container(label, burden, payload=told, counts=(1, 2, 4), **changes)


def machine(label: str, told: Payload, more: float, split: float, **changes: object) -> Climber:
    burden = taking(VM, "helper", more, partly_unmapped=split)
    return synthetic.vm(label, burden, payload=told, counts=(1, 2, 4), **changes)


ASKED = {"reclaim_bytes": 32 * MIB, "reclaims": "memory.reclaim"}
BY_BALLOON = {"reclaim_bytes": 32 * MIB, "reclaims": "its balloon", "options": {"balloon": "virtio"}}


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(subjects: list[Climber]) -> Report:
        return reports.build(store.load(synthetic.write(tmp_path / "run", subjects)))

    return make


@pytest.fixture
def report(build: Build) -> Report:
    return build(
        [
            synthetic.process(),
            synthetic.container(counts=(1, 2, 4)),
            container("touched", TOUCHED, 32 * MIB),
            container("asked", TOUCHED, 32 * MIB, **ASKED),
            container("lazy", LAZILY, 32 * MIB),
            container("lazy-asked", LAZILY, 0, **ASKED),
            synthetic.vm(),
            machine("vm-touched", TOUCHED, 32 * MIB, 0),
            machine("vm-freed", FREED, 32 * MIB, 0),
            machine("vm-reporting", FREED, 2 * MIB, 0, options={"balloon": "free-page-reporting"}),
            machine("vm-asked", FREED, 0, 8 * MIB, **BY_BALLOON),
        ]
    )


def test_each_way_is_held_against_the_one_that_keeps_it_and_is_not_asked(report: Report) -> None:
    rows = {row.released: row for row in report.analysis.released}
    assert list(rows) == ["asked", "lazy", "lazy-asked", "vm-freed", "vm-reporting", "vm-asked"]
    assert {(row.touched, row.plain) for row in rows.values()} == {("touched", "container"), ("vm-touched", "vm")}
    shares = {label: round(row.fraction or 0.0, 3) for label, row in rows.items()}
    assert shares == {
        "asked": 0.0,
        "lazy": 0.0,
        "lazy-asked": 1.0,
        "vm-freed": 0.0,
        "vm-reporting": round(30 / 32, 3),
        "vm-asked": 0.75,  # what lies in partly unmapped huge pages the host does not have
    }
    assert rows["vm-asked"].partly_unmapped_bytes == pytest.approx(8 * MIB)
    assert rows["lazy-asked"].partly_unmapped_bytes == 0
    assert [rows[label].balloon for label in ("lazy", "vm-freed", "vm-asked")] == ["", "none", "virtio"]


def test_a_machine_with_the_same_balloon_is_nearer_than_one_without(build: Build) -> None:
    same = {"balloon": "free-page-reporting"}
    report = build(
        [
            synthetic.process(),
            machine("without", TOUCHED, 32 * MIB, 0),
            machine("with", TOUCHED, 32 * MIB, 0, options=same),
            machine("reporting", FREED, 0, 0, options=same),
        ]
    )
    assert [(row.touched, row.released, row.plain) for row in report.analysis.released] == [("with", "reporting", "")]


def test_the_sentence_says_who_asked_and_the_detail_by_what_rule(report: Report) -> None:
    claims = {claim.subject: claim for claim in report.answer if ", and the host gets" in claim.lead}
    lead = (
        "lazy-asked frees 32.0 MiB lazily, is then asked for 32.0 MiB (memory.reclaim), and the host gets back 100 % of"
    )
    assert claims["lazy-asked"].lead.startswith(lead)
    assert "cannot take anonymous memory that is in use" in claims["asked"].detail
    assert claims["asked"].lead.startswith("asked keeps 32.0 MiB, is then asked for 32.0 MiB (memory.reclaim), and")
    assert "(MADV_FREE)" in claims["lazy"].detail
    assert "no balloon device" in claims["vm-freed"].detail
    assert "free page reporting" in claims["vm-reporting"].detail
    assert "no balloon" not in claims["vm-reporting"].detail + claims["vm-asked"].detail
    assert "8.00 MiB of it are still in partly unmapped huge pages" in claims["vm-asked"].detail
    assert [claim.subject for claim in report.answer][:2] == ["asked", "lazy"]  # what this run is about comes first


def row(**changes: object) -> Released:
    fields: dict[str, object] = {
        "touched": "t", "released": "r", "plain": "", "freed": "unmapped", "reclaim_bytes": 0, "reclaims": "",
        "balloon": "", "partly_unmapped_bytes": 0.0, "n": 1, "asked_bytes": 32 * MIB, "touched_bytes": 32.0 * MIB,
        "released_bytes": 0.0, "fraction": 1.0, "low": None, "high": None, "rounds": 1, "emulated": False,
    }  # fmt: skip
    return Released(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_table_says_the_way_in_few_words() -> None:
    assert released.way(row()) == "freed"
    assert released.way(row(freed="kept", **ASKED)) == "kept, then asked"
    assert released.way(row(freed="lazily")) == "freed lazily"
    assert released.way(row(balloon="free-page-reporting")) == "freed, and reports it"


def test_a_guest_that_reports_nothing_is_told_why() -> None:
    detail = released.claim(row(balloon="free-page-reporting", fraction=0.0), {}).detail
    assert "32 blocks free" in detail
    assert "32 blocks" not in released.claim(row(balloon="free-page-reporting"), {}).detail


def test_touching_that_did_not_show_says_nothing_of_giving_back() -> None:
    assert "did not show" in released.claim(row(fraction=None), {}).lead


def test_the_first_version_of_cgroups_takes_no_amount() -> None:
    asked = row(freed="lazily", reclaim_bytes=32 * MIB, reclaims="memory.force_empty")
    assert "is then asked for all it can give (memory.force_empty)" in released.claim(asked, {}).lead


def test_a_share_that_rounds_to_nothing_has_no_sign() -> None:
    assert "share 95 % CI 0 to 2 %" in released.claim(row(fraction=0.01, low=-0.001, high=0.02), {}).detail


def test_a_run_of_one_count_says_nothing_of_a_margin(build: Build) -> None:
    """Nor has its page a table of margins without a row."""
    burden = taking(CONTAINER, "payload", 32 * MIB)
    subjects = [
        synthetic.process(counts=(2,)),
        synthetic.container(counts=(2,)),
        synthetic.container("touched", burden, payload=TOUCHED, counts=(2,)),
        synthetic.container("freed", CONTAINER, payload=FREED, counts=(2,)),
    ]
    report = build(subjects)
    assert report.analysis.fits == ()
    assert any("freed frees 32.0 MiB" in claim.lead for claim in report.answer)
    assert not [claim.lead for claim in report.answer if "one more" in claim.lead.lower() or "No claim" in claim.lead]
