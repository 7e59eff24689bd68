"""The account of memory: synthetic hosts balance to the byte, and what is not accounted for shows as just that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tare import reports
from tare.bench.records import store
from tare.reports.analysis.model import Report
from tare.reports.analysis.noise import Disturbance
from tare.reports.sections.ramp import ramps
from tare.reports.sections.ramp.memory import ledger, slopes
from tare.reports.sections.ramp.memory.model import CounterLine, LedgerRow
from tests.unit.reports import ramps_fixture as synthetic
from tests.unit.reports.ramps_fixture import COUNTERS, KIB, MIB, Burden

Build = Callable[..., Report]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(*arguments: object, **options: object) -> Report:
        path = synthetic.write(tmp_path / f"run-{len(list(tmp_path.iterdir()))}", *arguments, **options)  # type: ignore[arg-type]
        return reports.build(store.load(path))

    return make


def row(report: Report, subject: str, n: int) -> LedgerRow:
    found: LedgerRow = next(one for one in report.analysis.ledger if (one.subject, one.n) == (subject, n))
    return found


def line(report: Report, subject: str, counter: str = ledger.HOST) -> CounterLine:
    found: CounterLine = next(one for one in report.analysis.fits if (one.subject, one.counter) == (subject, counter))
    return found


def rows_of(path: Path) -> tuple[LedgerRow, ...]:
    read = ramps.read(store.load(path))
    return tuple(ledger.rows(slopes.weights(read, ledger.changes(read)), read.known_programs(), Disturbance()))


#: So that nothing of a host of 24 GiB falls below zero, which no counter can.
BYTES = st.integers(-64 * KIB, 64 * KIB).map(float)
#: Parts that the account does not explain, and those that a property must choose otherwise.
UNKNOWN = ("unaccounted", "unlisted", "payload", "helper")
BURDENS = st.fixed_dictionaries({part: BYTES for part in COUNTERS if part not in UNKNOWN})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    each=BURDENS,
    once=BURDENS,
    payload=st.integers(4 * KIB, 4 * MIB),
    helper=st.integers(0, 4 * MIB),
    missing=st.integers(-(2**32), 2**32),
    n=st.integers(1, 500),
)
def test_any_consistent_host_balances_and_what_is_missing_is_the_residual(
    tmp_path_factory: pytest.TempPathFactory,
    each: dict[str, float],
    once: dict[str, float],
    payload: int,
    helper: int,
    missing: int,
    n: int,
) -> None:
    burden = Burden(each={**each, "payload": payload, "helper": helper}, once={**once, "unaccounted": missing})
    path = synthetic.write(
        tmp_path_factory.mktemp("runs") / "run", [synthetic.container(burden=burden, counts=(n,))], rounds=1
    )
    (found,) = rows_of(path)
    assert found.residual_bytes == pytest.approx(missing, abs=1)
    assert found.host_change_bytes == pytest.approx(sum(burden.parts(n).values()), abs=1)
    assert sum(found.parts.values()) + found.residual_bytes == pytest.approx(found.host_change_bytes, abs=1)
    small = abs(found.residual_bytes) <= max(0.05 * abs(found.host_change_bytes), n * MIB)
    assert (found.refused is not None) == (found.others_bytes > abs(found.host_change_bytes))
    assert found.balanced == (small and found.refused is None)


def test_parts_are_split_by_program_and_residents_count_only_what_they_grew(build: Build) -> None:
    burden = Burden(each={"payload": 44 * KIB, "helper": 100 * KIB, "others": 10 * KIB, "cache": 5 * KIB})
    found = row(build([synthetic.container(burden=burden)]), "container", 50)
    assert found.parts["anonymous:payload"] == 50 * 44 * KIB
    assert found.parts["anonymous:python (resident)"] == 50 * 100 * KIB  # and not its 9 MiB from before
    assert [(one.role, one.serves, one.bytes / 50) for one in found.programs] == [
        ("payload", "", 44 * KIB), ("python", "resident", 100 * KIB),
    ]  # fmt: skip
    assert found.parts["anonymous:other processes"] == 50 * 10 * KIB
    assert found.parts["page_cache"] == 50 * 5 * KIB
    assert found.parts["kernel_stacks"] == found.parts["vmalloc"] == 0


def test_stacks_are_not_counted_again_as_vmalloc_nor_shared_memory_as_page_cache(build: Build) -> None:
    found = row(build([synthetic.container(burden=Burden(each={"stacks": MIB, "shmem": 2 * MIB}))]), "container", 10)
    assert (found.parts["kernel_stacks"], found.parts["vmalloc"]) == (10 * MIB, 0)
    assert (found.parts["shared_memory"], found.parts["page_cache"]) == (20 * MIB, 0)
    assert found.residual_bytes == 0


def test_a_claim_is_refused_where_the_account_does_not_balance_and_the_other_side_is_still_said(build: Build) -> None:
    burden = Burden(each={"payload": 20 * MIB, "unaccounted": 3 * MIB})
    report = build([synthetic.process(), synthetic.container(burden=burden)])
    found = row(report, "container", 50)
    assert not found.balanced
    assert found.residual_bytes == 150 * MIB
    assert found.residual_fraction == pytest.approx(3 / 23)
    assert "does not balance: with 50 instances, 150 MiB of a change of 1.12 GiB" in found.why
    (claim,) = (claim for claim in report.answer if claim.subject == "container" and "no claim" in claim.lead)
    assert claim.lead == "One more process costs 108 KiB; no claim about container"
    assert "150 MiB" in claim.detail
    container = next(one for one in report.subjects if one.label == "container")
    assert all(one.median is None for one in container.figures if one.metric == "margin_bytes")
    assert "container" not in {stack.subject for stack in report.analysis.layers_memory}


def test_a_small_residual_of_a_small_change_is_allowed(build: Build) -> None:
    burden = Burden(each={"payload": 44 * KIB, "unaccounted": 900 * KIB})
    assert row(build([synthetic.container(burden=burden)]), "container", 10).balanced


def test_one_spoilt_round_moves_neither_change_nor_residual(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "run", [synthetic.container()])
    text = (path / "samples.jsonl").read_text("utf-8").splitlines(keepends=True)
    spoilt = [
        one.replace('"value":', '"value":9')
        if all(key in one for key in ('"round":3', '"n":50', "host_slab_unrec"))
        else one
        for one in text
    ]
    assert spoilt != text
    (path / "samples.jsonl").write_text("".join(spoilt), encoding="utf-8")
    found = max(rows_of(path), key=lambda one: one.n)
    assert found.residual_bytes == 0
    assert (found.rounds_balanced, found.rounds) == (4, 5)


def test_what_others_took_is_said_beside_the_margin(build: Build) -> None:
    busy = Burden(each={**synthetic.CONTAINER.each, "others": 200 * KIB}, once=synthetic.CONTAINER.once)
    report = build([synthetic.process(), synthetic.container(burden=busy)])
    assert line(report, "container").b == pytest.approx(644 * KIB)
    assert line(report, "container", slopes.OWN).b == pytest.approx(444 * KIB)
    (claim,) = (claim for claim in report.answer if claim.lead.startswith("One more container costs"))
    assert "without the memory of other processes of the host, 444 KiB against 108 KiB" in claim.detail


def test_lines_find_margin_and_step_and_say_where_they_bend(build: Build) -> None:
    report = build()
    found = line(report, "container")
    assert found.b == pytest.approx(sum(synthetic.CONTAINER.each.values()))
    assert found.a == pytest.approx(2 * MIB)
    assert found.straight is True
    bent = Burden(each={"slab": 100 * KIB, "payload": 50 * KIB}, late={"slab": 400 * KIB}, bend=10)
    report = build([synthetic.process(), synthetic.container(burden=bent)])
    found = line(report, "container")
    assert found.straight is False
    assert (found.first_segment, found.last_segment) == pytest.approx((150 * KIB, 550 * KIB))
    (claim,) = (claim for claim in report.answer if "does not always cost the same" in claim.lead)
    assert "the marginal cost grows from 150 KiB to 550 KiB" in claim.lead
    assert "unreclaimable slab changes most: from 100 KiB to 500 KiB" in claim.detail


def test_two_numbers_above_one_give_a_margin_and_no_test(build: Build) -> None:
    found = line(build([synthetic.vm(counts=(1, 2, 4))]), "vm")
    assert found.b == pytest.approx(sum(synthetic.VM.each.values()))
    assert found.straight is None
    assert found.why


def test_counters_give_their_own_answers(build: Build) -> None:
    report = build()
    margins = {counter: line(report, "container", counter).b for counter in ("rss", "pss", "uss", "cgroup")}
    assert margins["uss"] == pytest.approx(44 * KIB)
    assert margins["rss"] > margins["uss"]
    assert ("process", "cgroup") not in {(one.subject, one.counter) for one in report.analysis.fits}


def test_who_gives_memory_back_while_it_lives(build: Build) -> None:
    report = build([synthetic.process(), synthetic.container(counts=(1, 2, 4)), synthetic.vm(), *synthetic.touched()])
    back = {one.released: one for one in report.analysis.released}
    assert back["container-released"].fraction == pytest.approx(1.0)
    assert back["container-released"].plain == "container"
    assert back["container-released"].touched_bytes == pytest.approx(32 * MIB)
    assert back["vm-released"].fraction == pytest.approx(0.0)
    leads = [claim.lead for claim in report.answer]
    assert "container-released frees 32.0 MiB, and the host gets back 100 % of what it took" in leads
    assert "vm-released frees 32.0 MiB, and the host gets none of it back while it runs" in leads
    told = {
        claim.subject: "has no balloon device" in claim.detail for claim in report.answer if " frees " in claim.lead
    }
    assert told == {"container-released": False, "vm-released": True}


def test_what_comes_back_after_removal_is_a_share_of_what_was_taken(build: Build) -> None:
    burden = Burden(each={"payload": 3 * MIB, "slab": MIB}, left=MIB)
    (found,) = build([synthetic.container(burden=burden)]).analysis.given_back
    assert found.fraction == pytest.approx(0.75)
    assert found.left_bytes == 50 * MIB
    assert found.teardown_seconds == pytest.approx(0.05)


def test_layers_own_all_of_an_instance_and_a_machine_has_two_kernels(build: Build) -> None:
    stacks = {stack.subject: stack for stack in build().analysis.layers_memory}
    for stack in stacks.values():
        assert sum(owner.bytes for owner in stack.owners) == pytest.approx(stack.total_bytes)
    assert (stacks["container"].kernels, stacks["vm"].kernels) == (1, 2)
    machine = {owner.name: owner.bytes for owner in stacks["vm"].owners}
    assert machine["guest memory"] == pytest.approx(80 * MIB)
    assert machine["qemu-system-x86"] == pytest.approx(60 * MIB)
    assert stacks["vm"].emulated


def test_an_ascent_without_its_first_reading_has_no_row(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "run", [synthetic.container()], rounds=1)
    text = (path / "samples.jsonl").read_text("utf-8").splitlines(keepends=True)
    kept = [one for one in text if '"n":0,' not in one]
    assert len(kept) < len(text)
    (path / "samples.jsonl").write_text("".join(kept), encoding="utf-8")
    assert rows_of(path) == ()
    assert reports.build(store.load(path)).analysis.ledger == ()


def test_partly_unmapped_huge_pages_are_a_part_only_where_the_kernel_says_that_there_are_some(build: Build) -> None:
    burden = Burden(each={"payload": 40 * MIB, "partly_unmapped": 10 * MIB})
    found = row(build([synthetic.container(burden=burden, counts=(1, 2, 4))]), "container", 4)
    assert found.parts["partly_unmapped"] == 40 * MIB
    assert found.residual_bytes == 0
    # What waits on the processors' own lists, off the kernel's, is no huge page.
    waiting = {"payload": 40 * MIB, "unlisted": 100 * KIB}
    found = row(build([synthetic.container(burden=Burden(each=waiting), counts=(1, 2, 4))]), "container", 4)
    assert found.parts["partly_unmapped"] == 0
    assert found.residual_bytes == 400 * KIB


def test_where_it_does_not_balance_and_others_moved_most_of_it_they_are_named(tmp_path: Path) -> None:
    """A ledger of which others have 80 %: claimed where it balances, and theirs where it does not."""

    def last(name: str, missing: float) -> LedgerRow:
        each = {"payload": 4 * MIB, "others": 32 * MIB, "unaccounted": missing}
        run = store.load(synthetic.write(tmp_path / name, [synthetic.container(burden=Burden(each=each))]))
        rows: tuple[LedgerRow, ...] = reports.build(run).analysis.ledger
        return max((row for row in rows if row.subject == "container"), key=lambda row: row.n)

    assert last("explained", 0.0).refused is None
    missing = last("missing", 4 * MIB)
    assert missing.refused is not None
    assert missing.refused.reason == "others"
    assert missing.why.startswith("too noisy: this host moved by 1.56 GiB meanwhile")
