"""A packed run is the run; a packed file that was made to do harm does none."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tare.bench.errors import UsageError
from tare.bench.records import choice, files, packed, store
from tests import cli
from tests.unit.reports import fixture

NAME = "20260203T101112Z-startup-1a2b"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture.write_run(tmp_path_factory.mktemp("packed") / NAME, rounds=5)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are unpacked."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def tarred(file: Path, run: Path, mode: str) -> Path:
    with tarfile.open(file, f"w:{mode}") as archive:  # type: ignore[call-overload]
        archive.add(run, arcname=run.name)
    return file


def zipped(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_what_was_packed_is_the_same_run(run: Path, tmp_path: Path, scratch: Path, kind: str) -> None:
    file = tmp_path / f"run.{kind}"
    if kind == "zip":
        file.write_bytes(packed.pack(run))
    else:
        tarred(file, run, kind.partition(".")[2])
    whole = store.load(run)
    with choice.opened(str(file), tmp_path) as chosen:
        folder = chosen.path
        again = store.load(folder)
        assert (folder.name, chosen.beside("report.html")) == (NAME, tmp_path / f"{NAME}-report.html")
        assert (again.header, again.samples, again.outcomes) == (whole.header, whole.samples, whole.outcomes)
        assert (folder / "logs").is_dir()
        assert (folder / whole.header.subjects[1].manifest[0]).read_text()
    assert list(scratch.iterdir()) == []
    assert not files.half_written


def test_packing_twice_gives_the_same_file_without_pages_and_links(run: Path, tmp_path: Path) -> None:
    copy = fixture.write_run(tmp_path / NAME, rounds=5)
    (copy / "report.html").write_text("a page")
    (tmp_path / "secret").write_text("a secret")
    (copy / "logs" / "link.log").symlink_to(tmp_path / "secret")
    before = packed.pack(copy)
    assert packed.pack(copy) == before == packed.pack(run)
    with zipfile.ZipFile(io.BytesIO(before)) as archive:
        names = archive.namelist()
    assert {f"{NAME}/{name}" for name in ("run.json", "samples.jsonl", "outcomes.jsonl")} <= set(names)
    assert not [name for name in names if "report" in name or "link" in name]


def test_a_directory_that_is_a_link_is_not_packed(tmp_path: Path) -> None:
    run = fixture.write_run(tmp_path / "run", [fixture.subject("process")], rounds=2)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("a secret")
    (run / "logs").symlink_to(tmp_path / "elsewhere")
    assert b"secret" not in packed.pack(run)


def test_one_of_several_runs_is_named_below_its_file(run: Path, tmp_path: Path, scratch: Path) -> None:
    header, rows = (run / "run.json").read_bytes(), (run / "samples.jsonl").read_bytes()
    file = zipped(
        tmp_path / "runs.zip", {f"{name}/{part}": data for name in ("a", "b/c") for part, data in
        (("run.json", header), ("samples.jsonl", rows))},
    )  # fmt: skip
    with pytest.raises(UsageError, match="holds 2 runs") as refused, choice.opened(str(file), tmp_path):
        pass
    assert f"{file}/a, {file}/b/c" in refused.value.fix
    with choice.opened(f"{file}/b/c", tmp_path) as folder:
        assert store.load_header(folder.path).run == NAME
    with pytest.raises(UsageError, match="is not a run"), choice.opened(f"{file}/d", tmp_path):
        pass


def test_an_error_names_the_packed_file_and_not_where_it_was_unpacked(tmp_path: Path, scratch: Path) -> None:
    file = zipped(tmp_path / "run.zip", {"run/run.json": b"{"})
    with pytest.raises(UsageError, match="is damaged") as refused, choice.opened(str(file), tmp_path) as run:
        store.load(run.path)
    assert f"{file}/run/run.json" in str(refused.value)
    assert str(scratch) not in str(refused.value)


def _tar(build: Callable[[tarfile.TarFile], None]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        build(archive)
    return data.getvalue()


def _link(kind: bytes, target: str) -> Callable[[tarfile.TarFile], None]:
    def build(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("run/run.json")
        info.type, info.linkname = kind, target
        archive.addfile(info)

    return build


def _file(name: str) -> Callable[[tarfile.TarFile], None]:
    def build(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = 2
        archive.addfile(info, io.BytesIO(b"{}"))

    return build


def _twice(archive: tarfile.TarFile) -> None:
    for _ in range(2):
        _file("run/run.json")(archive)


def _zip(name: str, mode: int = 0) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, b"../../../etc/passwd")
    return data.getvalue()


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a path upwards": (lambda: _tar(_file("../escaped")), "outside of itself"),
    "a path upwards, deep": (lambda: _tar(_file("run/logs/../../../escaped")), "outside of itself"),
    "a path from the root": (lambda: _tar(_file("/escaped")), "outside of itself"),
    "a path upwards in a zip": (lambda: _zip("../escaped"), "outside of itself"),
    "a path from the root in a zip": (lambda: _zip("/escaped"), "outside of itself"),
    "a symbolic link": (lambda: _tar(_link(tarfile.SYMTYPE, "/etc/passwd")), "something else than files"),
    "a hard link": (lambda: _tar(_link(tarfile.LNKTYPE, "/etc/passwd")), "something else than files"),
    "a device": (lambda: _tar(_link(tarfile.CHRTYPE, "")), "something else than files"),
    "a pipe": (lambda: _tar(_link(tarfile.FIFOTYPE, "")), "something else than files"),
    "a link in a zip": (lambda: _zip("run/run.json", 0o120777), "something else than files"),
    "a text": (lambda: b"nothing packed", "neither a zip nor a tar"),
    "nothing": (lambda: b"", "neither a zip nor a tar"),
    "no run": (lambda: _zip("some/other.txt"), "holds no run"),
    "a torn tar": (lambda: _tar(_file("run/run.json"))[:600] + b"x", ""),
    "a torn gzip": (lambda: b"\x1f\x8b" + b"x" * 50, ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_means_harm_is_refused_and_nothing_is_written(tmp_path: Path, scratch: Path, name: str) -> None:
    make, said = HOSTILE[name]
    file = tmp_path / "run.packed"
    file.write_bytes(make())
    with pytest.raises(UsageError) as refused, choice.opened(str(file), tmp_path) as run:
        store.load(run.path)
    assert str(file) in str(refused.value)
    assert said in str(refused.value)
    assert list(scratch.iterdir()) == []
    assert not list(tmp_path.rglob("escaped"))
    assert not Path("/escaped").exists()


def test_a_file_that_is_packed_twice_is_refused(tmp_path: Path, scratch: Path) -> None:
    file = tmp_path / "run.tar"
    file.write_bytes(_tar(_twice))
    with pytest.raises(UsageError, match="File exists"), choice.opened(str(file), tmp_path):
        pass


def test_no_more_is_unpacked_than_is_allowed(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MOST_BYTES", 1 << 20)
    bomb = zipped(tmp_path / "bomb.zip", {"run/samples.jsonl": bytes(8 << 20), "run/run.json": b"{}"})
    assert bomb.stat().st_size < 1 << 16
    with pytest.raises(UsageError, match="too large"), choice.opened(str(bomb), tmp_path):
        pass
    monkeypatch.setattr(packed, "MOST_FILES", 10)
    many = zipped(tmp_path / "many.zip", {f"run/logs/{number}": b"" for number in range(11)})
    with pytest.raises(UsageError, match="more than 10 files"), choice.opened(str(many), tmp_path):
        pass


@pytest.mark.parametrize("size", [1 << 40, 8 << 20])
def test_a_header_cannot_have_more_read_than_is_allowed(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Names of tar files may be long, and a header says how long: it is believed only so far."""
    monkeypatch.setattr(packed, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(packed, "MOST_FILES", 10)
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, size
    file = tmp_path / "long.tar"
    with file.open("wb") as written:
        written.write(info.tobuf(tarfile.GNU_FORMAT))
        written.truncate(16 << 20)
    with pytest.raises(UsageError, match="too large"), choice.opened(str(file), tmp_path):
        pass


def test_a_signal_leaves_nothing_that_was_unpacked(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.zip"
    file.write_bytes(packed.pack(run))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom tare.bench.host import interrupts\n"
        "from tare.bench.records import choice\ninterrupts.at_the_door()\n"
        f"with choice.opened({str(file)!r}, Path('/')) as run:\n"
        "    assert (run.path / 'run.json').exists()\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    env = cli.environment(TMPDIR=str(scratch))
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=cli.ROOT, check=False, capture_output=True)
    assert (done.returncode, signal.SIGTERM.name in done.stderr.decode()) == (130, True)
    assert os.listdir(scratch) == []
