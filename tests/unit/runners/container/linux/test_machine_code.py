"""The bytes of the small program are what its assembly source says."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tare.runners.container.linux.exec_stub import machine_code
from tests.conftest import require

HERE = Path(machine_code.__file__).parent
#: Names in the sources that are settled in Python: were one changed there alone, the bytes would differ.
NAMES = ("DATA_AT", "REPORT", "LISTENER")


def tool(machine: str, name: str) -> str:
    """GNU's *name* for *machine*, as Debian calls it everywhere, or the host's own; empty if there is none."""
    names = (f"{machine}-linux-gnu-{name}", *([name] if platform.machine() == machine else []))
    return next(filter(None, map(shutil.which, names)), "")


@pytest.mark.parametrize("machine", machine_code.MACHINES)
def test_the_source_is_assembled_to_the_bytes(machine: str, tmp_path: Path) -> None:
    tools = {name: tool(machine, name) for name in ("as", "objcopy", "readelf")}
    lacking = [name for name, found in tools.items() if not found]
    package = f"binutils-{machine.replace('_', '-')}-linux-gnu"
    require("binutils", not lacking, f"no {' '.join(lacking)} for {machine}; apt-get install {package}")
    names = [f"--defsym={name}={getattr(machine_code, name):#x}" for name in NAMES]
    made, plain = tmp_path / "made.o", tmp_path / "plain"
    subprocess.run([tools["as"], "--fatal-warnings", *names, "-o", made, HERE / f"{machine}.S"], check=True)
    subprocess.run([tools["objcopy"], "-O", "binary", "--only-section=.text", made, plain], check=True)
    code = plain.read_bytes()
    assert code.hex() == machine_code.code(machine).hex(), f"put into machine_code.py: {code.hex()}"
    assert len(code) <= machine_code.ROOM
    headers = subprocess.run(
        [tools["readelf"], "--relocs", "--symbols", made], capture_output=True, text=True, check=True
    ).stdout
    assert "no relocations" in headers, "it runs where it lies, without a linker"
    assert [line.split()[1] for line in headers.splitlines() if line.endswith(" _start")] == ["0" * 16], "entered there"
