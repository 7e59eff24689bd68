"""Reading kernel images and packages: synthetic ones, in every compression that a kernel may have."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import lz4.block
import pytest
import zstandard

from tare.runners.base import RunnerError
from tare.runners.image import bzimage, kernel

RELEASE = "6.1.0-9-test"


def elf(*, pvh: bool = True, size_bytes: int = 9 << 20) -> bytes:
    """A 64-bit ELF file with one note segment, longer than one LZ4 block."""
    note = struct.pack("<III4sI", 4, 4, 18 if pvh else 6, b"Xen\0", 0x1000000)
    header = b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HHIQQQIHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1) + bytes(6)
    segment = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(note), len(note), 4)
    return (header + segment + note).ljust(size_bytes, b"\xa5")


def lz4_legacy(data: bytes) -> bytes:
    out = bytearray(struct.pack("<I", 0x184C2102))
    for at in range(0, len(data), 8 << 20):
        block = lz4.block.compress(data[at : at + (8 << 20)], store_size=False)
        out += struct.pack("<I", len(block)) + block
    return bytes(out)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "bzip2": lambda data: bz2.compress(data, 1),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ, preset=0),
    "lz4": lz4_legacy,
    "zstd": lambda data: zstandard.ZstdCompressor(level=1).compress(data),
}


def image(payload: bytes, *, protocol: int = 0x020F) -> bytes:
    """A bzImage after boot.rst: boot sector, setup header, two setup sectors, then *payload* at some offset."""
    out = bytearray(3 * 512)
    out[0x1F1] = 2
    out[0x1FE:0x200] = b"\x55\xaa"
    out[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", out, 0x206, protocol)
    struct.pack_into("<H", out, 0x20E, 0x300)
    struct.pack_into("<II", out, 0x248, 64, len(payload))
    text = f"{RELEASE} (someone) #1 SMP\0".encode()
    out[0x500 : 0x500 + len(text)] = text
    return bytes(out) + bytes(64) + payload + b"signature"


def packed(method: str, data: bytes) -> bytes:
    body = PACKERS[method](data)
    return body if method == "gzip" else body + struct.pack("<I", len(data))


@pytest.mark.parametrize("method", PACKERS)
def test_every_compression_is_unpacked(method: str) -> None:
    data = elf()
    assert bzimage.unpack(image(packed(method, data))) == data


def test_an_uncompressed_payload_is_taken_as_it_is() -> None:
    data = elf(size_bytes=4096)
    assert bzimage.unpack(image(data)) == data


@pytest.mark.parametrize("method", PACKERS)
def test_damage_is_found(method: str) -> None:
    body = packed(method, elf())
    with pytest.raises(bzimage.Unreadable):
        bzimage.unpack(image(body[: len(body) // 2] + body[-4:]))


def test_a_wrong_size_is_found() -> None:
    with pytest.raises(bzimage.Unreadable, match="unpacks to"):
        bzimage.unpack(image(PACKERS["xz"](elf()) + struct.pack("<I", 12)))


def test_an_unknown_compression_is_named() -> None:
    with pytest.raises(bzimage.Unreadable, match="89ab0000"):
        bzimage.unpack(image(b"\x89\xab\0\0" + bytes(100)))


def test_a_truncated_image_is_found() -> None:
    with pytest.raises(bzimage.Unreadable, match="promises"):
        bzimage.unpack(image(packed("gzip", elf()))[:4000])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(bzimage.Unreadable, match="zstandard"):
        bzimage.unpack(image(packed("zstd", elf())))


def test_the_pvh_note_is_found_only_where_it_is() -> None:
    assert bzimage.boots_by_pvh(elf())
    assert not bzimage.boots_by_pvh(elf(pvh=False))
    assert not bzimage.boots_by_pvh(b"\x7fELF")
    assert not bzimage.boots_by_pvh(elf()[:70])


def test_release_is_read_from_the_header() -> None:
    assert bzimage.release(image(b"")) == RELEASE


@pytest.mark.parametrize(("data", "why"), [(b"#!/bin/sh\n" * 100, "not an x86 kernel"), (b"", "not an x86 kernel")])
def test_other_files_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(RunnerError, match=why):
        bzimage.check(data, "it")


def test_an_old_protocol_is_refused() -> None:
    with pytest.raises(RunnerError, match=r"2\.05"):
        bzimage.check(image(b"", protocol=0x0205), "it")


BUILT_IN = b"kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio_pci.ko\n"


def package(path: Path, content: bytes, *, release: str = RELEASE) -> Path:
    """What stands in for a .deb: the tar archive that the fake dpkg-deb prints."""
    module = f"./lib/modules/{release}/kernel/drivers/virtio/virtio.ko"
    listed = f"./usr/lib/modules/{release}/modules.builtin"
    first = [("./boot/config-x", b"#"), (module, b"module"), (listed, BUILT_IN)]
    with tarfile.open(path, "w") as archive:
        for name, data in (*first, (f"./boot/vmlinuz-{release}", content), ("./usr/z", b"0" * 99)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o600
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with a fake dpkg-deb and nothing that could reach a network."""
    directory = tmp_path / "tools"
    directory.mkdir()
    script = directory / "dpkg-deb"
    script.write_text(f'#!/bin/sh\n[ "$1" = --fsys-tarfile ] && exec "{sys.executable}" -c "{_CAT}" "$2"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))
    return directory


_CAT = "import sys, shutil; shutil.copyfileobj(open(sys.argv[1], 'rb'), sys.stdout.buffer)"


def test_a_package_becomes_a_kernel(tools: Path, tmp_path: Path) -> None:
    deb = package(tmp_path / "k.deb", image(packed("xz", elf())))
    found = kernel.unpack(deb, tmp_path / "cache")
    assert found.path.name == "vmlinux"
    assert found.path.read_bytes() == elf()
    assert found.release == RELEASE
    assert found.path.parent.name == f"linux-{RELEASE}-{found.digest}"
    assert (found.path.parent / "bzImage").read_bytes() == image(packed("xz", elf()))
    assert (found.path.parent / "release.txt").read_text() == f"{RELEASE}\n"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [found.path.parent.name]
    assert found.modules is not None
    assert {file.name: file.read_bytes() for file in found.modules.iterdir()} == {
        "virtio.ko": b"module", "modules.builtin": BUILT_IN, "selection": b"2",
    }  # fmt: skip
    assert kernel.find(tmp_path / "cache") == found


@pytest.mark.parametrize("lacking", ["modules.builtin", "selection"])
def test_what_an_older_tare_took_out_of_a_package_is_taken_out_again(tools: Path, tmp_path: Path, lacking: str) -> None:
    deb = package(tmp_path / "k.deb", image(packed("xz", elf())))
    first = kernel.unpack(deb, tmp_path / "cache")
    assert first.modules is not None
    (first.modules / lacking).unlink()
    assert kernel.unpack(deb, tmp_path / "cache") == first
    assert (first.modules / lacking).exists()


def test_the_same_package_is_not_unpacked_twice(tools: Path, tmp_path: Path) -> None:
    deb = package(tmp_path / "k.deb", image(packed("xz", elf())))
    first = kernel.unpack(deb, tmp_path / "cache")
    (tools / "dpkg-deb").unlink()
    assert kernel.unpack(deb, tmp_path / "cache") == first


@pytest.mark.parametrize(
    ("payload", "note"), [(packed("xz", elf(pvh=False)), "PVH"), (b"\x89\xab\0\0" + bytes(99), "tare does not know")]
)
def test_a_kernel_that_stays_packed_says_why(tools: Path, tmp_path: Path, payload: bytes, note: str) -> None:
    found = kernel.unpack(package(tmp_path / "k.deb", image(payload)), tmp_path / "cache")
    assert found.path.name == "bzImage"
    assert note in found.note
    assert note in found.describe()
    assert kernel.find(tmp_path / "cache") == found


def test_a_package_without_a_kernel(tools: Path, tmp_path: Path) -> None:
    deb = tmp_path / "k.deb"
    with tarfile.open(deb, "w"):
        pass
    with pytest.raises(RunnerError, match="holds no kernel"):
        kernel.unpack(deb, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_file_that_is_no_package(tools: Path, tmp_path: Path) -> None:
    (tools / "dpkg-deb").write_text("#!/bin/sh\necho 'not a Debian archive' >&2; exit 2\n")
    (tmp_path / "k.deb").write_bytes(b"?")
    with pytest.raises(RunnerError, match="dpkg-deb") as caught:
        kernel.unpack(tmp_path / "k.deb", tmp_path / "cache")
    assert "not a Debian archive" in caught.value.why


def test_without_apt_the_fix_is_told(tools: Path, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="cannot be fetched") as caught:
        kernel.unpack(None, tmp_path / "cache")
    assert "kernel =" in caught.value.fix


def test_apt_is_asked_for_the_real_package(tools: Path, tmp_path: Path) -> None:
    deb = package(tmp_path / "k.deb", image(packed("xz", elf())))
    answer = f'[ "$last" = linux-image-virtual ] && echo " |Depends: linux-image-{RELEASE}"'
    scripts = {
        "dpkg": "echo amd64",
        "apt-cache": f"for last; do :; done; {answer}",
        "apt-get": f'[ "$1 $2" = "download linux-image-{RELEASE}" ] && /bin/cp {deb} ./linux.deb',
    }
    for name, body in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    assert kernel.unpack(None, tmp_path / "cache").release == RELEASE


def test_the_newest_by_number_is_found(tools: Path, tmp_path: Path) -> None:
    for number, release in enumerate(("6.9.1-x", "6.10.0-x", "6.1.0-x")):
        deb = package(tmp_path / f"{number}.deb", image(packed("xz", elf())), release=release)
        kernel.unpack(deb, tmp_path / "cache")
    assert kernel.find(tmp_path / "cache").release == "6.10.0-x"


def test_no_kernel_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="no guest kernel") as caught:
        kernel.find(tmp_path)
    assert "bootstrap" in caught.value.fix


def test_an_explicit_kernel(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(image(packed("xz", elf())))
    assert kernel.find(tmp_path, path).release == RELEASE
    path.write_bytes(elf())
    assert kernel.find(tmp_path, path).path == path
    path.write_bytes(elf(pvh=False))
    with pytest.raises(RunnerError, match="PVH"):
        kernel.find(tmp_path, path)
    with pytest.raises(RunnerError, match="cannot be read"):
        kernel.find(tmp_path, tmp_path)


def test_the_command_prints_the_path_alone(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TARE_CACHE", str(tmp_path / "cache"))
    deb = package(tmp_path / "k.deb", image(packed("xz", elf())))
    assert kernel.main(["--package", str(deb)]) == 0
    printed = capsys.readouterr()
    assert Path(printed.out.strip()).read_bytes() == elf()
    assert printed.err == ""
    (tools / "dpkg-deb").unlink()
    assert kernel.main([]) == 0
    assert capsys.readouterr().out == printed.out


def test_the_command_s_last_lines_say_what_why_and_what_to_do(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TARE_CACHE", str(tmp_path / "cache"))
    assert kernel.main([]) == 6
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 3
