"""The page's own script in a headless Chromium: what it adds, and that nothing of a run becomes a part of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tare import reports
from tests.browser.quiet import quiet
from tests.unit.reports import fixture as synthetic

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

KINDS = ["startup", "calibration", "partial", "empty", "memory", "density", "watched"]
#: What a label may be: markup, the end of a script, quotes, Markdown, a formula, the ends of lines of JavaScript.
HOSTILE = (
    "</script><script>document.title = 'obeyed'</script>",
    "<img src=x onerror=\"document.title = 'obeyed'\">",
    "\"'`\\ |*_[x](javascript:document.title='obeyed')",
    '=HYPERLINK("http://127.0.0.1:9")',
    "a\u2028b\u2029c",
)


@contextmanager
def opened(browser: Browser, path: Path, *, script: bool = True, width: int = 1280, **options: Any) -> Iterator[Page]:
    """The page, which says nothing in the console and asks nobody for anything."""
    allowed = {"java_script_enabled": script, "accept_downloads": True, **options}
    with quiet(browser, path, width, fits=False, **allowed) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield page


def table(page: Page, heading: str) -> Locator:
    """The table whose first column has this head, or the region of this name."""
    return page.locator("table.key") if heading == "key" else page.get_by_role("region", name=heading).locator("table")


def first_column(rows: Locator) -> list[str]:
    return [text.split("\n")[0].strip() for text in rows.locator("tbody th[scope=row]:visible").all_inner_texts()]


def copied(page: Page, button: Locator) -> str:
    button.click()
    page.get_by_role("status").filter(has_text="Copied as").wait_for()
    return str(page.evaluate("navigator.clipboard.readText()"))


def tools_of(rows: Locator) -> Locator:
    return rows.locator(
        "xpath=ancestor-or-self::*[contains(@class, 'scroll') or self::table][last()]/following-sibling::*[1]"
    )


@pytest.mark.parametrize("name", KINDS)
def test_without_the_script_the_page_is_whole_and_has_no_dead_controls(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    with opened(browser, pages[name], script=False) as page:
        assert page.locator("button").count() == 0
        assert page.locator("details.filter").count() == 0
        bare = page.locator("main").inner_text()
    with opened(browser, pages[name]) as page:
        whole = page.locator("main").inner_text()
    words = whole.split()
    assert all(word in words for word in bare.split()), "with the script something is gone"


def test_a_column_is_sorted_by_what_was_measured_and_emulated_rows_stay_below(
    browser: Browser, pages: dict[str, Path]
) -> None:
    with opened(browser, pages["startup"]) as page:
        rows = table(page, "key")
        button = rows.get_by_role("button", name="processor time")
        head = button.locator("xpath=..")
        assert first_column(rows) == ["process", "container", "crun", "runc", "vm emulated"]
        button.click()
        button.click()
        assert head.get_attribute("aria-sort") == "descending"
        # 909 µs, 50.5 ms and 3.35 s: by the text it would be another order.
        assert first_column(rows) == ["runc", "crun", "container", "process", "vm emulated"]
        button.click()
        assert head.get_attribute("aria-sort") is None
        assert first_column(rows) == ["process", "container", "crun", "runc", "vm emulated"]
        rows.get_by_role("button", name="subject").press("Enter")
        assert first_column(rows) == ["container", "crun", "process", "runc", "vm emulated"]


def test_under_a_heading_rows_are_sorted_and_the_heading_stays(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["startup"]) as page:
        rows = table(page, "Every figure")
        before = rows.locator("tbody").count()
        rows.get_by_role("button", name="p95").click()
        assert rows.locator("tbody").count() == before
        for body in rows.locator("tbody").all():
            assert "metric" in (body.locator("tr").first.get_attribute("class") or "")
            values = [float(data.get_attribute("value") or "") for data in body.locator("td:nth-child(4) data").all()]
            assert values[:4] == sorted(values[:4])


def test_a_table_is_copied_as_markdown_as_it_is_shown(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["startup"]) as page:
        rows = table(page, "key")
        shown = rows.locator("tbody tr").first.locator("td").first.inner_text().split("\n")
        text = copied(page, tools_of(rows).get_by_role("button", name="Copy as Markdown"))
        lines = text.splitlines()
        assert lines[0] == "| subject | ready | processor time | memory (PSS) | gone after stop | starts |"
        assert lines[1].startswith("| :-- | --: |")
        assert lines[2].startswith(f"| process | {shown[0]} ({shown[1]}) |")
        assert lines[-1].startswith("| vm (emulated) |")
        assert len(lines) == 7


def test_a_table_is_copied_as_csv_with_every_digit(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["startup"]) as page:
        rows = table(page, "key")
        value = rows.locator("tbody tr").first.locator("td data").first.get_attribute("value")
        text = copied(page, tools_of(rows).get_by_role("button", name="Copy as CSV"))
        read = list(csv.DictReader(io.StringIO(text)))
        assert read[0]["ready (seconds)"] == value
        assert float(read[0]["ready low (seconds)"]) < float(value or 0) < float(read[0]["ready high (seconds)"])
        every = copied(page, tools_of(table(page, "Every figure")).get_by_role("button", name="Copy as CSV"))
        found = list(csv.DictReader(io.StringIO(every)))
        assert {row["unit"] for row in found} == {"seconds", "bytes"}
        assert ("ready", "process", value) in {(row["figure"], row["subject"], row["median"]) for row in found}


def test_a_subject_is_left_out_of_tables_and_their_copies(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["startup"]) as page:
        page.locator("details.filter summary").click()
        page.get_by_role("checkbox", name="crun", exact=True).uncheck()
        assert "4 of 5" in page.locator("details.filter summary").inner_text()
        assert first_column(table(page, "key")) == ["process", "container", "runc", "vm emulated"]
        assert all("crun" not in text for text in page.locator("tbody tr:visible").all_inner_texts())
        assert "crun" not in copied(page, tools_of(table(page, "key")).get_by_role("button", name="Copy as Markdown"))
        page.locator("h1").click()
        assert page.locator("details.filter fieldset").is_hidden()
        page.emulate_media(media="print")
        assert page.locator(".left-out").inner_text() == "Left out of tables and figures here: crun."
        assert page.get_by_role("button").filter(visible=True).count() == len(page.locator("th button").all())
        page.emulate_media(media="screen")
        page.locator("details.filter summary").click()
        page.get_by_role("button", name="Show all").click()
        assert "crun" in first_column(table(page, "key"))


@pytest.mark.parametrize("script", [True, False])
def test_emulated_subjects_are_hidden_by_one_box_with_and_without_the_script(
    browser: Browser, pages: dict[str, Path], script: bool
) -> None:
    with opened(browser, pages["startup"], script=script) as page:
        rows = page.locator("tr.emulated")
        assert rows.first.is_visible()
        page.locator("#hide-emulated").check()
        assert rows.filter(visible=True).count() == 0
        page.locator("#hide-emulated").uncheck()
        assert rows.first.is_visible()


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("name", ["startup", "least-memory"])
def test_a_figure_that_was_drawn_on_two_scales_has_a_switch_that_needs_no_script(
    browser: Browser, pages: dict[str, Path], name: str, script: bool
) -> None:
    with opened(browser, pages[name], script=script) as page:
        drawings = page.locator(".scales svg.plot").filter(visible=True)
        assert drawings.count() == 1
        assert "logarithmic scale" in (drawings.text_content() or "")
        page.get_by_role("group", name="Scale of the figure").get_by_label("from zero").check()
        assert drawings.count() == 1
        assert "linear scale" in (drawings.text_content() or "")
        page.emulate_media(media="print")
        assert page.get_by_role("radio").filter(visible=True).count() == 0
        assert drawings.count() == 1


def test_without_emulation_there_is_no_box_for_it(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["long"]) as page:
        assert page.locator("#hide-emulated").count() == 0


def saved(page: Page, figure: Locator) -> list[dict[str, str]]:
    with page.expect_download() as waiting:
        figure.get_by_role("button", name="Numbers as CSV").click()
    assert waiting.value.suggested_filename.endswith(".csv")
    return list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text("utf-8"), newline="")))


def figure_of(page: Page, chart: str) -> Locator:
    return page.locator(f"figure:has([data-chart='{chart}'])")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_value_of_a_mark_is_shown_under_the_pointer(browser: Browser, pages: dict[str, Path], width: int) -> None:
    with opened(browser, pages["startup"], width=width) as page:
        figure = figure_of(page, "ready")
        mark = figure.locator("[data-row]:visible").nth(20)
        height = page.evaluate("document.documentElement.scrollHeight")
        mark.hover(force=True)
        value = page.locator(".value.on")
        value.wait_for()
        label, shown = value.inner_text().split(" ", 1)
        assert label in ("process", "container", "crun", "runc")
        assert ", round " in shown or "median" in shown
        box = value.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert page.evaluate("document.documentElement.scrollHeight") == height, "the page moved"
        page.locator("h1").hover()
        assert page.locator(".value.on").count() == 0


def test_marks_are_reached_by_keyboard_and_say_what_they_show(browser: Browser, pages: dict[str, Path]) -> None:
    said = "document.activeElement.getAttribute('aria-label')"
    with opened(browser, pages["startup"]) as page:
        figure = figure_of(page, "ready")
        entries = figure.locator("[data-chart='ready'].wide svg [tabindex='0']")
        assert entries.count() == 1, "one stop of the tab key for each figure"
        entries.focus()
        first = str(page.evaluate(said))
        page.keyboard.press("ArrowRight")
        second = str(page.evaluate(said))
        assert first.startswith("process: ")
        assert second.startswith("process: ")
        assert first != second
        assert page.locator(".value.on").inner_text().replace(" ", "") == second.replace(":", "", 1).replace(" ", "")
        page.keyboard.press("ArrowDown")
        assert str(page.evaluate(said)).startswith("container: ")
        page.keyboard.press("End")
        assert str(page.evaluate(said)).startswith("vm (emulated): ")
        page.keyboard.press("Escape")
        assert page.locator(".value.on").count() == 0


def test_every_mark_of_every_figure_leads_to_a_row(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["watched"]) as page:
        broken = page.evaluate("""() => [...document.querySelectorAll('[data-chart]')].filter(box => {
            const own = document.querySelector(`[data-chart="${box.dataset.chart}"] metadata`);
            const rows = own ? JSON.parse(own.textContent).rows : [];
            return [...box.querySelectorAll('[data-row]')].some(mark => !rows[mark.dataset.row]?.at(-1));
        }).map(box => box.dataset.chart)""")
        assert broken == []
        assert page.locator("[data-row]").count() > 100


@pytest.mark.parametrize("width", [1280, 390])
def test_the_numbers_behind_a_figure_are_saved(browser: Browser, pages: dict[str, Path], width: int) -> None:
    with opened(browser, pages["startup"], width=width) as page:
        rows = saved(page, figure_of(page, "ready"))
        assert list(rows[0]) == ["subject", "what", "round", "ready (seconds)", "frequency (1: most)"]
        starts = [row for row in rows if row["what"] in ("start", "outlier")]
        assert len(starts) == 49
        assert {row["subject"] for row in starts} == {"process", "container", "crun", "runc", "vm (emulated)"}
        run = {row["ready (seconds)"] for row in starts}
        assert all(len(value) > 10 for value in run), "rounded"
        page.locator("details.filter summary").click()
        page.get_by_role("checkbox", name="vm", exact=True).uncheck()
        assert {row["subject"] for row in saved(page, figure_of(page, "ready"))} == {
            "process", "container", "crun", "runc",
        }  # fmt: skip


def test_the_numbers_of_the_leading_bars_are_saved(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["startup"]) as page:
        rows = saved(page, page.locator("figure:has(.bars)"))
        assert "process" in {row["subject"] for row in rows}
        assert all(float(row["value"]) > 0 for row in rows)
        phases = saved(page, page.locator("figure:has(.shares)").first)
        whole = next(row["value"] for row in phases if row["subject"] == "process")
        parts = [float(row["value"]) for row in phases if row["subject"] == "process"][1:]
        assert sum(parts) == pytest.approx(float(whole), rel=0.1)
        assert len(whole) > 10


def test_a_subject_is_left_out_of_figures(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["startup"]) as page:
        group = page.locator("svg g[data-subject='crun']:visible").first
        group.wait_for()
        page.locator("details.filter summary").click()
        page.get_by_role("checkbox", name="crun", exact=True).uncheck()
        assert page.locator("svg [data-subject='crun']:visible").count() == 0
        assert page.locator("svg [data-subject='runc']:visible").count() > 0
        page.locator("#hide-emulated").check()
        assert page.locator("svg [data-subject='vm']:visible").count() == 0


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    subjects = [synthetic.subject("container", label) for label in HOSTILE]
    path = tmp_path_factory.mktemp("runs") / "hostile"
    return reports.write(
        synthetic.write_run(
            path, subjects, reference=HOSTILE[0], name=HOSTILE[1], question=HOSTILE[0], scenario_text=HOSTILE[0]
        )
    )


@pytest.mark.parametrize("script", [True, False])
def test_hostile_labels_are_inert(browser: Browser, hostile: Path, script: bool) -> None:
    with opened(browser, hostile, script=script) as page:
        assert "obeyed" not in page.title().replace(HOSTILE[1], "")
        assert page.locator("main img").count() == 0
        if not script:
            return
        assert page.evaluate("document.scripts.length") == 1
        page.locator("details.filter summary").click()
        assert page.locator("details.filter label").all_inner_texts()[: len(HOSTILE)] == list(HOSTILE)
        rows = table(page, "key")
        for button in rows.get_by_role("button").all():
            button.click()
        text = copied(page, tools_of(rows).get_by_role("button", name="Copy as CSV"))
        names = [row["subject"] for row in csv.DictReader(io.StringIO(text))]
        assert f"'{HOSTILE[3]}" in names
        assert not [name for name in names if name.startswith(("=", "+", "-", "@"))]
        markdown = copied(page, tools_of(rows).get_by_role("button", name="Copy as Markdown"))
        assert all(line.replace("\\|", "").count("|") == 7 for line in markdown.splitlines())
        assert "<" not in markdown.replace("\\<", "")
        rows_behind = saved(page, figure_of(page, "ready"))
        assert {row["subject"] for row in rows_behind} == {*HOSTILE} - {HOSTILE[3]} | {f"'{HOSTILE[3]}"}
        page.locator("[data-chart='ready'].wide svg [tabindex='0']").focus()
        assert page.locator(".value.on b").inner_text() in HOSTILE
        page.locator("details.filter summary").click()
        page.locator("details.filter label").nth(1).locator("input").uncheck()
        assert page.locator("tr.filtered").count() > 0
        assert page.evaluate("document.scripts.length") == 1


def test_a_script_that_came_into_the_page_by_a_mistake_is_not_run(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    text = pages["empty"].read_text("utf-8")
    broken = tmp_path / "report.html"
    added = "<script>document.title = 'obeyed'</script><p onclick=\"document.title = 'obeyed'\" id=trap>x</p>"
    broken.write_text(text.replace("<main>", f"<main>{added}"), encoding="utf-8")
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(broken.as_uri())
        page.locator("#trap").click()
        assert page.title() != "obeyed"
    finally:
        context.close()
