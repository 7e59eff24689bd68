"""``tare image``: what it prints, what it keeps, and every kind of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tare.runners.image import kept
from tests import warm
from tests.unit.runners.image.making import docker_archive, file, folder, tar, write


class Cache:
    """A cache of its own, and ``tare image`` with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = path / "cache"

    def __call__(self, *words: str | Path) -> CompletedProcess[str]:
        return warm.tare("image", *words, cwd=self.path, TARE_CACHE=str(self.place))

    def data(self, *words: str | Path) -> Any:
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def image(tmp_path: Path) -> Cache:
    write(tmp_path / "mine.tar", [folder("bin"), file("bin/sh", b"#!" * 600, mode=0o755)])
    return Cache(tmp_path)


def test_an_image_is_built_listed_shown_verified_and_removed(image: Cache) -> None:
    done = image("build", "tar:mine.tar")
    assert (done.returncode, done.stderr) == (0, "")
    source, digest, directory = done.stdout.strip().split("\t")
    assert source == f"tar:{image.path}/mine.tar"
    assert (Path(directory) / "bin" / "sh").is_file()
    assert image("list").stdout.split("\t")[:2] == [source, digest]
    for name in (source, "tar:mine.tar", digest, digest[:10]):
        (shown,) = image.data("show", name)
        assert (shown["source"], shown["digest"], shown["files"], shown["size_bytes"]) == (source, digest, 2, 1200)
    assert image("verify").stdout == f"sound\t{source}\n"
    done = image("rm", "tar:mine.tar")
    assert (done.stdout, done.stderr) == (f"{source}\n", "1 removed\n")
    assert image.data("list") == []


def test_none_is_removed_while_another_uses_or_makes_one(image: Cache) -> None:
    image("build", "tar:mine.tar")
    with kept.in_use(image.place):
        done = image("rm", "--all")
        assert (done.returncode, done.stdout) == (2, "")
        assert "another tare uses or makes images there" in done.stderr
        assert image("build", "tar:mine.tar").returncode == 0, "to use is no reason not to use"
        assert image("build", "--again", "tar:mine.tar").returncode == 2
    with kept.in_use(image.place, alone=True):
        done = image("build", "tar:mine.tar")
        assert (done.returncode, "another tare removes images there" in done.stderr) == (2, True)
    assert image("rm", "--all").returncode == 0


def test_shapes_are_made_with_it_and_go_with_it(image: Cache) -> None:
    made = image.data("build", "tar:mine.tar", "--shape", "tar", "--shape", "oci-archive")
    assert [Path(path).is_file() for path in made["shapes"].values()] == [True, True]
    assert image.data("show", "tar:mine.tar")[0]["shapes"] == sorted(made["shapes"].values())
    assert "as tar" in image("show", "tar:mine.tar").stdout
    image("rm", "tar:mine.tar")
    assert list((image.place / "images").iterdir()) == []


def test_what_is_imported_stays_when_its_file_goes(image: Cache) -> None:
    docker_archive(image.path / "saved.tar", [tar([file("a")])], {"Cmd": ["/a", "b"], "User": "web"})
    made = image.data("import", "saved.tar", "mine")
    (image.path / "saved.tar").unlink()
    assert made["source"] == "image:mine"
    assert image.data("build", "image:mine") == {**made, "shapes": {}}
    assert image.data("show", "image:mine")[0]["config"]["command"] == ["/a", "b"]
    shown = image("show", "image:mine").stdout
    assert "/a b" in shown
    assert "web" in shown


def test_an_image_that_was_changed_is_told_by_exit_code_1(image: Cache) -> None:
    made = image.data("build", "tar:mine.tar")
    (Path(made["directory"]) / "bin" / "sh").write_text("changed")
    done = image("verify", "--json")
    assert (done.returncode, json.loads(done.stdout)[0]["sound"]) == (1, False)
    assert "1 of 1 images changed" in done.stderr
    image("build", "tar:mine.tar", "--again")
    assert image("verify").returncode == 0


def test_all_removes_what_an_interrupted_build_left(image: Cache) -> None:
    image("build", "tar:mine.tar", "--shape", "tar")
    (image.place / "images" / "building-abc").mkdir()
    (damaged,) = (image.place / "images").glob("*/image.json")
    damaged.write_text("{")
    assert image("list").returncode == 6
    assert image("rm", "--all").returncode == 0
    assert list((image.place / "images").iterdir()) == []
    assert image("rm", "--all").stderr == "there is nothing to remove\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build", "tarr:x"], "there is no source of images 'tarr'"),
        (["build", "tar:nowhere.tar"], "there is no file or directory"),
        (["build", "tar:mine.tar", "--shape", "squashfs"], "no shape 'squashfs'"),
        (["build", "host", "--shape", "tar"], "not read as a whole"),
        (["build", "hostile"], "leads out of a directory"),
        (["import", "nowhere", "mine"], "does not exist"),
        (["import", "mine.tar", "Mine!"], "cannot name an image"),
        (["show", "nothing"], "there is no image nothing"),
        (["verify", "nothing"], "there is no image nothing"),
        (["rm"], "give a SOURCE, or --all"),
        (["rm", "x", "--all"], "give a SOURCE, or --all"),
        (["frobnicate"], "there is no verb 'frobnicate'"),
    ],
)
def test_bad_input_is_exit_2_with_what_why_and_fix(image: Cache, words: list[str], said: str) -> None:
    write(image.path / "hostile.tar", [file("../x")])
    done = image(*("tar:hostile.tar" if word == "hostile" else word for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.splitlines()[-1].startswith(" fix: ")
