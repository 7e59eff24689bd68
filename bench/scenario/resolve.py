"""TOML to Scenario: a well-typed file gets all its defaults, or is refused before anything starts."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from tare import runners
from tare.bench.errors import UsageError
from tare.bench.records import inputs
from tare.bench.records.readiness import Exit
from tare.bench.records.resolved import Option, Scenario, Schedule, Subject, Workload, named
from tare.bench.scenario.design import Designs, Refusal
from tare.bench.scenario.file import MOST_SUBJECTS, ScenarioFile, SubjectTable, fraction, near, parse, words
from tare.bench.stats import precision
from tare.bench.stats.verdict import LEAST_ROUNDS
from tare.runners.image import sources
from tare.runners.image.archives.stream import ImageRefused
from tare.runners.payload import Payload

MIB = 1 << 20


#: The label of the subject that is added, and the runner that makes it.
_TARE = "process"
#: Keys that a subject or a matrix may set in every experiment.
_OVERRIDES = ("memory_mib", "cpus", "delay_ms", "touch_mib", "busy_percent")
_PLACE = re.compile(r"\{([^{}]*)\}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,39}")


def shipped() -> dict[str, Path]:
    """The scenarios that come with tare: name -> file."""
    files = (Path(str(file)) for file in resources.files("tare.scenarios").iterdir())
    return {file.stem: file for file in sorted(files) if file.suffix == ".toml"}


def find(name: str) -> Path:
    """The file meant by *name*: a shipped scenario's name, or a path. Raises UsageError when there is none."""
    known = shipped()
    if name in known:
        return known[name]
    path = Path(name)
    if os.path.lexists(path) or "/" in name or name.endswith(".toml"):
        return path
    raise UsageError(f"there is no scenario '{name}'", "", f"{near(name, known)}; or give the path of a file")


def load(path: Path, designs: Designs, flags: Mapping[str, object], note: Callable[[str], object]) -> Scenario:
    """Read and validate *path*, whose experiment is one of *designs*. *flags* replace keys of ``[run]``.

    *note* is told what has another name today. Raises UsageError; nothing was started then.
    """
    text, file = parse(path, flags, designs, note)
    with inputs.parsing(f"{path} is not a valid scenario", "correct it"):
        return _Resolver(path, file, designs).scenario(text)


def select(scenario: Scenario, labels: Iterable[str]) -> Scenario:
    """The scenario with these subjects alone, and its reference. Raises UsageError for a label it does not have."""
    wanted = set(labels)
    known = {subject.label: subject for subject in scenario.subjects}
    for label in sorted(wanted - known.keys()):
        why = f"{scenario.name} has no such subject"
        raise UsageError(f"--subject {label} cannot be used", why, near(label, known))
    wanted |= {scenario.reference_of(one) for one in wanted}
    return msgspec.structs.replace(
        scenario,
        subjects=tuple(subject for subject in scenario.subjects if subject.label in wanted),
        pairs=tuple(pair for pair in scenario.pairs if set(pair) <= wanted),
    )


def _is_text(path: str) -> bool:
    """Whether *path*, as the system gave it, is UTF-8: other bytes are surrogates in it, which no JSON text holds."""
    return not any("\ud800" <= letter <= "\udfff" for letter in path)


