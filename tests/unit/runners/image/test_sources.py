"""Where images come from: what a text means, what is kept, and the programs that are asked."""

from __future__ import annotations

import os
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tare.runners.base import RunnerError
from tare.runners.image import elf, kept, sources
from tare.runners.image.archives.stream import ImageRefused
from tare.runners.image.shapes.oci import architecture
from tare.runners.image.sources import debian, imported
from tare.runners.image.sources.base import silent
from tests.unit.runners.image.making import docker_archive, file, folder, layout, tar, write

# ---- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("host", ("host", "")),
        ("/srv/image", ("dir", "/srv/image")),
        ("image", ("image", "")),
        ("./with:colon", ("dir", "./with:colon")),
        ("podman:localhost/mine:latest", ("podman", "localhost/mine:latest")),
        ("debian:bookworm+nginx", ("debian", "bookworm+nginx")),
    ],
)
def test_a_text_is_a_word_and_what_comes_after_it(source: str, found: tuple[str, str]) -> None:
    if found == ("image", ""):
        with pytest.raises(ImageRefused, match="needs more") as caught:
            sources.split(source)
        assert caught.value.fix.startswith("write image:NAME")
        return
    assert sources.split(source) == found


def test_a_word_that_is_none_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match="no source of images 'podmann'") as caught:
        sources.split("podmann:x")
    assert caught.value.fix.startswith("did you mean 'podman'?")
    with pytest.raises(ImageRefused, match="takes nothing after the colon"):
        sources.split("host:x")


def test_a_relative_path_is_one_beside_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "a.tar").touch()
    place = tmp_path.resolve()
    assert sources.absolute("files", tmp_path) == f"dir:{place}/files"
    assert sources.absolute("tar:a.tar", tmp_path) == f"tar:{place}/a.tar"
    assert sources.absolute("oci:files", tmp_path) == f"oci:{place}/files"
    assert sources.absolute("oci:files:v1", tmp_path) == f"oci:{place}/files:v1"
    assert (
        sources.absolute(f"docker-archive:{place}/a.tar:mine:v1", tmp_path / "x")
        == f"docker-archive:{place}/a.tar:mine:v1"
    )
    for text in ("host", "podman:a/b:c", "debian:bookworm", "image:mine"):
        assert sources.absolute(text, tmp_path) == text
    for text in ("tar:b.tar", "nowhere", "oci:nowhere:v1"):
        with pytest.raises(ImageRefused, match="there is no"):
            sources.absolute(text, tmp_path)


@pytest.mark.parametrize("word", sources.SOURCES)
def test_every_source_says_how_it_is_written(word: str) -> None:
    said = sources.SOURCES[word]
    assert said.form.partition(":")[0] == word
    assert said.meaning


# ---- what is kept ----------------------------------------------------------------------------------------------------


def test_an_image_is_made_once_and_found_again(tmp_path: Path) -> None:
    archive = write(tmp_path / "a.tar", [folder("bin"), file("bin/sh", b"#!")])
    first = sources.find(f"tar:{archive}", tmp_path / "cache")
    stamp = (first.directory.parent / "image.json").stat().st_mtime_ns
    second = sources.find(f"tar:{archive}", tmp_path / "cache")
    assert second == first
    assert (second.directory.parent / "image.json").stat().st_mtime_ns == stamp
    write(archive, [file("bin/sh", b"changed")])
    assert sources.find(f"tar:{archive}", tmp_path / "cache").digest != first.digest


def test_the_record_says_what_an_image_is(tmp_path: Path) -> None:
    archive = write(tmp_path / "a.tar", [file("a", b"x" * 100), file("b", b"y" * 50)])
    sources.find(f"tar:{archive}", tmp_path / "cache").shape("tar")
    (one,) = kept.every(tmp_path / "cache")
    assert (one.record.source, one.record.files, one.record.size_bytes) == (f"tar:{archive}", 2, 150)
    assert len(one.shapes) == 1
    assert one.disk_bytes > 8192
    assert one.sound()
    (one.directory / "a").write_text("changed")
    assert not one.sound()
    kept.remove(one, shapes=True)
    assert list(kept.place(tmp_path / "cache").iterdir()) == []


