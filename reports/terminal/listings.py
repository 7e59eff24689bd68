"""``tare list``: a table on a terminal, fields in a pipe, data for scripts."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from tare.bench import experiments
from tare.bench.errors import UsageError
from tare.bench.records import store
from tare.bench.scenario import resolve
from tare.reports import words
from tare.reports.cli import streams
from tare.reports.terminal import consoles, layout
from tare.reports.terminal.layout import Lines
from tare.runners.image.kept import Kept

Row = Mapping[str, str]


def scenarios(*, as_json: bool) -> None:
    """Print the scenarios that come with tare."""
    loaded = {name: experiments.scenario(path) for name, path in resolve.shipped().items()}
    labels = {name: [subject.label for subject in one.subjects] for name, one in loaded.items()}
    if as_json:
        streams.json(
            [{"scenario": name, "subjects": labels[name], "question": one.question} for name, one in loaded.items()]
        )
    elif sys.stdout.isatty():
        rows = [(name, one.question, " ".join(labels[name])) for name, one in loaded.items()]
        consoles.show(table_of_scenarios(rows, consoles.width(sys.stdout)))
    else:
        streams.out(fields((name, " ".join(labels[name]), one.question) for name, one in loaded.items()))


def runs(results: Path, *, as_json: bool) -> None:
    """Print the runs below *results*, oldest first. Those that cannot be read are among them; the reason is said."""
    rows = [_row(path) for path in store.runs(results)]
    if as_json:
        streams.json(rows)
    elif sys.stdout.isatty():
        consoles.show(table_of_runs(rows, consoles.width(sys.stdout)))
    else:
        streams.out(fields([row[key] for key in ("started_at", "state", "scenario", "run")] for row in rows))
    streams.say("".join(f"tare: {words.line(row['why'])}\n" for row in rows if row["why"]))


def _row(path: Path) -> Row:
    try:
        header = store.load_header(path)
    except UsageError as error:
        return {
            "run": streams.utf8(str(path)),
            "scenario": "",
            "state": "unreadable",
            "started_at": "",
            "why": streams.utf8(str(error)),
        }
    told = {"scenario": header.scenario.name, "state": header.state, "started_at": header.started_at, "why": ""}
    return {"run": streams.utf8(str(path)), **told}


def table_of_scenarios(rows: Iterable[tuple[str, str, str]], width: int) -> RenderableType:
    """Name, question and labels of each."""
    told = []
    for name, question, labels in rows:
        text = Text(words.clean(question)) + Text(f"\n{words.clean(labels)}", style="dim")
        told.append((Text(name, style="bold"), text))
    return Lines(list(layout.named(told, width)))


def table_of_runs(rows: Sequence[Row], width: int) -> RenderableType:
    """One line a run, its path at the end and never broken; a sentence when there are none."""
    if not rows:
        return Text("there are no runs yet; `tare run quick` makes one")
    cells = [
        (
            Text(words.line(row["started_at"][:16].replace("T", " ")) or "unknown"),
            Text(row["state"]),
            Text(words.line(row["scenario"]) or "unknown"),
            Text(words.line(row["run"])),
        )
        for row in rows
    ]
    table = layout.Table(titles=("started", "state", "scenario", "run"), rows=cells, left=(1, 2, 3), open_end=True)
    return Lines(list(table.lines(width)))


def images(found: Sequence[Kept]) -> None:
    """Print the images that are kept."""
    rows = [(one.record.source, one.record.digest, one.disk_bytes, one.record.made_at) for one in found]
    if sys.stdout.isatty():
        consoles.show(table_of_images(rows, consoles.width(sys.stdout)))
    else:
        streams.out(fields([source, digest, str(size), made] for source, digest, size, made in rows))


def table_of_images(rows: Sequence[tuple[str, str, int, str]], width: int) -> RenderableType:
    """One line an image, its source at the end and never broken; a sentence when there are none."""
    if not rows:
        return Text("no image is kept yet; `tare image build busybox` makes one")
    cells = [
        (Text(digest), Text(words.size(size)), Text(made[:16].replace("T", " ")), Text(words.line(source)))
        for source, digest, size, made in rows
    ]
    table = layout.Table(titles=("digest", "on disk", "made", "source"), rows=cells, left=(2, 3), open_end=True)
    return Lines(list(table.lines(width)))


def image(found: Sequence[Kept]) -> None:
    """Print what is known of these images."""
    lines: list[Text] = []
    for one in found:
        record, config = one.record, one.record.config
        told = {
            "source": record.source,
            "digest": record.digest,
            "made": record.made_at,
            "holds": f"{words.plural(record.files, 'file')}, {words.size(record.size_bytes)}"
            + (f"; {words.plural(record.left_out, 'device')} left out" if record.left_out else ""),
            "on disk": words.size(one.disk_bytes),
            "command": " ".join(config.command),
            "environment": " ".join(f"{name}={value}" for name, value in config.env),
            "directory within": config.cwd,
            "user": config.user,
            "ports": ", ".join(map(str, config.ports)),
            "files": str(one.directory),
            **{f"as {path.suffix[1:]}": str(path) for path in one.shapes},
        }
        rows = ((Text(name, style="bold"), Text(words.line(text))) for name, text in told.items() if text)
        lines += [*layout.named(rows, consoles.width(sys.stdout)), Text()]
    consoles.show(Lines(lines[:-1]))


def fields(rows: Iterable[Sequence[str]]) -> str:
    """*rows* for a pipe: a line each, fields parted by one tab, nothing filled up and nothing broken."""
    plain = (map(words.line, row) for row in rows)
    return "".join("\t".join(row) + "\n" for row in plain)
