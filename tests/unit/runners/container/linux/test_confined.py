"""Root in a user namespace is no root of the host's: what that changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tare.runners.container.cgroup import hierarchies
from tare.runners.container.config.mounts import parse
from tare.runners.container.lifecycle import state
from tare.runners.container.linux import capabilities
from tare.runners.container.reader import Reader
from tare.runners.container.setup import cgroup_mount
from tare.runners.container.warm import leftovers

HOST = "         0          0 4294967295\n"
#: As rootless podman's: the user's own id, then those that /etc/subuid grants.
PODMAN = "         0       1000          1\n         1     100000      65536\n"


@pytest.mark.parametrize(("uid_map", "confined"), [(HOST, False), (PODMAN, True), ("", True)])
def test_confined_is_any_namespace_but_the_first(monkeypatch: pytest.MonkeyPatch, uid_map: str, confined: bool) -> None:
    monkeypatch.setattr(capabilities, "read", {"/proc/self/uid_map": uid_map}.__getitem__)
    assert capabilities.confined() is confined


@pytest.mark.parametrize(
    ("uid", "uid_map", "directory", "root"),
    [
        (0, HOST, "/run/user/7", "/run/tare-oci"),
        (0, HOST, None, "/run/tare-oci"),
        (0, PODMAN, "/run/user/7", "/run/user/7/tare-oci"),
        (0, PODMAN, None, "/run/tare-oci"),
        (7, HOST, "/tmp/x", "/tmp/x/tare-oci"),
        (7, HOST, None, "/run/user/7/tare-oci"),
    ],
)
def test_where_states_are_kept(
    monkeypatch: pytest.MonkeyPatch, uid: int, uid_map: str, directory: str | None, root: str
) -> None:
    monkeypatch.setattr(capabilities, "read", lambda _: uid_map)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if directory is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
    assert state.default_root() == root


def test_without_a_cgroup_of_its_own_a_container_sees_the_callers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    where = os.fspath(tmp_path)
    (tmp_path / "memory" / "ours").mkdir(parents=True)
    monkeypatch.setattr(hierarchies, "read", lambda _: "4:memory:/ours\n3:cpu,cpuacct:/gone\n0::/unified\n")
    layout = hierarchies.Layout(
        "v1",
        {"memory": f"{where}/memory", "cpu": f"{where}/cpu", "cpuacct": f"{where}/cpu"},
        (f"{where}/memory", f"{where}/cpu"),
        None,
    )
    mount = parse(Reader({"destination": "/sys/fs/cgroup", "type": "cgroup"}, "mounts[0]"), directory="/")
    said = " ".join(step.describe() for step in cgroup_mount.cgroup(mount, "", own_namespace=False, layout=layout))
    assert f"{where}/memory/ours" in said
    assert f"{where}/cpu/gone" not in said


def test_the_own_root_is_no_leftover() -> None:
    assert os.getpid() not in dict(leftovers.contained())
