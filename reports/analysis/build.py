"""Run -> Report: every figure of the report, once, for all renderers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tare.bench.records.metrics import METRICS, show
from tare.bench.records.rows import Host, RunHeader
from tare.bench.records.store import Run
from tare.reports import words
from tare.reports.analysis import measures, tables
from tare.reports.analysis.calibration import calibrate, delay_seconds
from tare.reports.analysis.compare import compare_within, subject_figures
from tare.reports.analysis.model import Claim, Compared, Contract, Failure, Figure, HostFacts, Report, SubjectFigures
from tare.reports.sections.ramp import analysis, sentences
from tare.reports.sections.ramp.analysis import Weighed
from tare.reports.sections.ramp.density import capacity
from tare.reports.sections.ramp.density.capacity import Size
from tare.runners import layers

#: How a subject that stands alone says its figure.
_SAYS = {"least_memory_bytes": "gets ready with"}


def build(run: Run, sizes: Sequence[Size] = ()) -> Report:
    """Compute the report of *run*. Works on partial runs too: what is missing is said, not guessed.

    *sizes* are hosts to predict for, besides this one. Raises UsageError where the run predicts nothing.
    """
    header = run.header
    if sizes:
        capacity.check(header)
    weighed = analysis.weigh(run, sizes)
    frame = analysis.samples(run, weighed)
    medians = tables.round_medians(frame)
    unclaimed = weighed.unclaimed if weighed else {}
    subjects = tuple(subject_figures(run, frame, medians, subject, unclaimed) for subject in header.subjects)
    comparisons = tuple(compare_within(header, medians, subjects))
    rounds_done = _rounds_done(run)
    return Report(
        run=header.run,
        name=header.name,
        question=header.question,
        state=header.state,
        complete=header.state == "complete",
        status=_status(header, rounds_done),
        started_at=header.started_at,
        finished_at=header.finished_at,
        tare_version=header.tare_version,
        git=header.git,
        versions=header.versions,
        reference=header.reference,
        metric=measures.primary(header),
        probe=measures.probe(header),
        rounds_done=rounds_done,
        answer=tuple(_answer(header, subjects, comparisons, weighed)),
        subjects=subjects,
        comparisons=comparisons,
        calibration=calibrate(header, medians, subjects, comparisons),
        failures=tuple(_failures(run)),
        leaks=header.leaks,
        warnings=(*_warnings(header), *several_modes(subjects)),
        notes=(*_notes(run), *(weighed.read.notes if weighed else ())),
        contract=_contract(header, subjects),
        host=_host(header.host),
        limits=tuple(_limits(header, subjects, weighed)),
        scenario_text=header.scenario_text,
        **(_account(weighed) if weighed else {}),
    )


def _account(weighed: Weighed) -> dict[str, Any]:
    return {
        "ledger": weighed.ledger,
        "fits": weighed.fits,
        "given_back": weighed.given_back,
        "released": weighed.released,
        "layers_memory": weighed.layers,
        "inside": weighed.inside,
        "density": weighed.density,
        "capacity": weighed.capacity,
        "curves": weighed.curves,
        "descents": weighed.descents,
        "margins": weighed.margins,
        "constancy": weighed.constancy,
        "sampling": weighed.sampling,
        "costs": weighed.costs,
    }


def claim(compared: Compared) -> Claim:
    """A comparison as one sentence in two parts."""
    return Claim(
        lead=compared.lead,
        detail=compared.detail,
        subject=compared.subject,
        verdict=compared.verdict,
        emulated=compared.emulated,
    )


def _answer(
    header: RunHeader, subjects: Sequence[SubjectFigures], comparisons: Sequence[Compared], weighed: Weighed | None
) -> Iterator[Claim]:
    """Native and accelerated results first, emulated ones after: they are never ranked in one list."""
    metric = measures.primary(header)
    if weighed and weighed.ledger:
        yield from sentences.answer(subjects, comparisons, weighed)
        return
    if subjects and all(_primary(subject, metric).median is None for subject in subjects):
        detail = words.no_figures({subject.label: _primary(subject, metric).why for subject in subjects})
        if all(subject.skipped for subject in subjects):
            detail = "every subject was skipped, nothing was started"
        yield Claim(lead="No answer", detail=f"{detail}.", subject="", verdict="no figure")
        return
    # Neither a null subject nor a known delay is an answer: both weigh the scale (reports/analysis/calibration.py).
    scale = {s.label for s in header.subjects if layers.is_null(s.runner) or delay_seconds(s)}
    skipped = {subject.label for subject in subjects if subject.skipped}
    mine = [
        compared
        for compared in comparisons
        if compared.metric == metric and not {compared.subject, compared.reference} & (scale | skipped)
    ]
    yield from map(claim, sorted(mine, key=lambda compared: (compared.emulated, compared.why_compared == "pair")))
    if not mine:
        measured = [subject for subject in subjects if subject.label not in skipped]
        for subject in sorted(measured, key=lambda subject: subject.result_class == "emulated"):
            yield _alone(subject, metric)
    if header.reference in skipped:
        yield Claim(
            lead="Nothing to compare with",
            detail=f"the reference {header.reference} was skipped.",
            subject=header.reference,
            verdict="no figure",
        )


def _alone(subject: SubjectFigures, metric: str) -> Claim:
    """The answer when there is nothing to compare with: the figure itself."""
    figure = _primary(subject, metric)
    emulated = subject.result_class == "emulated"
    mark = f" ({words.EMULATED})" if emulated else ""
    if figure.median is None:
        return Claim(
            lead=subject.label,
            detail=f"{figure.why}{mark}.",
            subject=subject.label,
            verdict="no figure",
            emulated=emulated,
        )
    starts, rounds = words.plural(figure.n, "start"), words.plural(figure.rounds, "round")
    grounds = f"95 % CI {words.interval(figure.low, figure.high, figure.unit)}, " if figure.low is not None else ""
    return Claim(
        lead=f"{subject.label} {_SAYS.get(metric, 'is ready after')} {show(figure.median, figure.unit)}",
        detail=f"the median of {starts} ({grounds}{rounds}){mark}.{words.torn([(subject.label, figure)])}",
        subject=subject.label,
        verdict="not enough rounds",
        emulated=emulated,
    )


def _primary(subject: SubjectFigures, metric: str) -> Figure:
    return next(figure for figure in subject.figures if figure.metric == metric)


def _rounds_done(run: Run) -> int:
    """Rounds in which every planned trial has an outcome."""
    ended = {outcome.trial for outcome in run.outcomes}
    skipped = {subject.label for subject in run.header.subjects if subject.skipped}
    rounds: dict[int, bool] = {}
    for trial in run.header.plan:
        if trial.kind == "measured" and trial.subject not in skipped:
            rounds[trial.round] = rounds.get(trial.round, True) and trial.id in ended
    return sum(rounds.values())


def _status(header: RunHeader, rounds_done: int) -> str:
    done = f"{rounds_done} of {words.plural(header.rounds, 'round')} done"
    match header.state:
        case "complete":
            return f"complete: {done}"
        case "running":
            return f"not complete: {done}; the run is still going on, or was killed"
        case "interrupted":
            return f"not complete: interrupted, {done}"
        case "failed":
            return f"failed: {done}; do not rest a claim on its numbers"


def _failures(run: Run) -> Iterator[Failure]:
    for outcome in tables.last_outcomes(run).values():
        if outcome.status in ("failed", "timeout", "invalid"):
            yield Failure(
                trial=outcome.trial,
                subject=outcome.subject,
                kind=outcome.kind,
                round=outcome.round,
                status=outcome.status,
                reason=outcome.reason,
                fix=outcome.fix,
                log=outcome.log,
            )


def _warnings(header: RunHeader) -> Iterator[str]:
    seen = set()
    findings = (
        f"{finding.name}: {finding.what}" + (f" ({finding.fix})" if finding.fix else "")
        for finding in header.host.findings
        if finding.level != "ok"
    )
    for warning in (*header.warnings, *findings):
        if warning not in seen:
            seen.add(warning)
            yield warning


def several_modes(subjects: Iterable[SubjectFigures]) -> Iterator[str]:
    """One sentence for each figure whose values lie in several heaps."""
    for subject in subjects:
        for figure in subject.figures:
            if figure.modes:
                said = words.modes(figure)
                yield f"{subject.label}, {figure.title}: {said} of the values; a median between them stands for none"


def _notes(run: Run) -> Iterator[str]:
    yield from run.notes
    unknown = sorted({sample.metric for sample in run.samples} - METRICS.keys())
    if unknown:
        yield f"metrics that this tare does not know are left out: {', '.join(unknown)}"
    labels = {subject.label for subject in run.header.subjects}
    strangers = sorted({sample.subject for sample in run.samples} - labels)
    if strangers:
        yield f"samples of subjects that the header does not name are left out: {', '.join(strangers)}"


def _contract(header: RunHeader, subjects: Sequence[SubjectFigures]) -> Contract:
    memory = tuple(sorted({subject.memory_bytes for subject in subjects}))
    cpus = tuple(sorted({subject.cpus for subject in subjects}))
    argv = tuple(dict.fromkeys(subject.argv for subject in subjects if subject.argv))
    parts = (("the payload's arguments", argv), ("memory", memory), ("processors", cpus))
    differ = [name for name, values in parts if len(values) > 1]
    return Contract(
        sentence=(
            f"The subjects differ in {' and '.join(differ)}; all else was the same."
            if differ
            else "Every subject ran the same payload under the same grant."
        ),
        ready=header.ready,
        cache=header.cache,
        memory_bytes=memory,
        cpus=cpus,
        argv=argv,
        timeout_seconds=header.timeout_s,
        rounds=header.rounds,
        warmup=header.warmup,
        seed=header.seed,
    )


def _host(host: Host) -> HostFacts:
    return HostFacts(
        cpu_model=host.cpu_model,
        cpus=host.cpus,
        memory_bytes=host.memory_bytes,
        kernel=host.kernel,
        cgroup_mode=host.cgroup_mode,
        virtualization=host.virtualization,
        facts=host.facts,
        findings=host.findings,
    )


def _limits(header: RunHeader, subjects: Sequence[SubjectFigures], weighed: Weighed | None) -> Iterator[str]:
    """What the numbers of this run do not say."""
    if weighed:
        yield from sentences.limits(header, weighed)
        yield "What other hosts would show: another kernel, another number of processors, other sizes of its objects."
        return
    if measures.probe(header) == "least-memory":
        yield "What a real service needs: the payload does next to nothing."
        yield (
            "What all of it costs the host: the grant of a process or container bounds what its cgroup is charged "
            "with, a virtual machine's is what its guest sees. `tare run memory` weighs the rest."
        )
        return
    if any(subject.result_class == "emulated" for subject in subjects):
        yield (
            "How long a virtual machine takes to start with hardware acceleration. Here its instructions were emulated "
            "in software (TCG), which is many times slower, and takes more memory."
        )
    yield "Which isolation is safer. The walls of each subject are listed, not tested."
    yield "How fast a workload runs once it is ready: throughput, input and output, network."
    if header.host.virtualization not in ("", "none"):
        yield (
            f"What bare metal would show: this host is itself a virtual machine ({header.host.virtualization}). "
            "Other hosts give other numbers; ratios carry over better than times, and not exactly."
        )
    else:
        yield "What other hosts would show. Ratios carry over better than times, and not exactly."
    yield "How long an orderly shutdown takes: every stop here is forced (SIGKILL, virDomainDestroy)."
    if any(subject.unlimited for subject in subjects):
        yield "That every subject was held to the grant: where a runner does not enforce a part of it, that is said."
    other = "cold" if header.cache == "warm" else "warm"
    yield f"What a start costs with a {other} page cache: all starts here found it {header.cache}."