def _shown(name: str) -> str:
    """A file's *name* for records and readers: what cannot be printed is written as in a Python text, ``\\n``."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode("ascii")
        for letter in name
    )


def _plain(found: msgspec.Struct) -> dict[str, Any]:
    """*found* as the record of a run will give it back."""
    return msgspec.json.decode(msgspec.json.encode(found), type=dict[str, Any])


class _Resolver:
    """Turns a well-typed file into a Scenario, or says what in it is wrong."""

    def __init__(self, path: Path, file: ScenarioFile, designs: Designs) -> None:
        self.path = path
        self.file = file
        self.designs = designs
        self.design = designs[file.experiment]
        self.table = getattr(file, self.design.table, self.design.table_type())
        #: What a subject or a matrix may set, besides the options of its runner.
        self.overrides = (*_OVERRIDES, *(field.name for field in msgspec.structs.fields(self.design.keys_type)))

    def scenario(self, text: str) -> Scenario:
        self._refuse_foreign_keys()
        try:
            self.design.check(self.table)
        except Refusal as refusal:
            raise self._error(refusal.why, refusal.fix) from None
        subjects = [subject for table in self.file.subjects for subject in self._expand(table)]
        # A command of the user's own is run on the host itself only where that was asked for: it may write there.
        own = any(subject.workload is not None for subject in subjects)
        if self.design.adds_process and not own and not any(subject.runner == _TARE for subject in subjects):
            if any(subject.label == _TARE for subject in subjects):
                why = f"the label '{_TARE}' is taken: tare adds a bare process with it, because no subject is one"
                raise self._error(why, f'give your subject another label, or let its runner be "{_TARE}"')
            subjects[:0] = self._with_workloads(SubjectTable(label=_TARE, runner=_TARE), _TARE, {})
        # A workload's subjects stand together: they are compared with each other.
        order = {name: place for place, name in enumerate(self.file.workloads)}
        subjects.sort(key=lambda one: order.get(one.workload.name, 0) if one.workload else 0)
        labels = [subject.label for subject in subjects]
        if len(labels) > MOST_SUBJECTS:
            raise self._error(f"it has {len(labels)} subjects", f"a scenario can have at most {MOST_SUBJECTS}")
        for label in labels:
            if labels.count(label) > 1:
                raise self._error(
                    f"the label '{label}' is used {labels.count(label)} times", "give each subject a label of its own"
                )
        known = {subject.base for subject in subjects}
        reference = self.file.reference
        if own and reference == _TARE and reference not in known:  # which is what nobody said
            reference = subjects[0].base
        for label in (reference, *itertools.chain.from_iterable(self.file.pairs)):
            if label not in known:
                raise self._error(f"'{label}' is not a subject of this scenario", near(label, known))
        pairs = [
            (named(work, first), named(work, second))
            for first, second in self.file.pairs
            for work in self.file.workloads or [""]
        ]
        return Scenario(
            name=_shown(self.path.stem),
            text=text,
            question=self.file.question,
            experiment=self.file.experiment,
            reference=reference,
            pairs=tuple(pair for pair in pairs if set(pair) <= set(labels)),
            prices=self._prices(),
            run=self._schedule(),
            tables={self.design.table: _plain(self.table)} if self.design.table else {},
            rootfs=self._rootfs(),
            subjects=tuple(subjects),
        )

    def _schedule(self) -> Schedule:
        """``[run]``, with the least and the largest number of rounds where their number follows from the precision."""
        told = self.file.run
        wanted = fraction(told.precision)
        if not wanted and told.max_rounds:
            why = "run.max_rounds has no effect without run.precision"
            raise self._error(why, 'add precision = "5%" (or --until-precise 5%), or leave it out')
        if not wanted:
            return Schedule(**{**msgspec.structs.asdict(told), "precision": 0.0})
        if not self.design.precise:
            why = f"the experiment '{self.file.experiment}' has no figure that more rounds could make precise"
            raise self._error(f"run.precision cannot be used: {why}", "leave it out, and say rounds")
        least = max(told.rounds, LEAST_ROUNDS)
        most = told.max_rounds or min(precision.MOST_TIMES * least, 10_000)
        if most < least:
            why = f"run.max_rounds is {most}, and the least number of rounds is {least}"
            raise self._error(why, f"give at least {least}")
        changed = {"precision": wanted, "rounds": least, "max_rounds": most}
        return Schedule(**{**msgspec.structs.asdict(told), **changed})

    def _refuse_foreign_keys(self) -> None:
        """Raise UsageError for a key that the file's experiment does not know, and in which one might believe."""
        foreign = {one.table: one for one in self.designs.values() if one.table != self.design.table and one.exclusive}
        for design in foreign.values():
            for key in sorted(design.exclusive):
                own = getattr(getattr(self.file, design.table, None), key, None)
                if own or any(getattr(subject, key, None) for subject in self.file.subjects):
                    where = f"{design.table}.{key}" if own else key
                    known = [name for name, one in self.designs.items() if one.table == design.table]
                    why = f"{where} has no effect in the experiment '{self.file.experiment}'"
                    raise self._error(why, f"leave it out, or use one of the experiments {', '.join(known)}")

    def _prices(self) -> tuple[str, ...]:
        known = {Path(str(file)).stem for file in resources.files("tare.scenarios").joinpath("prices").iterdir()}
        for name in self.file.prices:
            if name not in known:
                raise self._error(f"there is no price book '{name}'", near(name, sorted(known)))
        return tuple(self.file.prices)

    def _rootfs(self) -> str | None:
        if self.file.payload.rootfs == "payload":
            return None
        return self._directory("payload.rootfs", self.file.payload.rootfs)

    def _directory(self, key: str, said: str) -> str:
        """The absolute path of the directory *said*, which the file has as *key*; a relative one is beside the file."""
        place = Path(said)
        place = place if place.is_absolute() else self.path.parent / place
        if not place.is_dir():
            fix = 'give a directory, or "payload" for the built-in image'
            raise self._error(f"{key}: there is no directory {place}", fix)
        resolved = str(place.resolve())
        if not _is_text(resolved):
            why = f"{key}: the path {_shown(resolved)} is not UTF-8, and a run's record is"
            raise self._error(why, "rename the directory, or move it")
        return resolved

    def _expand(self, table: SubjectTable) -> Iterable[Subject]:
        self._check_runner(table)
        for key, values in table.matrix.items():
            if not values:
                raise self._error(f"subject '{table.label}': matrix.{key} is empty", "give at least one value")
        if math.prod(len(values) for values in table.matrix.values()) > MOST_SUBJECTS:
            why = f"subject '{table.label}': its matrix makes more than {MOST_SUBJECTS} subjects"
            raise self._error(why, "give fewer values")
        for combination in itertools.product(*table.matrix.values()):
            chosen = dict(zip(table.matrix, combination, strict=True))
            yield from self._with_workloads(table, self._label(table.label, chosen), chosen)

    def _with_workloads(self, table: SubjectTable, label: str, chosen: Mapping[str, Option]) -> Iterator[Subject]:
        """The subject *label* with each workload of the file that it is to run; with the only one, if there is one."""
        several = self.file.workloads
        if several and (self.file.workload or table.workload):
            raise self._error("it has [workload] and [workloads.NAME]", "give every workload a name, or have one alone")
        for name in table.workloads:
            if name not in several:
                raise self._error(f"subject '{label}': there is no [workloads.{name}]", near(name, several))
        for name in table.workloads or several or [""]:
            yield self._subject(table, self._label(named(name, label), {}), chosen, name)

    def _subject(self, table: SubjectTable, label: str, chosen: Mapping[str, Option], work_name: str) -> Subject:
        overrides = {key: chosen[key] for key in self.overrides if key in chosen}
        try:  # a matrix holds values of any type: judge them as the keys that they stand for
            table = msgspec.convert({**msgspec.to_builtins(table), **overrides}, type(table))
        except msgspec.ValidationError as error:
            raise self._error(f"subject '{label}': {words(str(error))}", "correct that value of the matrix") from None
        grant, work = self.file.grant, self.file.payload
        told = Payload(
            delay_ms=work.delay_ms if table.delay_ms is None else table.delay_ms,
            touch_mib=work.touch_mib if table.touch_mib is None else table.touch_mib,
            release=work.release if table.release is None else table.release,
            tell="memory" if self.design.tells_memory else "",
            busy_percent=work.busy_percent if table.busy_percent is None else table.busy_percent,
        )
        options = {**table.options, **{key: value for key, value in chosen.items() if key not in self.overrides}}
        options = self._checked_options(label, table.runner, options)
        memory_bytes = (grant.memory_mib if table.memory_mib is None else table.memory_mib) * MIB
        own = self._own(label, table, memory_bytes)
        return Subject(
            label=label,
            runner=table.runner,
            options=options,
            payload=told,
            workload=self._workload(label, table, work_name),
            memory_bytes=memory_bytes,
            cpus=grant.cpus if table.cpus is None else table.cpus,
            own=own,
        )

    def _workload(self, label: str, table: SubjectTable, name: str) -> Workload | None:
        """What this subject runs instead of the payload: the workload *name*, or the only one."""
        work = self.file.workloads[name] if name else table.workload or self.file.workload
        if work is None:
            return None
        if self.file.payload != type(self.file.payload)():
            why = "it has a [workload] and a [payload], and an instance runs one of them"
            raise self._error(why, "leave [payload] out, or [workload]")
        known = next((key for key in ("delay_ms", "touch_mib", "release", "busy_percent") if getattr(table, key)), None)
        if known:
            why = f"subject '{label}': {known} belongs to the payload, and it runs a workload of your own"
            raise self._error(why, f"leave {known} out")
        try:
            image = sources.absolute(work.image, self.path.parent)
        except ImageRefused as refused:
            raise self._error(f"workload.image: {refused}", refused.fix) from None
        if not _is_text(image):
            why = f"workload.image: the path in {_shown(image)} is not UTF-8, and a run's record is"
            raise self._error(why, "rename it, or move it")
        resolved = work.resolved(name, image)
        if self.design.keeps and isinstance(resolved.ready, Exit):
            why = f"subject '{label}': its workload is ready when it has ended, and the experiment"
            what = f"'{self.file.experiment}' reads what instances hold that go on"
            raise self._error(f"{why} {what}", "give it another ready, such as a line")
        return resolved

    def _own(self, label: str, table: SubjectTable, memory_bytes: int) -> dict[str, Any]:
        """What the experiment makes of the keys that it added, and of its table, for this subject."""
        names = (field.name for field in msgspec.structs.fields(self.design.keys_type))
        keys = self.design.keys_type(**{name: getattr(table, name, None) for name in names})
        try:
            found = self.design.own(self.table, keys, memory_bytes)
        except Refusal as refusal:
            raise self._error(f"subject '{label}': {refusal.why}", refusal.fix) from None
        return {} if found is None else _plain(found)

    def _label(self, label: str, chosen: Mapping[str, Option]) -> str:
        if "{" in label:
            try:
                label = _PLACE.sub(lambda place: str(chosen[place[1]]), label)
            except KeyError:
                raise self._error(
                    f"the label '{label}' has a placeholder that its matrix does not have",
                    f"known: {', '.join(chosen) or 'nothing'}",
                ) from None
        else:
            label = "-".join([label, *(str(value) for value in chosen.values())])
        if not _LABEL.fullmatch(label):
            raise self._error(
                f"the label '{_shown(label)}' cannot be used",
                "use 1 to 40 letters, digits and . _ / + -, and begin with a letter or a digit",
            )
        return label

    def _check_runner(self, table: SubjectTable) -> None:
        if table.runner not in runners.REGISTRY:
            hint = near(table.runner, runners.REGISTRY)
            raise self._error(f"subject '{table.label}': there is no runner '{table.runner}'", hint)
        known = runners.load(table.runner).OPTIONS
        for key in (*table.options, *(key for key in table.matrix if key not in self.overrides)):
            if key not in known:
                hint = near(key, (*known, *self.overrides) if key in table.matrix else known)
                raise self._error(f"subject '{table.label}': the runner {table.runner} has no option '{key}'", hint)

    def _checked_options(self, label: str, runner: str, options: Mapping[str, Option]) -> dict[str, Option]:
        """*options*, judged by what the runner declares; a file's path is absolute, so that all mean the one file.

        Whether the runner's engine is there is not asked here.
        """
        declared = runners.load(runner).OPTIONS
        checked = dict(options)
        for key, value in options.items():
            at, option = f"subject '{label}': options.{key}", declared[key]
            if not isinstance(value, str):
                raise self._error(f"{at}: expected a text, got {value!r}", option.meaning)
            if option.choices and value not in option.choices:
                raise self._error(f"{at}: there is no '{value}'", f"one of: {', '.join(option.choices)}")
            if option.file:
                checked[key] = self._file(at, value, f"correct the path, or leave {key} out")
        return checked

    def _file(self, at: str, value: str, fix: str) -> str:
        try:
            path = Path(value).expanduser().absolute()
            if not path.is_file():
                raise FileNotFoundError
        except (OSError, RuntimeError):  # RuntimeError: ~nobody
            raise self._error(f"{at}: there is no file {value}", fix) from None
        if not _is_text(str(path)):
            raise self._error(f"{at}: the path {_shown(str(path))} is not UTF-8, and a run's record is", "rename it")
        return str(path)

    def _error(self, why: str, fix: str) -> UsageError:
        return UsageError(f"{self.path} is not a valid scenario", why, fix)
