"""Money: every bill is used plus idle, the cheapest machines are found, and price books are judged before use."""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare import reports
from tare.bench import experiments
from tare.bench.errors import UsageError
from tare.bench.records import store
from tare.bench.scenario import resolve
from tare.bench.stats.fit import Line
from tare.reports import words
from tare.reports.cost import bills, prices
from tare.reports.cost.bills import BillError
from tare.reports.cost.prices import Book, OwnHost, Size
from tare.runners.payload import Payload
from tests.unit.reports import ramps_fixture as synthetic
from tests.unit.reports.ramps_fixture import KIB, MIB

MENU = (
    Size(name="small", cpus=1, memory_mib=1024, price_per_hour=0.01),
    Size(name="large", cpus=2, memory_mib=4096, price_per_hour=0.03),
)
REST = 'schema = 1\ntitle = "t"\ndated = 2026-01-01\ncurrency = "EUR"\nincrement_s = 1\nminimum_s = 0\n'


def book(*sizes: Size, reserve_mib: int = 0, host: OwnHost | None = None) -> Book:
    return Book(
        schema=1, kind="host" if host else "menu", title="test", dated=dt.date(2026, 1, 1), currency="EUR",
        source=("here",), increment_s=1, minimum_s=60, reserve_mib=reserve_mib, sizes=sizes, host=host,
    )  # fmt: skip


SIZES = st.lists(
    st.builds(
        Size,
        name=st.just("any"),
        cpus=st.just(1),
        memory_mib=st.integers(300, 65536),
        price_per_hour=st.floats(0, 10, allow_subnormal=False),
    ),
    min_size=1,
    max_size=5,
)


@given(sizes=SIZES, a=st.floats(-(2.0**32), 2.0**32), b=st.floats(1024, 2.0**31), reserve=st.integers(0, 200))
def test_used_and_idle_are_what_is_billed_and_all_n_are_held(
    sizes: list[Size], a: float, b: float, reserve: int
) -> None:
    menu = book(*sizes, reserve_mib=reserve)
    rows = bills.packed(menu, sizes, bills.on_one_machine(Line(a=a, b=b)))
    assert [row.n for row in rows] == (list(range(1, 51)) if rows else [])
    for row in rows:
        assert row.used + row.idle == pytest.approx(row.billed, rel=1e-9, abs=1e-12)
        assert min(row.used, row.idle) >= -1e-9
        assert row.needed_bytes <= row.capacity_bytes * (1 + 1e-12)
    billed = [row.billed for row in rows]
    assert billed == sorted(billed)  # more instances never cost less: spare room would have held the fewer


@given(n=st.integers(1, 12), b=st.integers(100, 1024))
def test_no_other_machines_would_have_been_cheaper(n: int, b: int) -> None:
    need = Line(a=0.0, b=b * MIB)
    found = bills.packed(book(*MENU), MENU, need)[n - 1]
    holds = [need.fits(size.memory_mib * MIB) for size in MENU]
    every = (
        small * MENU[0].price_per_hour + large * MENU[1].price_per_hour
        for small, large in itertools.product(range(n + 1), repeat=2)
        if small * holds[0] + large * holds[1] >= n
    )
    assert found.billed == pytest.approx(min(every))


def test_each_machine_pays_for_its_first_instance_again() -> None:
    need = Line(a=300 * MIB, b=600 * MIB)
    (one, two) = bills.packed(book(MENU[0]), MENU[:1], need)[:2]
    assert one.needed_bytes == 900 * MIB
    assert (two.machines, two.needed_bytes) == (("small", "small"), 1800 * MIB)
    assert bills.on_one_machine(Line(a=-5 * MIB, b=MIB)).at(3) == 3 * MIB  # the first saves nothing


def test_a_bill_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(BillError):
        bills.bill(book(MENU[0]), [(MENU[0], 3)], Line(a=0.0, b=600 * MIB))


def test_nothing_on_the_menu_holds_one() -> None:
    assert bills.packed(book(MENU[0]), MENU[:1], Line(a=0.0, b=2.0**40)) == ()


def test_breakeven_is_where_it_stays_cheaper() -> None:
    light = bills.packed(book(MENU[0]), MENU[:1], Line(a=0.0, b=MIB))
    heavy = bills.packed(book(MENU[0]), MENU[:1], Line(a=0.0, b=400 * MIB))
    assert bills.breakeven(light, heavy) == 3  # two of them fit into one machine
    assert bills.breakeven(heavy, light) is None
    assert bills.breakeven(light, light) is None


@pytest.mark.parametrize(("lived", "billed"), [(0.0, 60), (5.0, 60), (60.0, 60), (60.2, 61), (3600.0, 3600)])
def test_seconds_are_billed_whole_and_never_below_the_minimum(lived: float, billed: float) -> None:
    assert book(*MENU).billed_seconds(lived) == billed


