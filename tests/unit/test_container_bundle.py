"""A configuration is in force whole, or refused by the name of what is not supported."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from runners.container import syscalls as k
from runners.container.bundle import Bundle, parse
from runners.container.defaults import DOCKER_CAPABILITIES, default_config
from runners.container.reader import BundleError


def config(**changes: Any) -> dict[str, Any]:
    wishes: dict[str, Any] = {
        "argv": ("/payload", "then=pause"),
        "env": (("A", "b=c"),),
        "rootfs": "/r",
        "cgroup": "tare-1/x",
        "memory_bytes": 1 << 27,
        "cpus": 1.5,
    }
    made = default_config(**(wishes | changes))
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]  # what a runtime reads: through JSON and back


def test_default_is_understood_whole() -> None:
    bundle = parse(config())
    assert isinstance(bundle, Bundle)
    assert bundle.argv == ("/payload", "then=pause")
    assert bundle.env == (("A", "b=c"),)
    assert bundle.rootfs == "/r"
    assert bundle.cgroup == "tare-1/x"
    assert (bundle.memory_bytes, bundle.pids, bundle.cpus) == (1 << 27, 512, 1.5)
    assert bundle.bounding == bundle.effective == bundle.permitted == 0xA80425FB
    assert bundle.no_new_privileges
    assert bundle.deny_devices
    assert bundle.namespaces == {"mount", "pid", "uts", "ipc", "network", "cgroup"}


def test_mount_options_become_flags_and_data() -> None:
    mounts = {mount.target: mount for mount in parse(config()).mounts}
    assert mounts["/proc"].flags == k.MS_NOSUID | k.MS_NOEXEC | k.MS_NODEV
    assert mounts["/sys"].flags & k.MS_RDONLY
    assert mounts["/dev/shm"].data == "mode=1777,size=65536k"
    assert mounts["/dev/shm"].source == "shm"
    assert mounts["/dev/pts"].data == "newinstance,ptmxmode=0666,mode=0620,gid=5"


def test_without_cgroup_there_are_no_limits() -> None:
    made = config(cgroup=None)
    assert "resources" not in made["linux"]
    bundle = parse(made)
    assert (bundle.memory_bytes, bundle.pids, bundle.cpus, bundle.deny_devices) == (None, None, None, False)


def test_docker_grants_fourteen() -> None:
    assert len(set(DOCKER_CAPABILITIES)) == 14


def put(made: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    made = copy.deepcopy(made)
    *above, last = path.split(".")
    target: Any = made
    for name in above:
        target = target[int(name)] if name.isdigit() else target.setdefault(name, {})
    target[int(last) if last.isdigit() else last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("hooks", {"prestart": [{"path": "/x"}]}, "hooks"),
        ("process.terminal", True, "process.terminal"),
        ("process.user.uid", 1000, "process.user.uid"),
        ("process.user.additionalGids", [4], "process.user.additionalGids"),
        ("process.rlimits", [{"type": "RLIMIT_NOFILE"}], "process.rlimits"),
        ("process.apparmorProfile", "x", "process.apparmorProfile"),
        ("process.args", ["sh"], "process.args"),
        ("process.args", [], "process.args"),
        ("process.args", ["/a\0b"], "process.args"),
        ("process.env", ["NOVALUE"], "process.env"),
        ("process.cwd", "relative", "process.cwd"),
        ("process.capabilities.ambient", ["CAP_CHOWN"], "process.capabilities.ambient"),
        ("process.capabilities.effective", ["CAP_CHOWN"], "process.capabilities"),
        ("process.capabilities.bounding", ["CAP_NOPE"], "process.capabilities.bounding"),
        ("process.capabilities.bounding", ["CHOWN"], "process.capabilities.bounding"),
        ("root.readonly", True, "root.readonly"),
        ("root.path", 7, "root.path"),
        ("linux.seccomp", {"defaultAction": "SCMP_ACT_ERRNO"}, "linux.seccomp"),
        ("linux.sysctl", {"net.ipv4.ip_forward": "1"}, "linux.sysctl"),
        ("linux.devices", [{"path": "/dev/fuse"}], "linux.devices"),
        ("linux.uidMappings", [{}], "linux.uidMappings"),
        ("linux.rootfsPropagation", "shared", "linux.rootfsPropagation"),
        ("linux.cgroupsPath", "system.slice:x:y", "linux.cgroupsPath"),
        ("linux.namespaces", [{"type": "mount"}], "linux.namespaces"),
        ("linux.namespaces.0", {"type": "user"}, "linux.namespaces[0].type"),
        ("linux.namespaces.0", {"type": "mount", "path": "/proc/1/ns/mnt"}, "linux.namespaces[0].path"),
        ("linux.resources.devices", [{"allow": True, "access": "rwm"}], "linux.resources.devices"),
        ("linux.resources.memory.kernel", 5, "linux.resources.memory.kernel"),
        ("linux.resources.memory.swap", 5, "linux.resources.memory.swap"),
        ("linux.resources.cpu.cpus", "0", "linux.resources.cpu.cpus"),
        ("linux.resources.cpu.period", 0, "linux.resources.cpu.period"),
        ("linux.resources.blockIO", {"weight": 5}, "linux.resources.blockIO"),
        ("linux.cgroupsPath", "", "linux.resources"),
        ("mounts.0.type", "bind", "mounts[0].type"),
        ("mounts.0.options", ["rbind"], "mounts[0].options"),
        ("mounts.0.options", ["rshared"], "mounts[0].options"),
        ("mounts.0.destination", "proc", "mounts[0].destination"),
        ("mounts.0.destination", "/a/../../b", "mounts[0].destination"),
        ("ociVersion", "2.0.0", "ociVersion"),
        ("ociVersion", True, "ociVersion"),
        ("process", [], "process"),
        ("solaris", {"milestone": "x"}, "solaris"),
    ],
)
def test_refused_by_name(path: str, value: object, where: str) -> None:
    with pytest.raises(BundleError) as caught:
        parse(put(config(), path, value))
    assert caught.value.where == where
    assert caught.value.why
    assert caught.value.fix


@pytest.mark.parametrize("value", [None, 7, "text", [], {}])
def test_nonsense_is_refused(value: object) -> None:
    with pytest.raises(BundleError):
        parse(value)


def test_annotations_and_empty_values_are_no_demands() -> None:
    made = config() | {"annotations": {"org.x": "y"}, "hooks": {}, "domainname": ""}
    assert parse(made) == parse(config())


def test_hostname_needs_its_namespace() -> None:
    made = config()
    made["linux"]["namespaces"] = [item for item in made["linux"]["namespaces"] if item["type"] != "uts"]
    with pytest.raises(BundleError, match="rename the host"):
        parse(made)
