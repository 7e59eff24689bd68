"""How a report looks: the page stands alone and escapes what it quotes; the terminal needs no colour."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from tare import reports
from tare.bench.records import store
from tare.reports import words
from tare.reports.page.render import MOST_SHOWN
from tests.unit.reports import fixture as synthetic

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert('label')</script>"


class Page(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.links.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def standard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture's standard run, with its page: five subjects, one outlier, one failure."""
    path = synthetic.write_run(tmp_path_factory.mktemp("runs") / "standard")
    return reports.write(path).parent


def read(run: Path) -> str:
    return (run / "report.html").read_text("utf-8")


def render(path: Path, *arguments: object, **options: object) -> str:
    return reports.write(synthetic.write_run(path, *arguments, **options)).read_text("utf-8")  # type: ignore[arg-type]


def terminal(report: object, *, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(reports.render(report, width=width))  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_page_needs_nothing_outside_itself(standard: Path) -> None:
    text = read(standard)
    page = Page(text)
    assert not {"iframe", "object", "embed", "base"} & set(page.tags)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not {name for name in page.attributes if name.startswith("on")}
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)


def test_the_policy_allows_the_own_script_and_no_other(standard: Path) -> None:
    text = read(standard)
    found = re.findall(r"<script[^>]*>(.*?)</script>", text, flags=re.DOTALL)
    assert len(found) == Page(text).tags.count("script") == 1
    digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'\"" in text
    assert len(found[0]) < 24_000
    # Text stays text, and nothing is asked for.
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp|import\b", found[0]
    )


def test_a_number_that_is_shown_rounded_has_all_its_digits_beside_it(standard: Path) -> None:
    text = read(standard)
    ready = reports.build(store.load(standard)).subjects[0].figure("ready_seconds")
    shown = words.quantity(ready.median, "seconds")
    assert f'<td data-name="ready"><data class="seconds" value="{ready.median!r}">{shown}</data>' in text
    assert f'<data class="seconds" value="{ready.low!r}/{ready.high!r}">' in text
    assert "&lt;data" not in text
    assert not [name for name in Page(text).attributes if "<" in name]


def test_ids_are_unique_and_every_link_has_its_target(standard: Path) -> None:
    text = read(standard)
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    wanted = {link.removeprefix("#") for link in page.links if link.startswith("#")} | set(
        re.findall(r"url\(#([^)]+)\)", text)
    )
    assert wanted <= set(page.ids)


def test_charts_follow_the_scheme_and_are_described(standard: Path) -> None:
    charts = re.findall(r"<svg.*?</svg>", read(standard), flags=re.DOTALL)
    assert len(charts) == 10  # four, one of them on two scales, each for a desk and for a phone
    for chart in charts:
        root = ET.fromstring(chart)
        assert root.get("role") == "img"
        assert {"viewBox", "aria-labelledby"} <= root.attrib.keys()
        assert "width" not in root.attrib
        assert len(list(root.iter("{http://www.w3.org/2000/svg}title"))) == 1
        colours = set(re.findall(r"#[0-9a-f]{6}\b", chart))
        assert colours == set(), "a colour that no scheme can change"
        assert "DejaVu" not in chart


def test_every_sample_is_drawn(tmp_path: Path) -> None:
    report = render(tmp_path / "run", [synthetic.subject("process")], rounds=23)
    chart = next(chart for chart in re.findall(r"<svg.*?</svg>", report, flags=re.DOTALL) if "ready-w-" in chart)
    groups = re.findall(r'<g data-subject="process">.*?</g>\s*</g>', chart, flags=re.DOTALL)
    assert max(group.count("<use") for group in groups) == 23


def test_an_emulated_machine_is_marked_without_colour(standard: Path) -> None:
    text = read(standard)
    assert "software-emulated (TCG): another class of result" in text
    assert re.search(r'<tr class="emulated hatched">\s*<th scope="row">.*?vm.*?emulated', text)
    assert words.EMULATED in Page(text).text
    for chart in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        assert "<pattern" in chart


def test_without_emulation_nothing_is_hatched(tmp_path: Path) -> None:
    text = render(tmp_path / "run", [synthetic.subject("process"), synthetic.subject("vm", accelerator="kvm")])
    assert "software-emulated" not in Page(text.partition("<body>")[2]).text
    assert "<pattern" not in text


def test_hostile_text_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    one = synthetic.subject("process", HOSTILE, version=HOSTILE, walls=(HOSTILE,), facts={HOSTILE: HOSTILE})
    two = synthetic.Subject(
        record=synthetic.subject("container", "$\\frac{1}$ & \x1b[31m\x00").record,
        shape=synthetic.SHAPES["container"],
        failed_rounds={2: f"</pre>{HOSTILE}"},
    )
    text = render(
        tmp_path / "run", [one, two], reference=HOSTILE, question=HOSTILE, scenario_text=f"</pre>{HOSTILE}",
        warnings=(HOSTILE,), ready=HOSTILE, name=HOSTILE,
    )  # fmt: skip
    page = Page(text)
    assert page.tags.count("script") == 1
    assert "alert" not in re.findall(r"<script[^>]*>(.*?)</script>", text, flags=re.DOTALL)[0]
    assert HOSTILE in page.text
    assert not {"\x1b", "\x00"} & set(text)
    assert "$\\frac{1}$" in page.text


def test_exact_configuration_is_in_the_page(standard: Path) -> None:
    page = Page(read(standard))
    assert "<domain type='qemu'>" in page.text
    assert '"ociVersion": "1.0.2"' in page.text