def test_an_empty_image_and_a_damaged_record_are_said(tmp_path: Path) -> None:
    archive = write(tmp_path / "a.tar", [folder(".")])
    with pytest.raises(ImageRefused, match="is empty"):
        sources.find(f"tar:{archive}", tmp_path / "cache")
    image = sources.find(f"tar:{write(archive, [file('a')])}", tmp_path / "cache")
    (image.directory.parent / "image.json").write_text("{")
    with pytest.raises(RunnerError, match="is damaged") as caught:
        kept.every(tmp_path / "cache")
    assert caught.value.fix == f"rm -r {image.directory.parent}"


def test_an_archive_that_is_given_as_a_tar_is_told_its_word(tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "saved.tar", [tar([file("a")])])
    with pytest.raises(ImageRefused, match="holds an image, and is none itself") as caught:
        sources.find(f"tar:{archive}", tmp_path / "cache")
    assert caught.value.fix == f"write docker-archive:{archive}"


@pytest.mark.parametrize("source", ["tar:/nowhere", "oci:/nowhere", "docker-archive:/nowhere", "dir:/nowhere"])
def test_what_is_not_there_is_said(source: str, tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match="no"):
        sources.find(source, tmp_path)


def test_the_host_s_root_is_no_directory_to_read(tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match="and no end") as caught:
        sources.find("dir:/", tmp_path)
    assert caught.value.fix.startswith("write host")


# ---- images with a name ----------------------------------------------------------------------------------------------


def test_whatever_is_imported_is_found_by_its_name(tmp_path: Path) -> None:
    layer = tar([folder("bin"), file("bin/sh", b"#!", mode=0o755)])
    (tmp_path / "plain.tar").write_bytes(layer)
    (tmp_path / "tree" / "bin").mkdir(parents=True)
    (tmp_path / "tree" / "bin" / "sh").write_text("#!")
    (tmp_path / "tree" / "bin" / "sh").chmod(0o755)
    given = {
        "tar": tmp_path / "plain.tar",
        "tree": tmp_path / "tree",
        "layout": layout(tmp_path / "layout", [layer], {"User": "web"}),
        "saved": docker_archive(tmp_path / "saved.tar", [layer], {"User": "web"}),
    }
    cache = tmp_path / "cache"
    digests = set()
    for name, path in given.items():
        made = imported.bring(path, name, cache, silent)
        again = sources.find(f"image:{name}", cache)
        assert again == made
        assert again.config.user == ("web" if name in ("layout", "saved") else "")
        digests.add(again.digest)
    assert len(digests) == 1


def test_a_name_is_taken_once_and_must_be_one(tmp_path: Path) -> None:
    archive = write(tmp_path / "a.tar", [file("a")])
    imported.bring(archive, "mine", tmp_path / "cache", silent)
    with pytest.raises(ImageRefused, match="there is an image image:mine already"):
        imported.bring(archive, "mine", tmp_path / "cache", silent)
    with pytest.raises(ImageRefused, match="nobody imported it; there are mine"):
        sources.find("image:yours", tmp_path / "cache")
    for name in ("../up", "A", "", "a b", "x" * 64):
        with pytest.raises(ImageRefused, match="cannot name"):
            imported.bring(archive, name, tmp_path / "cache", silent)


# ---- programs --------------------------------------------------------------------------------------------------------