def test_an_owned_host_costs_its_life_and_its_power() -> None:
    own = OwnHost(purchase=8766.0, lifetime_years=1.0, power_watts=100.0, price_per_kwh=0.3)
    assert own.price_per_hour == pytest.approx(1.03)
    (machine,) = book(host=own).machines(24 * 2**30, 2)
    assert (machine.memory_mib, machine.cpus) == (24 * 1024, 2)


def test_shipped_books_are_valid_dated_sourced_and_called_examples() -> None:
    books = {name: prices.load(path) for name, path in prices.shipped().items()}
    assert set(books) == {"cloud-menu", "own-host"}
    assert all("example, not a quotation" in one.example for one in books.values())
    assert (books["cloud-menu"].increment_s, books["cloud-menu"].minimum_s) == (1, 60)
    assert any("https://" in source for source in books["cloud-menu"].source)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("schema = 2", "schema"),
        ("nonsense", "valid"),
        (f'kind = "menu"\nsource = ["s"]\n{REST}', "a menu needs"),
        (f'kind = "host"\nsource = []\n{REST}', "source"),
    ],
)
def test_a_bad_book_is_named(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "book.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        prices.load(path)
    assert str(path) in str(caught.value)
    assert why in str(caught.value)


def test_a_book_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml"):
        prices.load(tmp_path / "none.toml")


def test_a_report_prices_container_and_machine_of_the_same_payload(tmp_path: Path) -> None:
    report = reports.build(store.load(synthetic.write(tmp_path / "run")))
    menu = next(one for one in report.analysis.costs if one.book == "cloud-menu")
    assert [arm.title for arm in menu.arms] == ["container, packed", "vm, packed", "one rented machine each"]
    assert [arm.emulated for arm in menu.arms] == [False, True, False]
    assert all(row.used + row.idle == pytest.approx(row.billed) for arm in menu.arms for row in arm.rows)
    # (1024 - 256) MiB hold five machines of 141 MiB beside the 20 MiB of the first; the sixth takes the next size.
    assert menu.breakeven == 6
    assert "From 6 instances on (95 % CI 6 to 6), container is cheaper than vm." in menu.sentences
    assert len(menu.sentences) == 4
    own = next(one for one in report.analysis.costs if one.book == "own-host")
    assert own.breakeven is None


def test_an_answer_of_nothing_but_the_two_arms_is_about_money(tmp_path: Path) -> None:
    arms = [synthetic.container(), synthetic.vm()]
    report = reports.build(store.load(synthetic.write(tmp_path / "run", arms, reference="container")))
    assert "50 instances cost as container" in report.answer[0].lead
    # The vm is emulated: so is what its memory is priced at.
    money = [claim for claim in report.answer if "USD" in claim.lead or "cheaper" in claim.lead]
    assert money
    assert all(claim.emulated and "software-emulated" in claim.detail for claim in money)
    assert "not a quotation" in report.answer[0].detail


def test_a_bare_process_that_nobody_asked_for_does_not_change_what_a_run_is_about(tmp_path: Path) -> None:
    arms = [synthetic.process(), synthetic.container(), synthetic.vm()]
    report = reports.build(store.load(synthetic.write(tmp_path / "run", arms, reference="container")))
    assert "instances cost" in report.lead.sentence
    asked = reports.build(store.load(synthetic.write(tmp_path / "asked", arms, reference="process")))
    assert "instances cost" not in asked.lead.sentence


def test_without_the_same_payload_nothing_is_priced(tmp_path: Path) -> None:
    arms = [synthetic.container(payload=Payload(touch_mib=32)), synthetic.vm()]
    assert (
        reports.build(store.load(synthetic.write(tmp_path / "run", arms, reference="container"))).analysis.costs == ()
    )


def test_an_unbalanced_account_is_not_priced(tmp_path: Path) -> None:
    lost = synthetic.Burden(each={"payload": 40 * MIB, "unaccounted": 30 * MIB, "tables": KIB})
    report = reports.build(
        store.load(synthetic.write(tmp_path / "run", [synthetic.container(burden=lost), synthetic.vm()]))
    )
    assert report.analysis.costs == ()


def test_granularity_is_a_scenario_that_can_be_meant() -> None:
    found = experiments.scenario(resolve.find("granularity"))
    assert found.experiment == "memory"
    assert {subject.label for subject in found.subjects} >= {"container", "vm"}
    assert len({subject.argv for subject in found.subjects if subject.runner in ("container", "vm")}) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (16.0, "16.00"), (0.16, "0.160"), (0.9996, "1.00"), (1e6, "1000000.00"), (1e-9, "< 0.000001")],
)
def test_money_has_three_digits_and_no_power_of_ten(value: float, text: str) -> None:
    assert bills.money(value, "USD") == f"{text} USD"


@pytest.mark.parametrize(
    ("value", "text"), [(15.0, "15"), (0.0004, "0.0004"), (100.0, "100"), (12345.6, "12346"), (1e-9, "< 0.000001")]
)
def test_plain_numbers_have_no_needless_zeros(value: float, text: str) -> None:
    assert words.plain(value) == text
