"""Images of layers: what a layer hides, what an image says of its workload, and what is no image."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tare.runners.base import ImageConfig
from tare.runners.image import sources
from tare.runners.image.archives.stream import ImageRefused
from tare.runners.image.shapes.oci import architecture
from tare.runners.image.sources.base import Note
from tests.unit.runners.image.making import docker_archive, file, folder, hard, layout, link, sha, tar

BASE = tar([
    folder("etc"), file("etc/a", b"a"), file("etc/b", b"b"), folder("lib"), file("lib/one", b"1"), link("l", "lib"),
])  # fmt: skip
CONFIG = {
    "Entrypoint": ["/bin/serve"], "Cmd": ["-p", "80"], "Env": ["A=b=c", "EMPTY="], "User": "web:web",
    "WorkingDir": "/srv", "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8080": {}},
}  # fmt: skip


def files(tmp_path: Path, *layers: bytes) -> dict[str, str]:
    """What the image of these layers holds: files with their content, directories with nothing."""
    root = sources.find(f"oci:{layout(tmp_path / 'layout', layers)}", tmp_path / "cache").directory
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else ""
        for path in sorted(root.rglob("*"))
        if not path.is_symlink()
    }


def test_a_layer_adds_replaces_and_hides(tmp_path: Path) -> None:
    above = tar([file("etc/a", b"new"), file("etc/.wh.b"), file(".wh.lib"), file("etc/c", b"c"), file("etc/.wh.none")])
    assert files(tmp_path, BASE, above) == {"etc": "", "etc/a": "new", "etc/c": "c"}


def test_an_opaque_directory_hides_all_of_the_layers_below_and_nothing_of_its_own(tmp_path: Path) -> None:
    base = tar([file("d/old", b"1"), file("d/sub/old", b"2"), file("d/sub/kept", b"3")])
    for number, above in enumerate(
        (
            [file("d/.wh..wh..opq"), file("d/new", b"n"), file("d/sub/new", b"n")],
            [file("d/new", b"n"), file("d/sub/new", b"n"), file("d/.wh..wh..opq")],  # in any order
        )
    ):
        place = tmp_path / str(number)
        place.mkdir()
        assert files(place, base, tar(above)) == {"d": "", "d/new": "n", "d/sub": "", "d/sub/new": "n"}


def test_a_whiteout_counts_for_the_layers_below_alone(tmp_path: Path) -> None:
    above = tar([file("etc/a", b"new"), file("etc/.wh.a"), file("lib/two", b"2"), file(".wh.lib")])
    assert files(tmp_path, BASE, above) == {"etc": "", "etc/a": "new", "etc/b": "b", "lib": "", "lib/two": "2"}


def test_a_third_layer_brings_back_what_the_second_hid(tmp_path: Path) -> None:
    assert files(tmp_path, BASE, tar([file(".wh.lib"), file(".wh.etc")]), tar([file("lib/one", b"again")])) == {
        "lib": "", "lib/one": "again",
    }  # fmt: skip


def test_a_layer_writes_below_a_link_of_the_layer_below_it(tmp_path: Path) -> None:
    found = files(tmp_path, BASE, tar([file("l/two", b"2"), file("l/.wh.one"), hard("three", "l/two")]))
    assert {"lib/two": "2", "three": "2"}.items() <= found.items()
    assert "lib/one" not in found


def test_marks_of_aufs_are_ignored_and_a_plain_tar_has_no_whiteouts(tmp_path: Path) -> None:
    assert files(tmp_path, BASE, tar([folder(".wh..wh.plnk"), file(".wh..wh.aufs")])).keys() == {
        "etc", "etc/a", "etc/b", "lib", "lib/one",
    }  # fmt: skip
    (tmp_path / "plain.tar").write_bytes(tar([file("a"), file(".wh.a")]))
    root = sources.find(f"tar:{tmp_path / 'plain.tar'}", tmp_path / "cache").directory
    assert sorted(path.name for path in root.iterdir()) == [".wh.a", "a"]


def test_what_an_image_says_of_its_workload(tmp_path: Path) -> None:
    wanted = ImageConfig(
        command=("/bin/serve", "-p", "80"), env=(("A", "b=c"), ("EMPTY", "")), cwd="/srv", user="web:web",
        ports=(80, 8080),
    )  # fmt: skip
    assert sources.find(f"oci:{layout(tmp_path / 'one', [BASE], CONFIG)}", tmp_path / "cache").config == wanted
    archive = docker_archive(tmp_path / "two.tar", [BASE], CONFIG)
    assert sources.find(f"docker-archive:{archive}", tmp_path / "cache").config == wanted
    nothing = {"Entrypoint": None, "Cmd": None, "Env": None, "WorkingDir": "", "ExposedPorts": None}
    assert sources.find(f"oci:{layout(tmp_path / 'none', [BASE], nothing)}", tmp_path / "cache").config == ImageConfig()


def test_a_working_directory_that_no_layer_has_is_made(tmp_path: Path) -> None:
    image = sources.find(f"oci:{layout(tmp_path / 'one', [BASE], {'WorkingDir': '/l/app'})}", tmp_path / "cache")
    assert (image.directory / "lib" / "app").is_dir()  # l is a link to lib
    assert (image.directory / "lib" / "one").is_file()
    for wrong in ("/../up", "/etc/a/b"):
        place = layout(tmp_path / wrong.replace("/", "-"), [BASE], {"WorkingDir": wrong})
        with pytest.raises(ImageRefused, match="is not unpacked"):
            sources.find(f"oci:{place}", tmp_path / "cache")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress, bytes])
def test_every_compression_gives_the_same_image(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    plain = sources.find(f"oci:{layout(tmp_path / 'plain', [BASE])}", tmp_path / "cache")
    packed = sources.find(f"oci:{layout(tmp_path / 'packed', [BASE], packed=[pack(BASE)])}", tmp_path / "other")
    (tmp_path / "any").write_bytes(pack(BASE))
    as_tar = sources.find(f"tar:{tmp_path / 'any'}", tmp_path / "cache")
    (tmp_path / "saved").write_bytes(pack(docker_archive(tmp_path / "x", [BASE]).read_bytes()))
    saved = sources.find(f"docker-archive:{tmp_path / 'saved'}", tmp_path / "cache")
    assert packed.digest == plain.digest == as_tar.digest == saved.digest
    assert (as_tar.directory / "etc" / "a").read_text() == "a"


def test_several_streams_in_one_file_are_one(tmp_path: Path) -> None:
    for pack in (gzip.compress, bz2.compress, lzma.compress, zstandard.compress):
        (tmp_path / "any").write_bytes(pack(BASE[:1000]) + pack(BASE[1000:]))
        image = sources.find(f"tar:{tmp_path / 'any'}", tmp_path / "cache")
        assert (image.directory / "lib" / "one").read_text() == "1"


def test_docker_s_links_between_layers_are_followed(tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "saved.tar", [BASE, tar([file("x", b"x")]), BASE])
    image = sources.find(f"docker-archive:{archive}:latest", tmp_path / "cache")
    assert (image.directory / "x").read_text() == "x"
    assert image.source == f"docker-archive:{archive}:latest"


def test_a_layout_in_an_archive_is_a_layout(tmp_path: Path) -> None:
    place = layout(tmp_path / "layout", [BASE], CONFIG)
    with tarfile.open(tmp_path / "layout.tar", "w") as archive:
        archive.add(place, ".")
    assert sources.find(f"oci:{tmp_path / 'layout.tar'}", tmp_path / "cache").config.user == "web:web"


def test_what_tare_writes_it_reads(tmp_path: Path) -> None:
    image = sources.find(f"oci:{layout(tmp_path / 'layout', [BASE], CONFIG)}", tmp_path / "cache")
    made = image.shape("oci-archive")
    for word in ("oci", "docker-archive"):
        again = sources.find(f"{word}:{made}", tmp_path / "other")
        assert (again.digest, again.config) == (image.digest, image.config)


# ---- which image -----------------------------------------------------------------------------------------------------


def test_a_tag_chooses_and_without_one_the_only_image_is_taken(tmp_path: Path) -> None:
    place = layout(layout(tmp_path / "layout", [BASE]), [tar([file("second", b"2")])])
    assert (sources.find(f"oci:{place}:tag1", tmp_path / "cache").directory / "second").exists()
    assert not (sources.find(f"oci:{place}:tag0", tmp_path / "cache").directory / "second").exists()
    with pytest.raises(ImageRefused, match="it has 2 images") as caught:
        sources.find(f"oci:{place}", tmp_path / "cache")
    assert caught.value.fix == "name one after a colon: tag0, tag1"
    with pytest.raises(ImageRefused, match="no image 'other'"):
        sources.find(f"oci:{place}:other", tmp_path / "cache")


def test_of_an_image_for_several_machines_that_for_this_one_is_taken(tmp_path: Path) -> None:
    place = layout(tmp_path / "layout", [BASE])
    layout(place, [tar([file("foreign")])], architecture="vax")
    index = json.loads((place / "index.json").read_text())
    for entry, machine in zip(index["manifests"], (architecture(), "vax"), strict=True):
        del entry["annotations"]
        entry["platform"] = {"os": "linux", "architecture": machine}
    inner = json.dumps(index).encode()
    (place / "blobs" / "sha256" / sha(inner)).write_bytes(inner)
    entry = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": f"sha256:{sha(inner)}",
        "size": len(inner),
    }
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    assert (sources.find(f"oci:{place}", tmp_path / "cache").directory / "etc" / "a").exists()


def test_an_image_of_another_machine_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    place = layout(tmp_path / "layout", [BASE], architecture="vax")
    with pytest.raises(ImageRefused, match=r"cannot run here.*linux/vax") as caught:
        sources.find(f"oci:{place}", tmp_path / "cache")
    assert caught.value.fix == f"take the image for linux/{architecture()}"
    assert not (tmp_path / "cache").exists()


# ---- what is no image ------------------------------------------------------------------------------------------------


def _change(place: Path, name: str, old: str, new: str) -> None:
    path = place / name
    path.write_text(path.read_text().replace(old, new))


def _config(place: Path) -> str:
    manifest = json.loads((place / "index.json").read_text())["manifests"][0]["digest"].replace(":", "/")
    digest: str = json.loads((place / "blobs" / manifest).read_text())["config"]["digest"]
    return "blobs/" + digest.replace(":", "/")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda place: (place / "index.json").unlink(), "it has no index.json"),
    "no mark": (lambda place: (place / "oci-layout").unlink(), "it has no oci-layout"),
    "no manifest": (lambda place: _change(place, "index.json", "manifests", "others"), "it has no image"),
    "no JSON": (lambda place: (place / "index.json").write_text("["), "index.json is not what it should be"),
    "deep JSON": (lambda place: (place / "index.json").write_text("[" * 100_000), "is not what it should be"),
    "a digest that is a path": (
        lambda place: _change(place, "index.json", '"sha256:', '"sha256:../../../etc/'), "sha256 and sha512 are known",
    ),
    "no layer": (lambda place: (place / "blobs" / "sha256" / sha(BASE)).unlink(), "is not in it"),
    "another layer": (
        lambda place: (place / "blobs" / "sha256" / sha(BASE)).write_bytes(tar([file("x")])), "has another digest",
    ),
    "another configuration": (lambda place: _change(place, _config(place), "linux", "Linux"), "it is damaged"),
    "a configuration of gigabytes": (
        lambda place: (place / "index.json").write_bytes(b" " * (9 << 20)), "has 9437184 bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_image_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    spoil, words = BROKEN[name]
    place = layout(tmp_path / "layout", [BASE])
    spoil(place)
    with pytest.raises(ImageRefused, match=words) as caught:
        sources.find(f"oci:{place}", tmp_path / "cache")
    assert caught.value.fix
    left = tmp_path / "cache" / "images"
    assert not left.exists() or list(left.iterdir()) == []


def test_a_layer_of_another_type_is_refused(tmp_path: Path) -> None:
    place = layout(tmp_path / "layout", [BASE])
    manifest = (
        place / "blobs" / json.loads((place / "index.json").read_text())["manifests"][0]["digest"].replace(":", "/")
    )
    text = manifest.read_bytes().replace(b"layer.v1.tar", b"layer.v1.tar+gzip+encrypted")
    (manifest.parent / sha(text)).write_bytes(text)
    _change(place, "index.json", manifest.name, sha(text))
    with pytest.raises(ImageRefused, match=r"a layer of the type .*encrypted"):
        sources.find(f"oci:{place}", tmp_path / "cache")


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    note: Note = lambda what, done: told.append((what, done))  # noqa: E731
    place = layout(tmp_path / "layout", [tar([file("a", b"x" * 300_000)])])
    sources.find(f"oci:{place}", tmp_path / "cache", note)
    assert told[-1][0] == f"unpacking oci:{place}"
    assert told[-1][1] >= 300_000
