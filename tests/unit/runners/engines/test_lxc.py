"""LXC's configuration and command lines, and what is said of an LXC that is missing or broken; nothing is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tare.runners.base import RunnerError, Spec, User
from tare.runners.container.cgroup import cgroups
from tare.runners.container.cgroup.hierarchies import Layout
from tare.runners.container.config.defaults import DOCKER_CAPABILITIES
from tare.runners.engines import lxc
from tare.runners.image.tree import plain
from tests.unit.runners.engines.script import on_path

V2 = cgroups.V2("tare-1a/load", Layout("v2", {}, (), "/sys/fs/cgroup"))
V1 = cgroups.V1(
    "tare-1a/load", Layout("v1", {name: f"/cg/{name}" for name in ("memory", "pids", "cpu", "cpuacct")}, ("/cg",), None)
)
SPEC = Spec(
    argv=("/payload", "a b"),
    image=plain(Path("/srv/root")),
    memory_bytes=1 << 26,
    cpus=2,
    env=(("NAME", "va lue"),),
    cwd="/srv",
    user=User(uid=33, gid=34, groups=(7, 8)),
)


def lines(spec: Spec = SPEC, *, parent: cgroups.Cgroup | None = None, boot: bool = False) -> list[tuple[str, str]]:
    text = lxc.configuration(spec, parent=parent, boot=boot, filtered=False)
    return [(key, value) for key, _, value in (line.partition(" = ") for line in text.splitlines())]


def test_the_workload_gets_its_rights_its_directory_and_its_environment() -> None:
    told = dict(lines())
    assert (told["lxc.init.uid"], told["lxc.init.gid"], told["lxc.init.groups"]) == ("33", "34", "7,8")
    assert told["lxc.init.cwd"] == "/srv"
    assert told["lxc.environment"] == "NAME=va lue"
    assert told["lxc.cap.keep"].split() == [name.removeprefix("CAP_").lower() for name in DOCKER_CAPABILITIES]


@pytest.mark.parametrize(
    ("parent", "memory", "processors"),
    [
        (V1, ("lxc.cgroup.memory.limit_in_bytes", str(1 << 26)), ("lxc.cgroup.cpu.cfs_quota_us", "200000")),
        (V2, ("lxc.cgroup2.memory.max", str(1 << 26)), ("lxc.cgroup2.cpu.max", "200000 100000")),
    ],
)
def test_the_grant_is_told_in_the_words_of_the_hosts_cgroups(
    parent: cgroups.Cgroup, memory: tuple[str, str], processors: tuple[str, str]
) -> None:
    assert {memory, processors} <= set(lines(parent=parent))


def test_all_of_its_cgroups_are_below_that_of_the_run() -> None:
    places = [value for key, value in lines(parent=V2) if key.startswith("lxc.cgroup.dir")]
    assert len(places) == 3
    assert all(place.startswith("tare-1a/load/@NAME@") for place in places)


def test_an_init_keeps_what_it_needs() -> None:
    spec = replace(SPEC, argv=("/sbin/init", "a b"), user=User(), cwd="/")
    told = dict(lines(spec, boot=True))
    assert told["lxc.init.cmd"] == "/sbin/init 'a b'"
    assert "lxc.cap.keep" not in told
    assert "lxc.no_new_privs" not in told


def test_what_a_line_cannot_hold_is_refused() -> None:
    with pytest.raises(RunnerError, match="cannot be told environment"):
        lines(replace(SPEC, env=(("NAME", "two\nlines"),)))


def test_an_lxc_that_is_missing_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    support = lxc.probe({}, tmp_path)
    assert (support.ok, support.fix) == (False, "install lxc")
    assert "lxc-execute" in support.why


def test_an_lxc_without_its_other_programs_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path, monkeypatch, "lxc-execute", "echo 5.0.2")
    support = lxc.probe({}, tmp_path)
    assert (support.ok, support.version, support.fix) == (False, "5.0.2", "install lxc")
    assert "lxc-attach" in support.why


def test_a_broken_lxc_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path, monkeypatch, "lxc-execute", "echo broken >&2; exit 1")
    support = lxc.probe({}, tmp_path)
    assert (support.ok, support.why) == (False, "broken")
