"""cgroup v2 for real, where the host has v1: a guest is booted once, and each check in it is a test here.

The guest is emulated (TCG), so it runs wherever QEMU does. What it checks is in guest_inside.py.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tare.runners.base import RunnerError
from tare.runners.image import kernel as kernels
from tare.runners.image.cache import cache_dir
from tests.conftest import require
from tests.system import guest_image

HERE = Path(__file__).parent
INSIDE = HERE / "guest_inside.py"
RUNNERS = HERE.parents[1] / "runners"
CHECKS = [
    node.name
    for node in ast.parse(INSIDE.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]
MARK = "tare-check "
#: Some 15 s on a slow machine, of which half is the boot.
DEADLINE_S = 240


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Boot the guest; name of each check -> its answer."""
    emulator = shutil.which("qemu-system-x86_64")
    require("qemu", emulator, "qemu-system-x86_64 is not on PATH")
    busybox = shutil.which("busybox")
    require("qemu", busybox and shutil.which("apt-get"), "busybox-static and apt-get are needed to make the guest")
    assert emulator is not None
    assert busybox is not None
    cache = cache_dir()
    try:
        kernel = kernels.find(cache)
    except RunnerError:
        kernel = kernels.unpack(None, cache)
    directory = tmp_path_factory.mktemp("guest")
    image, results, console = directory / "initramfs", directory / "results", directory / "console"
    guest_image.build(
        image,
        cache,
        busybox=Path(busybox),
        runners=RUNNERS,
        inside=INSIDE,
        modules=guest_image.modules(kernel, cache),
    )
    command = [
        *(emulator, "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "768", "-nodefaults", "-no-user-config"),
        *("-display", "none", "-no-reboot", "-kernel", str(kernel.path), "-initrd", str(image)),
        *("-append", "console=ttyS0 quiet panic=-1 cgroup_no_v1=all"),
        *("-serial", f"file:{console}", "-serial", f"file:{results}"),
    ]
    try:
        subprocess.run(command, check=True, timeout=DEADLINE_S, capture_output=True)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the guest did not end within {DEADLINE_S} s; it said:\n{_tail(console)}\n{_tail(results)}")
    finally:
        image.unlink()
    found = {}
    for line in results.read_text(errors="replace").splitlines():
        _, mark, text = line.partition(MARK)
        if mark:
            answer: dict[str, str] = json.loads(text)
            found[answer["name"]] = answer
    assert found, f"no answers; the guest said:\n{_tail(console)}\n{_tail(results)}"
    return found


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-40:]) if path.exists() else ""


@pytest.mark.parametrize("name", CHECKS)
def test_in_the_guest(name: str, answers: dict[str, dict[str, str]]) -> None:
    assert name in answers, f"the guest got no further than {', '.join(answers)}"
    if answers[name]["skipped"]:
        pytest.skip(answers[name]["skipped"])
    assert not answers[name]["trouble"], answers[name]["trouble"]