def program(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    # The kernel ends the interpreter of a #! line at the first space, and a checkout's path may hold one.
    (folder / f"{name}.py").write_text(f"import json, os, pathlib, shutil, sys\n{text}")
    (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{folder / name}.py" "$@"\n')
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_an_engine_saves_an_image_and_is_asked_once(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = docker_archive(tmp_path / "saved.tar", [tar([file("a", b"x")])], {"Cmd": ["/a"]})
    program(tmp_path / "bin", engine, f"""
if sys.argv[1:3] == ["image", "inspect"]:
    print("sha256:" + "ab" * 32)
elif sys.argv[1] == "save":
    shutil.copy("{saved}", sys.argv[sys.argv.index("--output") + 1])
    pathlib.Path("{tmp_path}/asked").open("a").write("x")
""", monkeypatch)  # fmt: skip
    image = sources.find(f"{engine}:mine:latest", tmp_path / "cache")
    assert sources.find(f"{engine}:mine:latest", tmp_path / "cache") == image
    assert image.source == f"{engine}:mine:latest"
    assert image.config.command == ("/a",)
    assert (tmp_path / "asked").read_text() == "x"


@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_what_an_engine_says_is_the_reason(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", engine, "sys.exit('Error: no such image')", monkeypatch)
    with pytest.raises(RunnerError, match=rf"cannot use the image {engine}:none.*no such image"):
        sources.find(f"{engine}:none", tmp_path / "cache")
    with pytest.raises(ImageRefused, match="no name of an image"):
        sources.find(f"{engine}:--all", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunnerError, match="there is no program") as caught:
        sources.find(f"{engine}:none", tmp_path / "cache")
    assert caught.value.fix.startswith("apt-get install")


def test_a_debian_system_is_made_by_mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write(tmp_path / "made.tar", [folder("bin"), file("bin/sh", b"#!"), file("dev/null", type=b"3")])
    program(tmp_path / "bin", "mmdebstrap", f"""
pathlib.Path("{tmp_path}/argv").write_text(json.dumps(sys.argv[1:]))
shutil.copy("{made}", sys.argv[-1])
""", monkeypatch)  # fmt: skip
    image = sources.find("debian:bookworm+nginx+curl", tmp_path / "cache")
    assert image.source == "debian:bookworm+curl+nginx"
    assert sorted(path.name for path in image.directory.iterdir()) == ["bin"]
    argv = (tmp_path / "argv").read_text()
    assert '"--include=curl,nginx", "bookworm"' in argv
    assert sources.find("debian:bookworm+curl+nginx", tmp_path / "cache") == image


def test_a_whole_system_is_a_debian_that_boots_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write(tmp_path / "made.tar", [folder("boot"), file("boot/vmlinuz-1", b"kernel")])
    program(tmp_path / "bin", "mmdebstrap", f"""
pathlib.Path("{tmp_path}/argv").write_text(json.dumps(sys.argv[1:]))
shutil.copy("{made}", sys.argv[-1])
""", monkeypatch)  # fmt: skip
    image = sources.find("os:bookworm+nginx", tmp_path / "cache")
    assert image.source == "os:bookworm+nginx"
    argv = (tmp_path / "argv").read_text()
    for package in ("nginx", "linux-image-cloud-amd64", "systemd-sysv", "systemd-boot-efi", "initramfs-tools"):
        assert package in argv
    with pytest.raises(RunnerError, match="no name of a suite") as caught:
        sources.find("os:-x", tmp_path / "cache")
    assert "os:SUITE" in caught.value.fix


def test_a_disk_is_an_image_that_only_its_own_system_looks_into(tmp_path: Path) -> None:
    (tmp_path / "one.qcow2").write_bytes(b"QFI\xfb")
    image = sources.find(f"disk:{tmp_path}/one.qcow2", tmp_path / "cache")
    assert (image.config.machine, image.shape("machine")) == (True, tmp_path / "one.qcow2")
    assert list(image.directory.iterdir()) == []
    assert len(image.digest) == 16
    with pytest.raises(RunnerError, match="no shape 'tar'") as caught:
        image.shape("tar")
    assert "cloud" in caught.value.fix
    with pytest.raises(RunnerError, match="no such file"):
        sources.find(f"disk:{tmp_path}/none", tmp_path / "cache")


def test_what_apt_said_first_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "mmdebstrap", """
print("I: running", "Err:2 there", "E: there is no package x", "E: apt-get failed", sep="\\n", file=sys.stderr)
sys.exit(25)
""", monkeypatch)  # fmt: skip
    with pytest.raises(ImageRefused) as caught:
        sources.find("debian:sid+nginx", tmp_path / "cache")
    assert caught.value.what == "cannot make the image debian:sid+nginx"
    assert caught.value.why.startswith("`mmdebstrap --variant=minbase ")
    assert caught.value.why.endswith(" ended with 25: E: there is no package x")


def test_apt_s_own_settings_are_given_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("10one", "20two.conf", "30three.disabled-by-x", "40four.bak"):
        (tmp_path / name).touch()
    monkeypatch.setattr(debian, "_SETTINGS", tmp_path)
    assert debian.command("bookworm", [], Path("/out.tar")) == [
        "mmdebstrap", "--variant=minbase", f"--aptopt={tmp_path}/10one", f"--aptopt={tmp_path}/20two.conf",
        "bookworm", "/out.tar",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rest", "packages"),
    [
        ("sid", []),
        ("sid+g++", ["g++"]),
        ("sid+libstdc++6+nginx", ["libstdc++6", "nginx"]),
        ("sid+2to3+at", ["2to3", "at"]),
    ],
)
def test_a_plus_in_the_name_of_a_package_is_no_border(
    rest: str, packages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def run(argv: list[str], *_: object) -> None:
        seen.append(argv)
        write(Path(argv[-1]), [file("a")])

    monkeypatch.setattr(debian, "run", run)
    sources.find(f"debian:{rest}", tmp_path / "cache")
    included = [word.removeprefix("--include=").split(",") for word in seen[0] if word.startswith("--include")]
    assert included == ([packages] if packages else [])


@pytest.mark.parametrize("rest", ["--help", "Bookworm", "sid+", "sid+-x", "sid+A", "../x"])
def test_what_is_no_suite_is_no_option_of_mmdebstrap(rest: str, tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match="is no name of a"):
        sources.find(f"debian:{rest}", tmp_path / "cache")


def test_busybox_is_a_shell_with_its_commands(tmp_path: Path) -> None:
    image = sources.find("busybox", tmp_path / "cache")
    assert image.config.command == ("/bin/sh",)
    assert (image.directory / "bin" / "sh").readlink() == Path("/bin/busybox")
    told = subprocess.run([image.directory / "bin" / "busybox", "echo", "hello"], capture_output=True, check=True)
    assert told.stdout == b"hello\n"


def test_a_busybox_with_libraries_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "busybox", "", monkeypatch)
    with pytest.raises(RunnerError, match="linked with libraries") as caught:
        sources.find("busybox", tmp_path / "cache")
    assert caught.value.fix == "apt-get install busybox-static"


# ---- ELF -------------------------------------------------------------------------------------------------------------


def test_an_elf_file_says_for_which_machine_it_is(tmp_path: Path) -> None:
    assert elf.machine(Path(sys.executable)) == architecture()
    assert not elf.is_static(Path("/bin/sh"))
    head = bytearray(Path("/bin/sh").read_bytes()[:64])
    struct.pack_into("<H", head, 18, 183 if platform.machine() == "x86_64" else 62)
    (tmp_path / "foreign").write_bytes(head)
    foreign = elf.machine(tmp_path / "foreign")
    assert foreign in ("arm64", "amd64")
    assert not elf.runs_on(foreign, architecture())
    assert elf.runs_on("386", "amd64")
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert elf.runs_on(elf.machine(tmp_path / "script"), architecture())
    assert elf.machine(tmp_path / "nothing") == ""
