"""Archives of a stranger: each is refused with a reason, or does no harm. Nothing beside the image is ever touched."""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tare.runners.image import kept, sources
from tare.runners.image.archives import stream as streams
from tare.runners.image.archives import unpack
from tare.runners.image.archives.stream import ImageRefused
from tests.unit.runners.image.making import Member, file, folder, hard, layout, link, member, tar, write

OUTSIDE = "what a stranger must not touch"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a file and a directory beside the cache, as links out of an image would find them."""
    (tmp_path / "secret").write_text(OUTSIDE)
    (tmp_path / "etc").mkdir(mode=0o750)
    (tmp_path / "etc" / "passwd").write_text(OUTSIDE)
    return tmp_path


def image(place: Path, members: Sequence[Member]) -> Path:
    """The directory of the image of *members*; asserts that nothing else was changed."""
    return made(place, write(place / "image.tar", members))


def made(place: Path, archive: Path) -> Path:
    before = {path: looks(path) for path in (place / "secret", place / "etc", place / "etc" / "passwd")}
    try:
        return sources.find(f"tar:{archive}", place / "cache").directory
    except ImageRefused:
        left = kept.place(place / "cache")
        assert not left.exists() or list(left.iterdir()) == []
        raise
    finally:
        assert (place / "secret").read_text() == (place / "etc" / "passwd").read_text() == OUTSIDE
        assert {path: looks(path) for path in before} == before
        assert sorted(path.name for path in place.iterdir() if path.name != "cache" and path != archive) == [
            "etc",
            "secret",
        ]


def looks(path: Path) -> tuple[int, ...]:
    status = path.lstat()
    return (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_mtime_ns)


def up(place: Path) -> str:
    """As many ``..`` as lead from an image to the root of the host, and from there to *place*."""
    return "../" * 40 + str(place).lstrip("/")


REFUSED = {
    "a name that leads up": lambda place: [file("../secret", b"x")],
    "a name that leads up and down again": lambda place: [file("a/../b", b"x")],
    "a name that leads to the host": lambda place: [file(f"{up(place)}/secret", b"x")],
    "a hard link that leads up": lambda place: [hard("a", f"{up(place)}/secret"), file("a", b"x")],
    "a hard link to a file of the host": lambda place: [hard("a", f"{place}/secret")],
    "a hard link to a file of the host through a link": lambda place: [link("d", str(place)), hard("a", "d/secret")],
    "a hard link to a directory": lambda place: [folder("d"), hard("a", "d")],
    "a hard link to nothing": lambda place: [hard("a", "b")],
    "a hard link to what comes later": lambda place: [hard("a", "b"), file("b")],
    "a name below a file": lambda place: [file("a"), file("a/b")],
    "a name below a link to a file": lambda place: [file("a"), link("l", "a"), file("l/b")],
    "links in a circle": lambda place: [link("a", "b"), link("b", "a"), file("a/c")],
    "a link to itself": lambda place: [link("a", "a"), file("a/c")],
    "a root that is a link": lambda place: [link(".", str(place / "etc")), file("passwd", b"x")],
    "a root that is a file": lambda place: [file("./", b"x", type=tarfile.REGTYPE)],
    "a link to nowhere": lambda place: [link("a", "")],
    "a type that nobody knows": lambda place: [member("a", b"Z")],
    "a name of a thousand directories": lambda place: [file("d/" * 1000 + "a")],
    "a name that no file system takes": lambda place: [file("n" * 300)],
    "an owner that is none": lambda place: [file("a", uid=0xFFFFFFFF)],
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(name: str, place: Path) -> None:
    if "owner" in name and os.geteuid() != 0:
        assert image(place, REFUSED[name](place)).is_dir()  # a user's files are the user's, whatever the archive says
        return
    with pytest.raises(ImageRefused) as caught:
        image(place, REFUSED[name](place))
    assert caught.value.why
    assert caught.value.fix


def test_a_refusal_names_the_archive_the_member_and_the_reason(place: Path) -> None:
    with pytest.raises(ImageRefused) as caught:
        image(place, [file("../secret", b"x")])
    assert str(place / "image.tar") in caught.value.what
    assert caught.value.why == "its member '../secret': ../secret leads out of a directory by '..'"


def test_an_absolute_name_is_one_below_the_root_of_the_image(place: Path) -> None:
    root = image(place, [file(f"{place}/secret", b"mine"), file("//bin//sh", b"sh"), file("/", type=tarfile.DIRTYPE)])
    assert (root / str(place).lstrip("/") / "secret").read_text() == "mine"
    assert (root / "bin" / "sh").read_text() == "sh"


def test_a_parent_that_is_a_link_is_followed_within_the_image(place: Path) -> None:
    members = [
        link("etc", str(place / "etc")),
        file("etc/passwd", b"mine"),
        link("up", up(place)),
        file("up/secret", b"s"),
    ]
    root = image(place, members)
    assert (root / str(place).lstrip("/") / "etc" / "passwd").read_text() == "mine"
    assert (root / str(place).lstrip("/") / "secret").read_text() == "s"


def test_the_end_of_a_name_is_replaced_and_not_followed(place: Path) -> None:
    root = image(
        place,
        [
            link("a", str(place / "secret")), file("a", b"mine"), link("d", str(place / "etc")),
            folder("d", mode=0o700), link("p", str(place / "secret")), member("p", tarfile.FIFOTYPE),
        ],
    )  # fmt: skip
    assert (root / "a").read_text() == "mine"
    assert not (root / "a").is_symlink()
    assert stat.S_ISDIR((root / "d").lstat().st_mode)
    assert stat.S_ISFIFO((root / "p").lstat().st_mode)


def test_a_directory_that_became_a_link_takes_no_mode_out_of_the_image(place: Path) -> None:
    members = [
        folder("d"),
        folder("d/etc", mode=0o777),
        file("d", b""),
        link("d", str(place)),
        folder("d/etc", mode=0o777),
    ]
    root = image(place, members)
    assert (root / "d").readlink() == place


def test_a_hard_link_is_broken_before_its_file_is_written(place: Path) -> None:
    root = image(place, [file("a", b"first"), hard("b", "a"), file("b", b"second"), hard("a", "a"), hard("c", "/a")])
    assert [(root / name).read_text() for name in "abc"] == ["first", "second", "first"]
    assert (root / "a").stat().st_nlink == 2


def test_devices_are_left_out_and_counted(place: Path) -> None:
    members = [
        folder("dev"), member("dev/kmem", tarfile.CHRTYPE, devmajor=1, devminor=2),
        member("dev/sda", tarfile.BLKTYPE, devmajor=8), member("hidden", tarfile.CHRTYPE), file("a"),
    ]  # fmt: skip
    root = image(place, members)
    assert sorted(path.name for path in root.iterdir()) == ["a", "dev"]
    assert list((root / "dev").iterdir()) == []
    (one,) = kept.every(place / "cache")
    assert one.record.left_out == 3


def test_setuid_is_kept_where_no_other_user_of_the_host_comes_to_it(place: Path) -> None:
    root = image(place, [file("bin/su", b"", mode=0o4755), folder("shared", mode=0o2775), folder("tmp", mode=0o1777)])
    modes = [stat.S_IMODE((root / name).stat().st_mode) for name in ("bin/su", "shared", "tmp")]
    assert modes == [0o4755, 0o2775, 0o1777]
    assert stat.S_IMODE(root.parent.stat().st_mode) == 0o700


def test_attributes_of_an_overlay_are_not_taken(place: Path) -> None:
    held = {"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.x": "1"}
    root = image(place, [file("a", pax_headers=held)])
    assert os.listxattr(root / "a") == []


def test_of_two_members_of_one_name_the_later_is_kept(place: Path) -> None:
    members = [
        file("a", b"1"), file("./a", b"2"), file("x//a", b"3"), file("x/./a", b"4"), folder("d"), file("d/inside"),
        file("d", b"5"), file("e", b"6"), folder("e"), file("e/inside", b"7"),
    ]  # fmt: skip
    root = image(place, members)
    assert [(root / name).read_text() for name in ("a", "x/a", "d", "e/inside")] == ["2", "4", "5", "7"]


def test_names_that_unicode_calls_equal_are_two(place: Path) -> None:
    root = image(place, [file("\u00e9", b"one"), file("e\u0301", b"two"), file("A", b"three"), file("a", b"four")])
    assert (root / "\u00e9").read_text() == "one"
    assert (root / "e\u0301").read_text() == "two"
    assert len(list(root.iterdir())) == 4


# ---- bombs and damage ------------------------------------------------------------------------------------------------


def test_a_bomb_is_refused_by_its_ratio_before_it_fills_the_disk(place: Path) -> None:
    packed = io.BytesIO()
    with gzip.open(packed, "wb", compresslevel=9) as out:
        info = tarfile.TarInfo("bomb")
        info.size = 1 << 30
        out.write(info.tobuf())
        for _ in range(80):
            out.write(b"\0" * (1 << 20))
    (place / "bomb.tar.gz").write_bytes(packed.getvalue())
    with pytest.raises(ImageRefused, match="ratio of a bomb") as caught:
        made(place, place / "bomb.tar.gz")
    assert "dir:PATH" in caught.value.fix


def test_a_file_that_is_nearly_all_hole_counts_as_what_it_says_it_is(place: Path) -> None:
    (place / "hole").touch()
    os.truncate(place / "hole", 1 << 33)
    os.system(f"tar -C {place} --sparse --format=pax -cf {place}/sparse.tar hole && rm {place}/hole")  # noqa: S605
    with pytest.raises(ImageRefused, match="ratio of a bomb"):
        made(place, place / "sparse.tar")


def test_a_sparse_file_of_a_decent_size_is_unpacked(place: Path) -> None:
    with (place / "hole").open("wb") as out:
        out.seek(1 << 20)
        out.write(b"end")
        out.truncate(1 << 21)
    content = (place / "hole").read_bytes()
    os.system(f"tar -C {place} --sparse --format=gnu -cf {place}/sparse.tar hole && rm {place}/hole")  # noqa: S605
    assert (made(place, place / "sparse.tar") / "hole").read_bytes() == content


def test_a_size_limit_holds_whatever_the_ratio(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_BYTES", 1 << 20)
    with pytest.raises(ImageRefused, match="unpacked it is larger than"):
        image(place, [file("large", b"x" * (2 << 20))])


def test_a_number_of_members_is_the_most(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST_MEMBERS", 10)
    with pytest.raises(ImageRefused, match="more than 10 members"):
        image(place, [file(str(number)) for number in range(11)])


def test_a_header_that_would_fill_the_memory_is_refused(place: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    (place / "header.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 4096)
    with pytest.raises(ImageRefused, match="says that it has 8589934592 bytes"):
        made(place, place / "header.tar")


def test_headers_of_headers_end(place: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 10
    chain = (info.tobuf(tarfile.GNU_FORMAT) + b"10 a=bcde\n".ljust(512, b"\0")) * 3000
    (place / "chain.tar").write_bytes(chain + tar([file("a")]))
    with pytest.raises(ImageRefused, match="damaged"):
        made(place, place / "chain.tar")


def test_a_header_that_leads_back_does_not_go_round_for_ever(place: Path) -> None:
    info = tarfile.TarInfo("x")
    info.size = -2048
    (place / "back.tar").write_bytes(
        tar([file("a", b"x" * 4096)])[:4608] + info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024
    )
    with pytest.raises(ImageRefused, match="damaged"):
        made(place, place / "back.tar")


WHOLE = tar([file("a", b"x" * 3000), file("b", b"y" * 3000)])
DAMAGED = {
    "empty": b"",
    "text": b"this is no archive\n" * 100,
    "cut in a file": WHOLE[:2000],
    "cut between files": WHOLE[:3584],
    "cut in a header": WHOLE[:3700],
    "a header that was overwritten": WHOLE[:3584] + b"\xff" * 512 + WHOLE[4096:],
    "packed and cut": gzip.compress(WHOLE)[:-20],
    "packed and changed": gzip.compress(WHOLE)[:-8] + b"\0" * 8,
    "packed text": gzip.compress(b"this is no archive\n" * 100),
    "half of bzip2": b"BZh91AY&SY" + b"\0" * 30,
    "half of xz": b"\xfd7zXZ\x00" + b"\0" * 30,
    "half of zstd": b"\x28\xb5\x2f\xfd" + b"\0" * 30,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_said_and_not_half_used(name: str, place: Path) -> None:
    (place / "image").write_bytes(DAMAGED[name])
    with pytest.raises(ImageRefused, match="is damaged") as caught:
        made(place, place / "image")
    assert str(place / "image") in caught.value.what
    assert caught.value.fix == "make it again, or copy it again"
    assert "it is no tar" in caught.value.why or name not in ("empty", "text", "packed text")


def test_whatever_bytes_change_nothing_is_raised_but_a_refusal(tmp_path: Path) -> None:
    """Members of every kind, with headers whose checksums are right again after some of their bytes were changed."""
    chance = random.Random(15)
    members = [
        folder("d"), file("d/a", b"x" * 700, pax_headers={"SCHILY.xattr.user.a": "b"}), link("l", "d"),
        file("l/b", b"y"), hard("h", "d/a"), file("n" * 200, b"z"), file("d/.wh.a"), member("f", tarfile.FIFOTYPE),
    ]  # fmt: skip
    whole = [tar(members), _sparse(tmp_path, "gnu"), _sparse(tmp_path, "pax")]
    for number in range(400):
        data = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(min(len(data), 12000))] = chance.choice([0, 255, chance.randrange(256), *b"/.07"])
        for at in range(0, min(len(data), 12000) - 511, 512):
            if any(data[at : at + 512]):
                data[at + 148 : at + 156] = b" " * 8
                data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
        packed = tmp_path / "changed.tar"
        packed.write_bytes(bytes(data))
        root = tmp_path / f"root{number}"
        root.mkdir()
        budget = streams.Budget("it", len(data))
        unpacker, source = unpack.Unpacker(str(root), budget), streams.Packed(packed, 0, len(data))
        try:
            unpacker.add(streams.Stream(source, budget), layer=number % 2 == 0)
            unpacker.finish()
        except ImageRefused:
            pass
        finally:
            source.close()
        shutil.rmtree(root)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["changed.tar", "gnu.tar", "pax.tar"]


def _sparse(tmp_path: Path, form: str) -> bytes:
    """A tar with a file of two holes."""
    with (tmp_path / "hole").open("wb") as out:
        for at, text in ((1 << 16, b"one"), (1 << 18, b"two")):
            out.seek(at)
            out.write(text)
        out.truncate(1 << 19)
    words = ("--sparse", f"--format={form}", "-cf", f"{form}.tar", "hole")
    subprocess.run(["tar", *words], check=True, cwd=tmp_path)
    (tmp_path / "hole").unlink()
    return (tmp_path / f"{form}.tar").read_bytes()


# ---- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".wh...", ".wh..", ".wh.", "d/.wh..."])
def test_a_whiteout_of_what_is_above_is_refused(name: str, place: Path) -> None:
    layout(place / "layout", [tar([folder("d")]), tar([file(name)])])
    with pytest.raises(ImageRefused, match="which is no name of a file"):
        sources.find(f"oci:{place / 'layout'}", place / "cache")


def test_a_whiteout_through_a_link_removes_nothing_of_the_host(place: Path) -> None:
    layout(
        place / "layout", [tar([link("out", str(place))]), tar([file("out/.wh.secret"), file("out/etc/.wh..wh..opq")])]
    )
    sources.find(f"oci:{place / 'layout'}", place / "cache")
    assert (place / "secret").read_text() == (place / "etc" / "passwd").read_text() == OUTSIDE


def test_a_layer_replaces_a_link_of_the_layer_below_and_does_not_write_through_it(place: Path) -> None:
    layout(place / "layout", [tar([link("a", str(place / "secret"))]), tar([file("a", b"mine")])])
    assert (sources.find(f"oci:{place / 'layout'}", place / "cache").directory / "a").read_text() == "mine"
    assert (place / "secret").read_text() == OUTSIDE
