"""Tables of subjects for the terminal: the first metric with its interval, the others, how many starts got ready."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.text import Text

from tare.reports import words
from tare.reports.analysis.figures import Figure, SubjectFigures
from tare.reports.terminal import layout


def table(
    subjects: Sequence[SubjectFigures], columns: Sequence[tuple[str, str]], counted: str = "starts ready"
) -> layout.Table:
    """*columns* are (title, metric); *counted* is what a trial that ended well is called."""
    (first, _), *others = columns
    titles = (first, "95 % CI", *(title for title, _ in others), counted)
    return grouped(titles, [[_row(subject, columns) for subject in group] for group in classes(subjects)])


def section(made: layout.Table, width: int) -> Iterator[Text]:
    """The lines of a table, and an empty one."""
    yield from made.lines(width)
    yield Text()


def grouped(
    titles: Sequence[str], groups: Sequence[Sequence[Sequence[Text]]], left: tuple[int, ...] = ()
) -> layout.Table:
    """A table of subjects; an empty line between groups that are not compared."""
    rows: list[Sequence[Text] | Text] = []
    for group in groups:
        if rows and group:
            rows.append(Text())
        rows += group
    return layout.Table(titles=("subject", *titles), rows=rows, left=left)


def classes(subjects: Sequence[SubjectFigures]) -> tuple[list[SubjectFigures], list[SubjectFigures]]:
    """Those that are compared with each other, and the emulated ones."""
    emulated = [subject for subject in subjects if subject.result_class == "emulated"]
    return [subject for subject in subjects if subject.result_class != "emulated"], emulated


def name(subject: SubjectFigures) -> Text:
    """The label, which may come from a run, with the class of result where that must be said."""
    return plain(subject.label + (" (emulated)" if subject.result_class == "emulated" else ""))


def plain(text: str, *, style: str = "") -> Text:
    """Text that may come from a run: no markup, no escape sequence.

    Numbers stand without the space that parts their thousands: at this one, too, a line would end.
    """
    return Text(words.clean(text).replace("\N{NARROW NO-BREAK SPACE}", ""), style=style)


def quantity(figure: Figure, show: Callable[[float], str]) -> str:
    """The figure by *show*, or the short reason for which there is none."""
    if figure.median is not None:
        return show(figure.median)
    if figure.refused is not None:
        return "too noisy"
    return "no claim" if figure.why.startswith("no claim") else "no figure"


def _row(subject: SubjectFigures, columns: Sequence[tuple[str, str]]) -> Sequence[Text]:
    first, *others = (subject.figure(metric) for _, metric in columns)
    return (
        name(subject),
        Text(quantity(first, lambda value: words.quantity(value, first.unit))),
        Text(words.interval(first.low, first.high, first.unit)),
        *(Text(words.quantity(figure.median, figure.unit)) for figure in others),
        Text(f"{subject.counts.ready} of {subject.counts.started}"),
    )
