"""A saved state under another name: the definition in it is replaced, and nothing else."""

from __future__ import annotations

import struct
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tare.runners.base import RunnerError
from tare.runners.vm.machines import saved

SAVED = """<domain type='qemu'><name>tare-a-0</name><uuid>e9e23c06-ba80-4f31-b5cb-4980a62ff363</uuid>
<os><type>hvm</type><nvram>/old.fd</nvram></os><devices>
<disk type='file'><driver type='qcow2'/><source file='/old.disk' index='1'/>
<backingStore><source file='/b'/></backingStore>
<target dev='vda' bus='virtio'/></disk>
<disk type='file'><source file='/seed'/><target dev='vdb' bus='virtio'/></disk>
<serial type='unix'><source mode='connect' path='/old-log'/><target type='isa-serial' port='0'/></serial>
<serial type='unix'><source mode='connect' path='/old-con'/><target type='isa-serial' port='1'/></serial>
<console type='unix'><source mode='connect' path='/old-log'/><target type='serial' port='0'/></console>
<channel type='unix'><source mode='bind' path='/old-ctl'/><target type='virtio' name='tare'/></channel>
</devices></domain>"""
WANTED = """<domain><name>tare-a-7</name><os><nvram>/new.fd</nvram></os><devices>
<serial><source mode='connect' path='/new-log'/><target port='0'/></serial>
<serial><source mode='connect' path='/new-con'/><target port='1'/></serial>
<channel><source mode='bind' path='/new-ctl'/><target name='tare'/></channel>
<disk><source file='/new.disk'/><target dev='vda'/></disk><disk><source file='/seed'/><target dev='vdb'/></disk>
</devices></domain>"""
STREAM = b"QEMU's own" * 1000


def test_a_definition_gets_the_name_and_the_files_of_another_instance() -> None:
    domain = ET.fromstring(saved.renamed(SAVED, WANTED))
    assert domain.findtext("name") == "tare-a-7"
    assert domain.findtext("uuid") != "e9e23c06-ba80-4f31-b5cb-4980a62ff363"
    assert domain.findtext("os/nvram") == "/new.fd"
    assert [one.get("file") for one in domain.iterfind("devices/disk/source")] == ["/new.disk", "/seed"]
    assert [one.get("path") for one in domain.iterfind("devices/serial/source")] == ["/new-log", "/new-con"]
    assert [one.get("path") for one in domain.iterfind("devices/channel/source")] == ["/new-ctl"]
    assert "old" not in ET.tostring(domain, encoding="unicode")
    assert domain.find("devices/disk/backingStore") is None, "libvirt finds what is below a disk itself"


def state(file: Path, *, size: int = 4096, version: int = 2, compressed: int = 0, cookie: bytes = b"<cookie/>") -> None:
    first = SAVED.encode() + b"\0"
    field = first + (cookie + b"\0" if cookie else b"")
    head = struct.pack("=16s5I56x", b"LibvirtQemudSave", version, size, 1, compressed, len(first) if cookie else 0)
    file.write_bytes(head + field.ljust(size, b"\0") + STREAM)


@pytest.mark.parametrize("cookie", [b"<cookie/>", b""])
def test_only_the_definition_is_written_anew(tmp_path: Path, cookie: bytes) -> None:
    file = tmp_path / "state"
    state(file, cookie=cookie)
    length = file.stat().st_size
    definition, kept = saved._read(file)
    assert (definition, kept) == (SAVED, cookie)
    saved._write(file, "<domain/>", kept)
    assert saved._read(file) == ("<domain/>", cookie)
    assert (file.stat().st_size, file.read_bytes().endswith(STREAM)) == (length, True)


def test_a_definition_that_does_not_fit_is_refused_and_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "state"
    state(file)
    before = file.read_bytes()
    with pytest.raises(RunnerError, match="4096 fit"):
        saved._write(file, "x" * 5000, b"")
    assert file.read_bytes() == before


@pytest.mark.parametrize("wrong", [{"version": 3}, {"compressed": 2}])
def test_a_file_of_another_form_is_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    state(tmp_path / "state", **wrong)  # type: ignore[arg-type]
    with pytest.raises(RunnerError, match="under another name"):
        saved._read(tmp_path / "state")


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 500])
def test_a_file_that_is_no_saved_state_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(RunnerError, match="under another name"):
        saved._read(tmp_path / "state")