def test_a_manifest_may_not_lead_outside_the_run(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("do not show", encoding="utf-8")
    path = synthetic.write_run(tmp_path / "run", [synthetic.subject("process")])
    header = path / "run.json"
    header.write_text(header.read_text("utf-8").replace("subjects/process/argv.txt", "../secret"), encoding="utf-8")
    text = reports.write(path).read_text("utf-8")
    assert "do not show" not in text
    assert "outside the run directory" in text


def test_a_missing_or_huge_configuration_is_said(tmp_path: Path) -> None:
    path = synthetic.write_run(tmp_path / "run", [synthetic.subject("process"), synthetic.subject("container")])
    (path / "subjects/process/argv.txt").unlink()
    (path / "subjects/container/config.json").write_text("x" * (MOST_SHOWN + 1), encoding="utf-8")
    text = reports.write(path).read_text("utf-8")
    assert "argv.txt cannot be read" in text
    assert "cut here" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"done": 3, "state": "running", "subjects": [synthetic.subject("vm")]}, "3 of 10 rounds done"),
        ({"done": 0, "warmup": 0, "state": "interrupted"}, "There is no sample yet"),
        (
            {"leaks": synthetic.LEAKS, "state": "failed", "subjects": [synthetic.subject("vm")]},
            "2 things left on the host",
        ),
        ({"subjects": [synthetic.subject("crun", skipped="no crun", fix="apt install crun")]}, "apt install crun"),
        ({"subjects": [synthetic.subject("vm")]}, "vm is ready after"),
        ({"subjects": []}, "Nothing was measured"),
        ({"subjects": [synthetic.null()], "rounds": 1}, "itself takes"),
    ],
)
def test_partial_and_odd_runs_have_a_page_and_a_table(tmp_path: Path, options: dict[str, object], said: str) -> None:
    path = tmp_path / "run"
    text = Page(render(path, **options)).text
    assert said in text
    assert terminal(reports.build(store.load(path)))


def test_writing_again_replaces_the_page_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = synthetic.write_run(tmp_path / "run", [synthetic.subject("process")])
    first = reports.write(path)
    before = first.read_bytes()
    assert reports.write(path).read_bytes() == before
    assert sorted(entry.name for entry in path.iterdir()) == [
        "outcomes.jsonl", "report.html", "run.json", "samples.jsonl", "subjects",
    ]  # fmt: skip


def test_the_terminal_shows_figures_and_verdicts_in_80_columns(standard: Path) -> None:
    text = terminal(reports.build(store.load(standard)))
    assert max(map(len, text.splitlines())) <= 80
    assert "vm (emulated)" in text
    assert "container is faster to become ready than crun" in text
    assert "9 of 10" in text
    assert "runc, round 4: runc exited with status 1 (console: logs/r4-runc.log)" in text


def test_the_terminal_obeys_no_label(tmp_path: Path) -> None:
    one = synthetic.subject("process", "[red]x[/red]\x1b]0;title\x07")
    text = terminal(reports.build(store.load(synthetic.write_run(tmp_path / "run", [one]))))
    assert "[red]x[/red]" in text
    assert not {"\x1b", "\x07"} & set(text)


def test_the_terminal_compares_two_runs(tmp_path: Path) -> None:
    few = [synthetic.subject("process"), synthetic.subject("vm")]
    runs = [
        store.load(synthetic.write_run(tmp_path / name, few, seed=seed)) for name, seed in (("before", 1), ("after", 2))
    ]
    text = terminal(reports.compare_runs(*runs))
    assert max(map(len, text.splitlines())) <= 80
    assert "after against before" in text
    assert text.count("no difference shown") >= 7


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3134.2, "3130"),
        (12.46, "12.5"),
        (1.0, "1.00"),
        (0.98, "0.980"),
        (0.00004, "0.0000400"),
        (1e-9, "< 0.000001"),
        (0.0, "0"),
        (99.96, "100"),
        (999.6, "1000"),
        (None, "—"),
    ],
)
def test_ratios_have_three_digits_and_no_exponent(value: float | None, shown: str) -> None:
    assert words.ratio(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (0.5, "0.5"), (15.0, "15"), (999.5, "1000"), (1000.0, "1000"), (25000.0, "25000")]
)
def test_a_tick_has_no_needless_zeros_and_no_exponent(value: float, shown: str) -> None:
    assert words.plain(value) == shown


def test_no_line_of_a_page_ends_within_a_figure() -> None:
    said = words.together("998 KiB of 5.77 GiB (+4.2 %) in 3 ms at 2, 10 alive; 5 seconds, 7 means")
    assert said.replace("\N{NO-BREAK SPACE}", "_") == (
        "998_KiB of 5.77_GiB (+4.2_%) in 3_ms at 2, 10 alive; 5 seconds, 7 means"
    )


def test_no_line_of_the_terminal_ends_within_a_number(standard: Path) -> None:
    report = reports.build(store.load(standard))
    claim = msgspec.structs.replace(report.answer[0], lead=f"{'x' * 70} {words.number(162_147)} fit")
    assert "162000" in terminal(msgspec.structs.replace(report, answer=(claim,)))


def test_marks_that_were_read_at_once_are_no_duration_of_zero() -> None:
    assert words.phase(0.0) == "at once"
    assert words.phase(-0.002) == "−2.00 ms"


def test_an_interval_names_a_shared_unit_once() -> None:
    assert words.interval(0.00422, 0.0044, "seconds") == "4.22 to 4.40 ms"
    assert words.interval(0.00099, 0.00101, "seconds") == "990 µs to 1.01 ms"
