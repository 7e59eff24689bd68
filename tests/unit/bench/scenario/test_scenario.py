"""Scenarios: what is accepted, and that every refusal names the place and the way out."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.bench import experiments
from tare.bench.errors import UsageError
from tare.bench.experiments.rules import StackTable
from tare.bench.records.resolved import Scenario
from tare.bench.scenario import resolve
from tare.runners.nested import options as nested_options
from tare.runners.vm import options as vm_options
from tests import cli, fences

MINIMAL = """
schema = 1
question = "?"
[[subjects]]
label = "a"
runner = "process"
"""


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def _write(text: str) -> Path:
        file = tmp_path / "example.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return _write


@pytest.mark.parametrize("value", ["crun", "./crun", "~/crun", "../here/crun"])
def test_a_file_means_the_same_for_all(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:  # type: ignore[no-untyped-def]
    """Never a program of that name on PATH, nor another one when the run goes on in another directory."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    text = MINIMAL.replace('runner = "process"', f'runner = "crun"\noptions = {{ binary = "{value}" }}')
    assert f"there is no file {value}" in refused(write(text)).why
    (here / "crun").touch()
    (subject,) = [one for one in experiments.scenario(write(text)).subjects if one.runner == "crun"]
    assert Path(str(subject.options["binary"])).is_absolute()
    assert Path(str(subject.options["binary"])).samefile(here / "crun")


@pytest.mark.parametrize("value", ["~nobody-of-that-name/crun", "/proc/self/fd", "", "/dev/null/crun"])
def test_a_file_that_cannot_be_is_refused(write, value: str) -> None:  # type: ignore[no-untyped-def]
    text = MINIMAL.replace('runner = "process"', f'runner = "crun"\noptions = {{ binary = "{value}" }}')
    assert f"there is no file {value}" in refused(write(text)).why


