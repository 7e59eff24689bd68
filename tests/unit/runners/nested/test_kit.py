"""What a machine is given: which options are refused, and what is on the disk with the kit."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tare.runners.base import RunnerError, Spec
from tare.runners.image import sources
from tare.runners.nested import options, system
from tests.conftest import require

MIB = 1 << 20


def spec(root: Path, **wishes: Any) -> Spec:
    root.mkdir(exist_ok=True)
    (root / "serve").touch()
    given: dict[str, Any] = {"argv": ("/serve",), "memory_bytes": 64 * MIB, "cpus": 1, "custom": True, **wishes}
    return Spec(image=sources.find(str(root), root.parent / "cache"), **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"containers": "29"}, "1 to 28"),
        ({"containers": "0"}, "1 to 28"),
        ({"containers": "ten"}, "1 to 28"),
        ({"machine_memory_mib": "64"}, "128 or more"),
        ({"machine_cpus": "-1"}, "1 or more"),
        ({"runtime": "youki"}, "known: tare-oci, crun, runc, podman"),
        ({"keep": "maybe"}, "known: no, yes"),
        ({"uri": "qemu:///system"}, "cannot be used"),
        ({"containers": 10}, "each a text"),
        ({"machine": "microvm"}, "known: q35, pc"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(RunnerError, match=said):
        options.read(given)


def test_a_machine_has_room_for_the_grants_of_all_its_containers(tmp_path: Path) -> None:
    asked = spec(tmp_path / "root")
    wanted = options.read({"containers": "10"}, asked)
    assert 10 * asked.memory_bytes < wanted.memory_bytes < 10 * asked.memory_bytes + 512 * MIB
    assert options.read({"machine_memory_mib": "300", "machine_cpus": "3"}, asked).memory_bytes == 300 * MIB
    assert options.read({"runtime": "crun"}, asked).system.endswith("+crun")


def test_a_system_without_the_runtime_is_refused_with_the_packages_that_it_lacks(tmp_path: Path) -> None:
    image = spec(tmp_path / "root").image
    with pytest.raises(RunnerError) as caught:
        system.check(image, "tare-oci")
    assert "no sh" in caught.value.why
    (image.directory / "bin").mkdir()
    for name in ("sh", "mount"):
        (image.directory / "bin" / name).touch()
    with pytest.raises(RunnerError) as caught:
        system.check(image, "crun")
    assert "no crun" in caught.value.why
    assert "+crun" in caught.value.fix


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    asked = spec(tmp_path / "root", argv=("/serve", "a b"), cwd="/srv")
    target = tmp_path / "kit.ext4"
    system.write_kit(target, asked, asked.image, "tare-oci", 2)
    assert not target.with_suffix(".d").exists()
    return target


def read(disk: Path, path: str) -> str:
    done = subprocess.run(["debugfs", "-R", f"cat {path}", disk], capture_output=True, text=True, check=False)
    require("qemu", done.returncode == 0, "no debugfs")
    return done.stdout


def test_each_place_has_a_bundle_of_its_own(kit: Path) -> None:
    bundles = [json.loads(read(kit, f"/bundles/{system.place(number)}/config.json")) for number in (1, 2)]
    assert [bundle["process"]["args"] for bundle in bundles] == [["/serve", "a b"]] * 2
    assert [bundle["root"]["path"] for bundle in bundles] == [f"/run/containers/c{number}/rootfs" for number in (1, 2)]
    assert [bundle["linux"]["cgroupsPath"] for bundle in bundles] == ["/c1", "/c2"]
    assert bundles[0]["linux"]["resources"]["memory"]["limit"] == 64 * MIB
    assert not read(kit, "/bundles/c3/config.json")


@pytest.mark.parametrize("runtime", options.RUNTIMES)
@pytest.mark.parametrize("name", ["setup", "start", "stop", "remove"])
def test_a_script_is_one_of_the_shell_and_calls_the_runtime(name: str, runtime: options.Runtime) -> None:
    text = system.script(name, runtime)
    assert "@" not in text
    subprocess.run(["/bin/sh", "-n"], input=text, text=True, check=True)
    if name == "start" and runtime != "podman":
        assert f"exec {' '.join(system.words(runtime))} run " in text


def test_podman_is_asked_by_a_command_line_of_each_place(tmp_path: Path) -> None:
    asked = spec(tmp_path / "root", argv=("/serve", "a b"), cwd="/srv", env=(("COLOUR", "blue and green"),))
    target = tmp_path / "kit.ext4"
    system.write_kit(target, asked, asked.image, "podman", 2)
    said = shlex.split(read(target, "/bundles/c2/run"))
    assert said[:2] == ["exec", "podman"]
    assert said[-4:] == ["--rootfs", "/run/containers/c2/rootfs", "/serve", "a b"]
    for option, value in {"--name": "c2", "--cgroup-parent": "/c2", "--memory": str(64 * MIB), "--cpus": "1"}.items():
        assert said[said.index(option) + 1] == value
    assert "COLOUR=blue and green" in said
    assert system.script("start", "podman").rstrip().endswith('exec /bin/sh "/run/kit/bundles/$1/run"')


def test_our_runtime_is_on_the_disk(kit: Path) -> None:
    assert "gc.disable()" in read(kit, "/container/__main__.py")
