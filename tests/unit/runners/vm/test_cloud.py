"""What a cloud's disk is told by its seed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tare.runners.base import RunnerError
from tare.runners.vm import options
from tare.runners.vm.machines import cloud, place
from tests.conftest import require


def test_cloud_init_calls_where_there_is_a_network_and_else_says_it_on_the_console(tmp_path: Path) -> None:
    called, said = cloud.user_data(None, tap=True), cloud.user_data(None, tap=False)
    assert called.startswith("#cloud-config\n")
    assert "url: http://10.0.0.1/" in called
    assert said.startswith("#cloud-config\n")
    assert "tare ready" in said
    (tmp_path / "mine").write_text("#!/bin/sh\n")
    assert cloud.user_data(tmp_path / "mine", tap=True) == "#!/bin/sh\n"
    with pytest.raises(RunnerError, match="cannot be read"):
        cloud.user_data(tmp_path / "nothing", tap=True)


def test_its_address_is_that_of_every_guest() -> None:
    wanted = options.read({"boot": "cloud"})
    (card,) = json.loads(cloud.interfaces(wanted, tap=True))["ethernets"].values()
    assert (card["addresses"], card["match"]) == (["10.0.0.2/30"], {"macaddress": "52:54:00:74:61:72"})
    assert json.loads(cloud.interfaces(wanted, tap=False))["ethernets"] == {}
    (card,) = json.loads(cloud.interfaces(options.read({"boot": "cloud", "network": "user"}), tap=False))[
        "ethernets"
    ].values()
    assert card["dhcp4"] is True


def test_the_seed_is_a_file_system_that_cloud_init_looks_for(tmp_path: Path) -> None:
    programs = [shutil.which(name, path=place._PLACES) for name in ("mkfs.vfat", "mcopy", "mlabel")]
    require("machine", all(programs), "mkfs.vfat or mcopy is not installed")
    seed = cloud._seed({"meta-data": "instance-id: x\n", "user-data": "#cloud-config\n"}, tmp_path)
    label = subprocess.run([str(programs[2]), "-i", str(seed), "-s", "::"], capture_output=True, text=True, check=True)
    assert "CIDATA" in label.stdout
    read = [str(programs[1]), "-i", str(seed), "::meta-data", "-"]
    assert subprocess.run(read, capture_output=True, text=True, check=True).stdout == "instance-id: x\n"