def refused(path: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        experiments.scenario(path)
    assert str(path) in caught.value.what
    return caught.value


def test_shipped_scenarios_are_the_files_beside_this_program() -> None:
    assert sorted(resolve.shipped()) == sorted(file.stem for file in (cli.ROOT / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("name", sorted(resolve.shipped()))
def test_a_shipped_scenario_is_valid_found_by_its_name_and_planned(name: str) -> None:
    loaded = experiments.scenario(resolve.find(name))
    assert loaded.name == name
    assert loaded.subjects
    assert experiments.plan(loaded).trials
    for subject in loaded.subjects:  # what else these runners would refuse only as they probe
        if subject.runner == "vm":
            vm_options.read(subject.options)
        if subject.runner == "nested":
            nested_options.read(subject.options)


DOCUMENTED = {
    f"{document.relative_to(cli.ROOT)}:{block.line}": block.text
    for document in fences.DOCUMENTS
    for block in fences.blocks(document)
    if block.language == "toml" and block.text.startswith("schema = ")
}


@pytest.mark.parametrize("place", DOCUMENTED)
def test_a_scenario_in_a_document_is_valid(place: str, write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Files that the reader of a document has are made; a directory with an absolute path is one beside the file."""
    (tmp_path / "image").mkdir()
    text = re.sub(r'image = "/[^"]*"', 'image = "dir:image"', DOCUMENTED[place])
    for disk in re.findall(r'image = "disk:([^"]*)"', text):
        (tmp_path / disk).touch()
    assert experiments.scenario(write(text)).subjects


def test_defaults_are_filled_in_and_nothing_is_left_to_guess(write) -> None:  # type: ignore[no-untyped-def]
    loaded = experiments.scenario(write(MINIMAL.replace("[[", 'reference = "a"\n[[', 1)))
    assert loaded.run.rounds == 12
    (only,) = loaded.subjects
    assert (only.label, only.memory_bytes, only.cpus) == ("a", 128 << 20, 1)
    assert only.argv == ("/payload", "then=pause")


@pytest.mark.parametrize(
    ("probe", "tells"), [("startup", False), ("memory", True), ("density", True), ("least-memory", False)]
)
def test_instances_of_ascents_tell_what_they_see_all_alike_and_others_do_not(write, probe: str, tells: bool) -> None:  # type: ignore[no-untyped-def]
    text = MINIMAL.replace("[[", f'reference = "a"\nexperiment = "{probe}"\n[[', 1)
    loaded = experiments.scenario(write(text + '[[subjects]]\nlabel = "b"\nrunner = "vm"\ntouch_mib = 4\n'))
    assert {"tell=memory" in subject.argv for subject in loaded.subjects} == {tells}
    assert loaded.subjects[-1].argv[-1] == "then=pause"


def test_the_payload_is_told_how_busy_to_be_by_its_table_its_subject_or_its_matrix(write) -> None:  # type: ignore[no-untyped-def]
    text = MINIMAL.replace("[[", 'reference = "a"\n[payload]\nbusy_percent = 5\n[[', 1)
    text += '[[subjects]]\nlabel = "idle"\nrunner = "process"\nbusy_percent = 0\n'
    text += '[[subjects]]\nlabel = "m{busy_percent}"\nrunner = "process"\nmatrix = { busy_percent = [20, 100] }\n'
    told = {subject.label: subject.argv[1:] for subject in experiments.scenario(write(text)).subjects}
    assert told == {
        "a": ("busy-percent=5", "then=pause"),
        "idle": ("then=pause",),
        "m20": ("busy-percent=20", "then=pause"),
        "m100": ("busy-percent=100", "then=pause"),
    }


@pytest.mark.parametrize("probe", ["memory", "density"])
def test_a_processor_floor_needs_a_window(write, probe: str) -> None:  # type: ignore[no-untyped-def]
    text = MINIMAL.replace("[[", f'reference = "a"\nexperiment = "{probe}"\n[stack]\ncpu_floor_percent = 5\n[[', 1)
    assert experiments.scenario(write(text)).table(StackTable).cpu_floor_percent == 5
    error = refused(write(text.replace("[stack]", "[stack]\nwindow_s = 0")))
    assert "stack.cpu_floor_percent" in error.why
    assert "stack.window_s = 0" in error.why
    assert "window_s" in error.fix


def test_the_process_is_added_where_no_subject_is_one(write) -> None:  # type: ignore[no-untyped-def]
    loaded = experiments.scenario(write(MINIMAL.replace('runner = "process"', 'runner = "null"')))
    assert [subject.label for subject in loaded.subjects] == ["process", "a"]


def test_flags_replace_the_run_table(write) -> None:  # type: ignore[no-untyped-def]
    path = write(MINIMAL.replace("[[", 'reference = "a"\n[run]\nrounds = 3\nseed = 4\n[[', 1))
    assert experiments.scenario(path, {"rounds": 9}).run.rounds == 9
    assert experiments.scenario(path, {"rounds": 9}).run.seed == 4


@pytest.mark.parametrize(
    ("flag", "value", "what", "why"),
    [
        ("rounds", 0, "--rounds 0", "at least 1"),
        ("rounds", 10**30, "--rounds 1000000000000000000000000000000", "at most 10000"),
        ("warmup", -1, "--warmup -1", "at least 0"),
        ("seed", -1, "--seed -1", "at least 0"),
        ("seed", 2**63, "--seed 9223372036854775808", "at most 9223372036854775807"),
        ("timeout_s", 0.0, "--timeout 0.0", "above 0"),
        ("timeout_s", float("nan"), "--timeout nan", "above 0"),
        ("timeout_s", float("inf"), "--timeout inf", "at most 3600"),
    ],
)
def test_a_fault_of_a_flag_is_told_as_the_flags(write, flag: str, value: object, what: str, why: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError) as caught:
        experiments.scenario(write(MINIMAL), {flag: value})
    assert caught.value.what == f"{what} cannot be used"
    assert why in caught.value.why


def test_a_fault_of_the_file_stays_the_files_whatever_the_flags(write) -> None:  # type: ignore[no-untyped-def]
    for text in ("run = 3\n" + MINIMAL, MINIMAL.replace("[[", "[run]\nwarmup = -1\n[[", 1)):
        with pytest.raises(UsageError, match="is not a valid scenario"):
            experiments.scenario(write(text), {"rounds": 9})


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (
            'experiment = "startupp"\n' + MINIMAL,
            "did you mean 'startup'? known: startup, memory, density, least-memory",
        ),
        (MINIMAL.replace("[[", '[run]\ncache = "hot"\n[[', 1), "known: warm, cold"),
        (MINIMAL.replace("schema = 1", "schema = 2"), "known: 1"),
        (
            MINIMAL.replace('"process"', '"dokcer"'),
            "known: null, process, container, container-cold, crun, runc, ",
        ),
        (MINIMAL.replace("[[", 'prices = ["no"]\n[[', 1), "known: "),
        (MINIMAL + "options = { x = 1 }\n", "known: limit"),
    ],
)
def test_what_is_unknown_is_told_with_all_that_there_are(write, text: str, known: str) -> None:  # type: ignore[no-untyped-def]
    assert known in refused(write(text)).fix


def test_a_matrix_has_an_end(write) -> None:  # type: ignore[no-untyped-def]
    many = ", ".join(map(str, range(1, 20)))
    text = MINIMAL + f"matrix = {{ cpus = [{many}], delay_ms = [{many}], busy_percent = [{many}] }}\n"
    assert "more than 200 subjects" in refused(write(text)).why
    tables = "".join(
        f'[[subjects]]\nlabel = "s{n}"\nrunner = "process"\nmatrix = {{ cpus = [{many}] }}\n' for n in range(19)
    )
    assert "361 subjects" in refused(write(f'schema = 1\nquestion = "?"\nreference = "s1-1"\n{tables}')).why


def test_a_label_is_filled_in_and_never_formatted(write) -> None:  # type: ignore[no-untyped-def]
    for place in ("{cpus:>999999999}", "{cpus.__class__}", "{cpus!r}", "{", "}", "{}"):
        text = MINIMAL.replace('label = "a"', f'label = "{place}"') + "matrix = { cpus = [1] }\n"
        assert "label" in refused(write(text)).why


HOSTILE = {
    "arrays": "a = " + "[" * 5000,
    "closed arrays": "question = " + "[" * 250 + "]" * 250,
    "tables": "a = " + "{ b = " * 5000,
    "dotted": "run." + "a." * 20000 + "b = 1",
    "headers": "[" + "a." * 20000 + "b]",
    "digits": "schema = " + "9" * 5000,
    "hexadecimal": "schema = 0x" + "f" * 9000,
    "exponent": "[run]\ntimeout_s = 1e999",
    "not a number": "[run]\ntimeout_s = nan",
    "date": "schema = 2026-01-01",
    "no table": "run = 3\ngrant = []\npayload = 1",
    "NUL": 'question = "\0"',
    "NUL escape": MINIMAL.replace("[[", '[payload]\nrootfs = "\\u0000"\n[[', 1),
    "long key": "k" * 100_000 + " = 1",
    "nobody's home": MINIMAL.replace('"process"', '"vm"') + 'options = { kernel = "~nobody-there/x" }',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_bad_input(write, name: str) -> None:  # type: ignore[no-untyped-def]
    path = write(HOSTILE[name])
    assert str(path) in refused(path).what


def test_a_matrix_becomes_one_subject_for_each_combination(write) -> None:  # type: ignore[no-untyped-def]
    text = MINIMAL + "matrix = { memory_mib = [64, 256], delay_ms = [0, 5] }\n"
    loaded = experiments.scenario(write(text.replace("[[", 'reference = "a-64-0"\n[[', 1)))
    assert [subject.label for subject in loaded.subjects] == ["a-64-0", "a-64-5", "a-256-0", "a-256-5"]
    assert [subject.memory_bytes >> 20 for subject in loaded.subjects] == [64, 64, 256, 256]
    assert loaded.subjects[1].argv == ("/payload", "delay-ms=5", "then=pause")


def test_a_label_may_place_the_values_of_its_matrix(write) -> None:  # type: ignore[no-untyped-def]
    text = MINIMAL.replace('label = "a"', 'label = "p{delay_ms}ms"') + "matrix = { delay_ms = [5] }\n"
    loaded = experiments.scenario(write(text.replace("[[", 'reference = "p5ms"\n[[', 1)))
    assert [subject.label for subject in loaded.subjects] == ["p5ms"]


@pytest.mark.parametrize(
    ("text", "why", "fix"),
    [
        ("[runn]\nrounds = 3", "unknown key 'runn'", "did you mean 'run'?"),
        ("[run]\nround = 3", "the table [run] has an unknown key 'round'", "did you mean 'rounds'?"),
        ('[run]\nrounds = "3"', "run.rounds: expected `int`, got `str`", ""),
        ("[run]\nrounds = 0", "run.rounds: expected `int` >= 1", ""),
        ("[run]\nrounds = 10000000", "run.rounds: expected `int` <= 10000", ""),
        ("[run]\ntimeout_s = -1", "run.timeout_s: expected `float` > 0.0", ""),
        ("[stack]\nwindow_s = -1", "stack.window_s: expected `float` >= 0.0", ""),
        ("[stack]\ncpu_floor_percent = 96", "stack.cpu_floor_percent: expected `float` <= 95.0", ""),
        ("[payload]\nbusy_percent = 101", "payload.busy_percent: expected `int` <= 100", ""),
        ("[payload]\nbusy_percent = 2.5", "payload.busy_percent: expected `int`, got `float`", ""),
        ("[stack]\nwindow_s = 61", "stack.window_s: expected `float` <= 60.0", ""),
        ("[stack]\nwindows_s = 1", "the table [stack] has an unknown key 'windows_s'", "did you mean 'window_s'?"),
        ("[stack]\nksm = 1", "stack.ksm: expected `bool`, got `int`", ""),
        ("[stack]\nksm = true", "stack.ksm has no effect in the experiment 'startup'", "memory, density"),
        ("[grant]\nmemory_mib = -5", "grant.memory_mib: expected `int` >= 4", ""),
        ("[grant]\ncpus = 0", "grant.cpus: expected `int` >= 1", ""),
        ('[run]\ncache = "lukewarm"', "run.cache: invalid enum value 'lukewarm'", ""),
        ('[payload]\nrootfs = "/nowhere/at/all"', "payload.rootfs: there is no directory /nowhere/at/all", '"payload"'),
    ],
)
def test_a_wrong_table_is_named_with_its_key(write, text: str, why: str, fix: str) -> None:  # type: ignore[no-untyped-def]
    error = refused(write('schema = 1\nquestion = "?"\nreference = "a"\n' + text + MINIMAL.split('"?"')[1]))
    assert why in error.why
    assert fix in error.fix


@pytest.mark.parametrize(
    ("old", "new", "why", "fix"),
    [
        ('runner = "process"', 'runner = "proces"', "there is no runner 'proces'", "did you mean 'process'?"),
        ('runner = "process"', 'runner = "crun"\noptions = { binnary = "x" }', "no option 'binnary'", "'binary'"),
        ('runner = "process"', 'runner = "vm"\noptions = { machine = "q53" }', "there is no 'q53'", "one of: q35, pc"),
        ('runner = "process"', 'runner = "vm"\noptions = { accelerator = 1 }', "expected a text, got 1", "auto"),
        ('runner = "process"', 'runner = "vm"\noptions = { kernel = "/no/kernel" }', "there is no file /no/kernel", ""),
        ('runner = "process"', 'runner = "process"\ntouch_mbi = 3', "[subjects[1]]", "did you mean 'touch_mib'?"),
        ('runner = "process"', 'runner = "process"\nmatrix = { cpus = [] }', "matrix.cpus is empty", "at least one"),
        ('runner = "process"', 'runner = "process"\nmatrix = { cpus = ["two"] }', "cpus: expected `int", "matrix"),
        ('runner = "process"', 'runner = "process"\nmatrix = { cpu = [1] }', "no option 'cpu'", "did you mean 'cpus'?"),
        ('runner = "process"', 'runner = "process"\nmatrix = { busy_percent = [101] }', "expected `int` <= 100", ""),
        ('label = "a"', 'label = "a/{x}"', "has a placeholder that its matrix does not have", "known: nothing"),
        ('label = "a"', 'label = "../../etc"', "cannot be used", "letters"),
        ('label = "a"', 'label = ""', "cannot be used", "letters"),
        ("schema = 1", "schema = 2", "schema: invalid enum value 2", ""),
        ('question = "?"', "", "missing key `question`", ""),
        ('question = "?"', 'question = "?"\npairs = [["a", "b"]]', "'b' is not a subject", ""),
        ('question = "?"', 'question = "?"\nreference = "aa"', "'aa' is not a subject", "did you mean 'a'?"),
        ("schema = 1", "schema = = 1", "line 2", ""),
    ],
)
def test_a_wrong_subject_is_named_with_the_near_miss(write, old: str, new: str, why: str, fix: str) -> None:  # type: ignore[no-untyped-def]
    text = MINIMAL.replace(old, new)
    if "reference" not in text:
        text = text.replace("[[subjects", 'reference = "a"\n[[subjects', 1)
    error = refused(write(text))
    assert why in error.why
    assert fix in error.fix


@pytest.mark.parametrize("label", [".", "..", "", " ", "a b", "é", "a\\nb", "a\\u001b[31m", "a" * 41, "-a", "a\\u0000"])
def test_a_label_that_is_no_plain_word_is_refused_by_name(write, label: str) -> None:  # type: ignore[no-untyped-def]
    error = refused(write(MINIMAL.replace('label = "a"', f'label = "{label}"')))
    assert "cannot be used" in error.why
    assert error.why.isprintable()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (b"plain", "plain"),
        (b"two words", "two words"),
        (b"a\nb", "a\\nb"),
        (b"\xff", "\\udcff"),
        ("\xe9".encode(), "\xe9"),
    ],
)
def test_the_name_of_a_scenario_is_a_text_whatever_its_file_is_called(tmp_path: Path, file: bytes, name: str) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + file + b".toml"))
    path.write_text(f'reference = "a"\n{MINIMAL}')
    loaded = experiments.scenario(path)
    assert loaded.name == name
    assert msgspec.json.decode(msgspec.json.encode(loaded), type=Scenario) == loaded


def test_a_root_filesystem_whose_path_is_no_text_is_refused(tmp_path: Path) -> None:
    directory = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    (directory / "root").mkdir(parents=True)
    (directory / "a.toml").write_text(f'reference = "a"\n{MINIMAL}\n[payload]\nrootfs = "root"\n')
    error = refused(directory / "a.toml")
    assert "is not UTF-8" in error.why
    assert "\\udcff" in error.why


def test_labels_are_unique(write) -> None:  # type: ignore[no-untyped-def]
    error = refused(write(MINIMAL + '[[subjects]]\nlabel = "a"\nrunner = "null"\n'))
    assert "the label 'a' is used 2 times" in error.why


def test_a_label_that_the_added_process_has_is_refused_with_that_reason(write) -> None:  # type: ignore[no-untyped-def]
    head, mine = 'schema = 1\nquestion = "?"\n', '[[subjects]]\nlabel = "process"\nrunner = "container"\n'
    error = refused(write(head + mine))
    assert "tare adds a bare process" in error.why
    assert 'runner be "process"' in error.fix
    other = '[[subjects]]\nlabel = "p"\nrunner = "process"\n'
    assert len(experiments.scenario(write(head + mine + other)).subjects) == 2


def test_what_is_no_scenario_file_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    directory = tmp_path / "folder.toml"
    directory.mkdir()
    assert "is a directory" in refused(directory).what
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\x7fELF\xff\xfe")
    assert "not UTF-8" in refused(binary).why
    huge = tmp_path / "huge.toml"
    with huge.open("wb") as file:
        file.truncate(100 << 20)
    assert "at most 256 KiB" in refused(huge).why
    assert "no such file" in refused(tmp_path / "missing.toml").why


def test_an_unknown_name_gets_the_near_miss() -> None:
    with pytest.raises(UsageError) as caught:
        resolve.find("startupp")
    assert caught.value.fix.startswith("did you mean 'startup'? known: busy, calibration, density,")


def test_select_keeps_the_reference_and_whole_pairs_only() -> None:
    loaded = experiments.scenario(resolve.find("startup"))
    chosen = resolve.select(loaded, ["container", "crun"])
    assert [subject.label for subject in chosen.subjects] == ["process", "container", "crun"]
    assert chosen.pairs == (("container", "crun"),)
    with pytest.raises(UsageError, match="--subject containr cannot be used: startup has no such subject"):
        resolve.select(loaded, ["containr"])


@given(st.binary(max_size=400))
def test_no_bytes_whatever_give_a_traceback(tmp_path_factory, data: bytes) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path_factory.mktemp("fuzz") / "any.toml"
    file.write_bytes(data)
    with pytest.raises(UsageError):
        experiments.scenario(file)


def test_memory_can_be_freed_lazily_and_asked_for(write) -> None:  # type: ignore[no-untyped-def]
    text = MINIMAL.replace("[[", 'reference = "a"\nexperiment = "memory"\n[stack]\nreclaim_mib = 8\n[[', 1)
    loaded = experiments.scenario(write(text + 'release = "lazily"\ntouch_mib = 4\n'))
    (only,) = loaded.subjects
    assert (only.own["reclaim_bytes"], "then=release-lazily" in only.argv) == (8 << 20, True)
    assert experiments.scenario(write(text + "reclaim_mib = 0\n")).subjects[0].own["reclaim_bytes"] == 0
    assert "release" in refused(write(text + 'release = "slowly"\n')).why


def test_memory_is_asked_for_in_ascents_alone(write) -> None:  # type: ignore[no-untyped-def]
    text = MINIMAL.replace("[[", 'reference = "a"\n[[', 1)
    assert "reclaim_mib has no effect" in refused(write(text + "reclaim_mib = 4\n")).why


def test_no_subject_is_asked_for_all_that_it_has(write) -> None:  # type: ignore[no-untyped-def]
    text = MINIMAL.replace("[[", 'reference = "a"\nexperiment = "memory"\n[[', 1)
    assert "asks it for 128 of its 128 MiB" in refused(write(text + "reclaim_mib = 128\n")).why


def test_the_old_name_of_the_experiment_is_read_and_said(write) -> None:  # type: ignore[no-untyped-def]
    notes: list[str] = []
    path = write(MINIMAL.replace("[[", 'reference = "a"\nprobe = "memory"\n[[', 1))
    assert experiments.scenario(path, note=notes.append).experiment == "memory"
    assert notes == [f"{path}: 'probe' is the old name of 'experiment'; it still works; please write 'experiment'"]
    done = cli.tare("plan", path)
    assert (done.returncode, done.stderr.count("old name")) == (0, 1)
    both = MINIMAL.replace("[[", 'probe = "memory"\nexperiment = "memory"\n[[', 1)
    assert "both 'experiment' and its old name" in refused(write(both)).why
