"""The images of a run: each is made once for all subjects, and so is the answer that it cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tare.bench.errors import UsageError
from tare.bench.experiments import prepare, specification
from tare.bench.records.header import ImageRecord, ProbedSubject
from tare.bench.records.readiness import Exit
from tare.bench.records.resolved import Subject, Workload
from tare.runners.base import Image, ImageConfig, RunnerError
from tare.runners.image import sources
from tare.runners.image.tree import Tree
from tests.unit.runners.image.making import file, folder, tar


def subject(label: str, image: str) -> Subject:
    work = Workload(command=("/bin/sh",), image=image, ready=Exit(code=0))
    return Subject(label=label, runner="process", workload=work, memory_bytes=1 << 26, cpus=1)


@pytest.mark.parametrize("fails", [True, False])
def test_an_image_is_asked_for_once(fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def find(source: str, cache: Path, note: sources.Note) -> Image:
        asked.append(source)
        if fails:
            raise RunnerError("no")
        return Tree(source=source, digest="1", directory=tmp_path, cache=cache)

    monkeypatch.setattr(sources, "find", find)
    found = prepare.images(tmp_path)
    for label in ("one", "two"):
        if fails:
            with pytest.raises(RunnerError, match="no"):
                found(subject(label, "debian:bookworm"))
        else:
            assert found(subject(label, "debian:bookworm")).source == "debian:bookworm"
    assert asked == ["debian:bookworm"]


def test_a_run_does_not_go_on_with_another_image() -> None:
    def probed(digest: str) -> ProbedSubject:
        return ProbedSubject(label="one", image=ImageRecord(source="tar:/a.tar", digest=digest))

    prepare.require_same_class(probed("1"), probed("1"))
    prepare.require_same_class(ProbedSubject(label="one"), probed("1"))
    with pytest.raises(UsageError, match=r"the image tar:/a.tar of one changed: its digest was 1, it is 2"):
        prepare.require_same_class(probed("1"), probed("2"))


def test_what_an_image_says_of_its_workload_counts_and_a_scenario_may_say_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(
        tar(
            [
                folder("bin"),
                folder("srv"),
                file("bin/serve", mode=0o755),
                file("etc/passwd", b"web:x:33:33::/:/bin/sh\n"),
            ]
        )
    )
    made = sources.find(f"tar:{tmp_path / 'a.tar'}", tmp_path / "cache")
    said = ImageConfig(command=("serve", "-p"), env=(("A", "1"), ("B", "2")), cwd="/srv", user="web", ports=(80,))
    image = Tree(source=made.source, digest="1", directory=made.directory, cache=tmp_path, config=said)
    plain = Subject(
        label="one", runner="process", workload=Workload(image="x", ready=Exit(code=0)), memory_bytes=1, cpus=1
    )
    spec = specification.of(plain, image)
    assert (spec.argv, spec.cwd, spec.user.uid, spec.ports) == (("/bin/serve", "-p"), "/srv", 33, (80,))
    assert {"A": "1", "B": "2"}.items() <= dict(spec.env).items()
    own = Workload(
        command=("/bin/serve",), env={"A": "3"}, cwd="/", user="0", ports=(90,), image="x", ready=Exit(code=0)
    )
    other = Subject(label="one", runner="process", workload=own, memory_bytes=1, cpus=1)
    spec = specification.of(other, image)
    assert (spec.argv, spec.cwd, spec.user.uid, spec.ports) == (("/bin/serve",), "/", 0, (90,))
    assert {"A": "3", "B": "2"}.items() <= dict(spec.env).items()
