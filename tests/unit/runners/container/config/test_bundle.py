"""A configuration is in force whole, or refused by the name of what is not supported."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tare.runners.container.config import mounts
from tare.runners.container.config.bundle import Bundle, parse
from tare.runners.container.config.defaults import DOCKER_CAPABILITIES, default_config
from tare.runners.container.config.mounts import Mount
from tare.runners.container.config.scheduling import Scheduler
from tare.runners.container.linux import mount_calls as k
from tare.runners.container.linux.idmap import Range
from tare.runners.container.reader import BundleError


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


def read(made: object) -> Bundle:
    return parse(made, directory="/bundle")


def test_default_is_understood_whole() -> None:
    bundle = read(config())
    assert isinstance(bundle, Bundle)
    process = bundle.process
    assert process.argv == ("/payload", "then=pause")
    assert process.env == (("A", "b=c"),)
    assert bundle.rootfs == "/r"
    assert bundle.cgroup == "/tare-1/x"
    assert bundle.resources.memory.limit_bytes == 1 << 27
    assert bundle.resources.pids == 512
    assert bundle.resources.cpu.quota_us == 150_000
    sets = process.capabilities
    assert sets.bounding == sets.effective == sets.permitted == 0xA80425FB
    assert sets.inheritable == sets.ambient == 0
    assert process.no_new_privileges
    assert bundle.namespaces == dict.fromkeys(("mount", "pid", "uts", "ipc", "network", "cgroup"), "")
    assert bundle.seccomp is not None


def test_mount_options_become_flags_and_data() -> None:
    mounts = {mount.target: mount for mount in read(config()).mounts}
    assert mounts["/proc"].flags == k.MS_NOSUID | k.MS_NOEXEC | k.MS_NODEV
    assert mounts["/sys"].flags & k.MS_RDONLY
    assert mounts["/dev/shm"].data == "mode=1777,size=65536k"
    assert mounts["/dev/shm"].source == "shm"
    assert mounts["/dev/pts"].data == "newinstance,ptmxmode=0666,mode=0620,gid=5"


def mount(*options: str, kind: str = "bind", source: str = "data", **more: object) -> Mount:
    entry = {"destination": "/m", "type": kind, "source": source, "options": list(options)} | more
    return read(config() | {"mounts": [entry]}).mounts[0]


@pytest.mark.parametrize(
    ("options", "attributes", "below"),
    [
        (("ro", "nosuid"), (k.MOUNT_ATTR_RDONLY | k.MOUNT_ATTR_NOSUID, 0), (0, 0)),
        (("ro", "rw"), (0, k.MOUNT_ATTR_RDONLY), (0, 0)),
        (("rro",), (0, 0), (k.MOUNT_ATTR_RDONLY, 0)),
        (("rbind", "rnoexec", "rprivate"), (0, 0), (k.MOUNT_ATTR_NOEXEC, 0)),
        (("noatime",), (k.MOUNT_ATTR_NOATIME, 0x70), (0, 0)),
        (("noatime", "relatime"), (0, 0x70), (0, 0)),
        (("strictatime",), (k.MOUNT_ATTR_STRICTATIME, 0x70), (0, 0)),
        (("relatime", "norelatime"), (0, 0x70), (0, 0)),
        (("exec", "noexec", "dev"), (k.MOUNT_ATTR_NOEXEC, k.MOUNT_ATTR_NODEV), (0, 0)),
    ],
)
def test_binds_have_attributes(options: tuple[str, ...], attributes: tuple[int, int], below: tuple[int, int]) -> None:
    """Of two words that exclude each other the later counts; mount_setattr(2) wants all of ATIME cleared to set one."""
    made = mount(*options)
    assert (made.attributes, made.attributes_below) == (attributes, below)
    assert made.bind
    assert made.source == "/bundle/data", "relative to the bundle"
    assert made.recursive == ("rbind" in options)


def test_propagation_of_mounts() -> None:
    assert mount("bind", "rshared").propagation == (k.MS_SHARED | k.MS_REC,)
    assert mount("bind").propagation == ()
    assert mount("rslave", kind="tmpfs").propagation == (k.MS_SLAVE | k.MS_REC,)
    assert mount("rslave", "shared").propagation == (k.MS_SLAVE | k.MS_REC, k.MS_SHARED), "one after another"


def test_identity_of_mounts() -> None:
    ranges = [{"containerID": 0, "hostID": 1000, "size": 5}]
    made = mount("bind", "ridmap", uidMappings=ranges, gidMappings=ranges)
    assert made.identity == ((Range(0, 1000, 5),), (Range(0, 1000, 5),))
    assert made.identity_below


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("//b//c/./d/", "/b/c/d"),
        ("a/..", "/"),
        ("/..", "/"),
        ("../../b", "/b"),
        ("//link/.././b", "/link/../b"),
        ("/b/..c", "/b/..c"),
    ],
)
def test_targets_are_in_order(path: str, target: str) -> None:
    """ "..", where a link may stand before it, is left to the kernel."""
    made = read(config() | {"mounts": [{"destination": path, "type": "tmpfs"}]})
    assert made.mounts[0].target == target


@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
def test_paths_that_are_not_absolute(key: str) -> None:
    made = config()
    made["linux"][key] = ["etc", "", "/lnk/../b", "/x//y/"]
    bundle = read(made)
    assert (bundle.masked if key == "maskedPaths" else bundle.readonly) == ("/etc", "/lnk/../b", "/x/y")
    assert [line for line in bundle.warnings if key in line] == [
        f"linux.{key}: 'etc' is not absolute: taken from /",
        f"linux.{key}: '' is not absolute: ignored",
    ]


@pytest.mark.parametrize(("path", "readonly"), [("/", True), ("//.", True), ("/a", False)])
def test_a_root_among_the_readonly_paths(path: str, readonly: bool) -> None:
    made = config()
    made["root"].pop("readonly", None)
    made["linux"]["readonlyPaths"] = [path]
    bundle = read(made)
    assert (bundle.readonly_root, bundle.readonly) == (readonly, () if readonly else ("/a",))


def test_every_word_is_known() -> None:
    for word in mounts.words():
        if word not in ("idmap", "ridmap", "tmpcopyup"):
            assert mount(word, kind="tmpfs").data == "", word


def test_process_of_an_ordinary_user() -> None:
    made = config()
    made["process"] |= {
        "user": {"uid": 1000, "gid": 100, "additionalGids": [4, 27], "umask": 0o27},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 18446744073709551615}],
        "oomScoreAdj": 0,
        "terminal": True,
        "consoleSize": {"height": 24, "width": 80},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
        "apparmorProfile": "unconfined",
        "selinuxLabel": "",
    }
    process = read(made).process
    assert (process.uid, process.gid, process.groups, process.umask) == (1000, 100, (4, 27), 0o27)
    assert process.rlimits == ((7, 10, -1),)
    assert process.oom_score_adj == 0, "zero is a wish, too"
    assert process.console_size == (24, 80)
    assert process.io_priority == 2 << 13 | 4
    assert process.scheduler == Scheduler(policy=3, nice=5)


def test_ambient_needs_two_others() -> None:
    made = config()
    made["process"]["capabilities"] |= {"inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN", "CAP_KILL"]}
    assert read(made).process.capabilities.ambient == 1, "CAP_KILL is not inheritable: the kernel would refuse it"
    made["process"]["capabilities"]["inheritable"] = ["CAP_CHOWN", "CAP_SYS_ADMIN"]
    sets = read(made).process.capabilities
    assert (sets.inheritable, sets.ambient) == (1, 1), "CAP_SYS_ADMIN is not in the bounding set: capset refuses it"


def test_namespaces_new_and_joined() -> None:
    made = config()
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    made["linux"]["namespaces"] = [
        {"type": "mount"},
        {"type": "network", "path": "/proc/1/ns/net"},
        {"type": "user"},
        {"type": "time"},
    ]
    made["linux"] |= {"uidMappings": ids, "gidMappings": ids, "timeOffsets": {"monotonic": {"secs": -5}}}
    del made["hostname"]
    bundle = read(made)
    assert bundle.is_new("user")
    assert not bundle.is_new("network")
    assert not bundle.is_new("pid"), "the host's"
    assert bundle.uids == (Range(0, 100000, 65536),)
    assert bundle.time_offsets == (("monotonic", -5, 0),)


def test_devices_and_parameters() -> None:
    made = config()
    made["linux"] |= {
        "devices": [
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 432, "gid": 7},
            {"path": "/dev/p", "type": "p"},
        ],
        "sysctl": {"net.ipv4.conf.eth0/1.forwarding": "1", "net/core/somaxconn": "9", "kernel.shmmax": "7"},
        "rootfsPropagation": "rshared",
        "personality": {"domain": "LINUX32"},
    }
    bundle = read(made)
    assert [(d.path, d.mode, d.major, d.minor, d.gid) for d in bundle.devices] == [
        ("/dev/fuse", 0o020660, 10, 229, 7),
        ("/dev/p", 0o010666, 0, 0, 0),
    ]
    assert dict(bundle.sysctls) == {
        "/proc/sys/net/ipv4/conf/eth0.1/forwarding": "1",
        "/proc/sys/net/core/somaxconn": "9",
        "/proc/sys/kernel/shmmax": "7",
    }
    assert bundle.propagation == k.MS_SHARED | k.MS_REC
    assert bundle.personality == 8


def test_relative_root_stands_below_the_bundle() -> None:
    assert read(config() | {"root": {"path": "rootfs", "readonly": True}}).rootfs == "/bundle/rootfs"


def test_null_is_absent() -> None:
    """Programs in Go write null for a list that is empty."""
    made = config()
    made["process"] |= {"rlimits": None, "user": {"uid": 0, "gid": 0, "additionalGids": None}}
    made["linux"] |= {"sysctl": None, "devices": None, "rootfsPropagation": None}
    assert read(made) == read(config())


def test_without_cgroup_there_are_no_limits() -> None:
    made = config(cgroup=None)
    assert "resources" not in made["linux"]
    assert not read(made).resources.anything


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


RANGE = [{"containerID": 0, "hostID": 0, "size": 1}]
#: A rule of a filter for no call.
EMPTY = {"names": [], "action": "SCMP_ACT_ERRNO"}


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("hooks", {"prestart": [{"path": "x"}]}, "hooks.prestart[0].path"),
        ("process.user.uid", -1, "process.user.uid"),
        ("process.user.uid", True, "process.user.uid"),
        ("process.user.additionalGids", ["x"], "process.user.additionalGids"),
        ("process.rlimits", [{"type": "RLIMIT_NOFILE"}], "process.rlimits[0].soft"),
        ("process.rlimits", [{"type": "NOFILE", "soft": 1, "hard": 1}], "process.rlimits[0].type"),
        ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}], "process.rlimits[0].soft"),
        ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2, "process.rlimits[1].type"),
        ("process.apparmorProfile", "x", "process.apparmorProfile"),
        ("process.selinuxLabel", "x", "process.selinuxLabel"),
        ("process.scheduler", {"policy": "SCHED_ISO"}, "process.scheduler.policy"),
        ("process.scheduler", {"nice": 3}, "process.scheduler.policy"),
        ("process.scheduler", {"policy": "SCHED_FIFO", "priority": 100}, "process.scheduler.priority"),
        ("process.scheduler", {"policy": "SCHED_DEADLINE", "runtime": -1}, "process.scheduler.runtime"),
        ("process.scheduler", {"policy": "SCHED_OTHER", "flags": ["x"]}, "process.scheduler.flags[0]"),
        (
            "process.scheduler",
            {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_UTIL_CLAMP_MIN"]},
            "process.scheduler.flags[0]",
        ),
        ("process.execCPUAffinity", {"initial": "a"}, "process.execCPUAffinity.initial"),
        ("process.execCPUAffinity", {"final": "3-1"}, "process.execCPUAffinity.final"),
        ("process.execCPUAffinity", {"final": "0-999999999999"}, "process.execCPUAffinity.final"),
        ("process.ioPriority", {"class": "x"}, "process.ioPriority.class"),
        ("process.ioPriority", {"priority": 1}, "process.ioPriority.class"),
        ("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}, "process.ioPriority.priority"),
        ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": -1, "hard": 1}], "process.rlimits[0].soft"),
        ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1 << 64}], "process.rlimits[0].hard"),
        ("process.oomScoreAdj", -1001, "process.oomScoreAdj"),
        ("process.user.umask", 0o1000, "process.user.umask"),
        ("process.oomScoreAdj", 1001, "process.oomScoreAdj"),
        ("process.args", [], "process.args"),
        ("process.args", ["/a\0b"], "process.args[0]"),
        ("process.args", ["/a", 1.5], "process.args[1]"),
        ("process.user", {"uid": 1.0, "gid": 0}, "process.user.uid"),
        ("process.user", {"uid": "0", "gid": 0}, "process.user.uid"),
        ("process.terminal", 1, "process.terminal"),
        ("process.cwd", "/a\0b", "process.cwd"),
        ("hostname", "a\0b", "hostname"),
        ("hooks", {"poststop": [{"path": "/x", "timeout": -1}]}, "hooks.poststop[0].timeout"),
        ("hooks", {"poststop": {"path": "/x"}}, "hooks.poststop"),
        ("hooks", {"poststop": ["/x"]}, "hooks.poststop[0]"),
        ("process.env", ["NOVALUE"], "process.env"),
        ("process.cwd", "relative", "process.cwd"),
        ("root.path", 7, "root.path"),
        ("root.path", "", "root.path"),
        ("linux.seccomp", {"defaultAction": "SCMP_ACT_NOTIFY"}, "linux.seccomp.defaultAction"),
        ("linux.sysctl", {"kernel.core_pattern": "|/x"}, "linux.sysctl.kernel.core_pattern"),
        ("linux.sysctl", {"net..": "1"}, "linux.sysctl.net.."),
        ("linux.sysctl", {"net/../kernel/core_pattern": "|/x"}, "linux.sysctl.net/../kernel/core_pattern"),
        ("linux.devices", [{"path": "/dev/fuse", "type": "x"}], "linux.devices[0].type"),
        ("linux.devices", [{"path": "dev/fuse", "type": "p"}], "linux.devices[0].path"),
        ("linux.devices", [{"path": "/dev/fuse", "type": "c"}], "linux.devices[0].major"),
        ("linux.uidMappings", [{}], "linux.uidMappings[0].containerID"),
        ("linux.rootfsPropagation", "all", "linux.rootfsPropagation"),
        ("linux.timeOffsets", {"boottime": {"secs": 1}}, "linux.timeOffsets"),
        ("linux.intelRdt", {"closID": "x"}, "linux.intelRdt"),
        ("linux.intelRdt", {}, "linux.intelRdt"),
        ("linux.netDevices", {"eth0": {}}, "linux.netDevices"),
        ("linux.memoryPolicy", {"mode": "MPOL_LOCAL"}, "linux.memoryPolicy"),
        ("linux.personality", {}, "linux.personality.domain"),
        ("linux.personality", {"domain": "SOLARIS"}, "linux.personality.domain"),
        ("linux.namespaces", [{"type": "mount", "path": "ns/mnt"}], "linux.namespaces[0].path"),
        ("linux.namespaces.1", {"type": "planet"}, "linux.namespaces[1].type"),
        ("linux.namespaces.1", {"type": "mount"}, "linux.namespaces[1].type"),
        ("linux.namespaces.1", {"type": "network", "path": "x"}, "linux.namespaces[1].path"),
        ("linux.resources.memory.swappiness", 101, "linux.resources.memory.swappiness"),
        ("linux.maskedPaths", ["/proc/\0"], "linux.maskedPaths[0]"),
        ("mounts.0.type", "", "mounts[0].type"),
        ("mounts.0.options", ["idmap", "bind"], "mounts[0].options"),
        ("mounts.0.options", ["bind", "tmpcopyup"], "mounts[0].options"),
        ("mounts.0.options", ["tmpcopyup"], "mounts[0].options"),
        ("mounts.0.options", ["idmap"], "mounts[0].options"),
        ("mounts.0.destination", "", "mounts[0].destination"),
        ("mounts.0.uidMappings", RANGE, "mounts[0].gidMappings"),
        ("ociVersion", "2.0.0", "ociVersion"),
        ("ociVersion", "0.6.0", "ociVersion"),
        ("ociVersion", "10.0.0", "ociVersion"),
        ("ociVersion", "", "ociVersion"),
        ("ociVersion", "latest", "ociVersion"),
        ("ociVersion", True, "ociVersion"),
        ("annotations", {"a": 1}, "annotations.a"),
        ("process", [], "process"),
    ],
)
def test_refused_by_name(path: str, value: object, where: str) -> None:
    with pytest.raises(BundleError) as caught:
        read(put(config(), path, value))
    assert caught.value.where == where
    assert caught.value.why
    assert caught.value.fix


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("hooks", {"before": [{"path": "/x"}]}, "hooks.before"),
        ("process.user.username", "x", "process.user.username"),
        ("process.scheduler", {"policy": "SCHED_OTHER", "nope": 1}, "process.scheduler.nope"),
        ("process.capabilities.effective", ["CAP_SYS_ADMIN"], "process.capabilities.effective"),
        ("process.capabilities.ambient", ["CAP_CHOWN"], "process.capabilities.ambient"),
        ("process.capabilities.inheritable", ["CAP_SYS_ADMIN"], "process.capabilities.inheritable"),
        ("linux.uidMappings", RANGE, "linux.uidMappings"),
        ("linux.gidMappings", RANGE, "linux.gidMappings"),
        ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [EMPTY]}, "linux.seccomp.syscalls[0].names"),
        ("hooks", {"poststop": [{"path": "/x", "env": ["A=b", ""]}]}, "hooks.poststop[0].env"),
        ("hooks", {"prestart": [{"path": "/x", "env": ["=x"]}]}, "hooks.prestart[0].env"),
        ("process.capabilities.bounding", ["CAP_NOPE"], "process.capabilities.bounding"),
        ("process.capabilities.bounding", ["CHOWN"], "process.capabilities.bounding"),
        ("process.capabilities.bounding", ["cap_chown"], "process.capabilities.bounding"),
        ("linux.personality", {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}, "linux.personality.flags"),
        ("windows", {"layerFolders": ["x"]}, "windows"),
        ("zos", {"namespaces": [{"type": "pid"}]}, "zos"),
        ("freebsd", {"jail": {}}, "freebsd"),
        ("vm", {"kernel": {"path": "/x"}}, "vm"),
        ("linux.resources.rdma.x", {"hcaFuture": 1}, "linux.resources.rdma.x.hcaFuture"),
        ("linux.resources.memory.kernel", 5, "linux.resources.memory.kernel"),
        ("linux.cgroupsPath", "system.slice:tare:one", "linux.cgroupsPath"),
        ("solaris", {"milestone": "x"}, "solaris"),
        ("nope", {"key": 1}, "nope"),
        ("root.nope", 1, "root.nope"),
        ("process.nope", [1], "process.nope"),
        ("mounts.0.nope", "x", "mounts[0].nope"),
        ("linux.nope", True, "linux.nope"),
        ("linux.namespaces.0", {"type": "mount", "nope": 5}, "linux.namespaces[0].nope"),
        ("linux.seccomp.nope", "x", "linux.seccomp.nope"),
        ("linux.seccomp.syscalls.0.nope", "x", "linux.seccomp.syscalls[0].nope"),
        ("linux.resources.nope", 1, "linux.resources.nope"),
        ("linux.resources.memory.nope", 1, "linux.resources.memory.nope"),
        ("linux.resources.devices.0.nope", 1, "linux.resources.devices[0].nope"),
        ("hooks", {"poststop": [{"path": "/x", "nope": 1}]}, "hooks.poststop[0].nope"),
    ],
)
def test_what_is_not_known_is_a_warning_and_no_error(path: str, value: object, where: str) -> None:
    """OCI config.md, "Extensibility"."""
    warnings = read(put(config(), path, value)).warnings
    assert [line.partition(":")[0] for line in warnings] == [where]


def test_unknown_keys_without_a_value_are_no_warning() -> None:
    assert read(config() | {"nope": None, "vm": {}, "more": [], "flag": False, "text": ""}).warnings == ()


@pytest.mark.parametrize("value", [None, 7, "text", [], {}])
def test_nonsense_is_refused(value: object) -> None:
    with pytest.raises(BundleError):
        read(value)


def test_annotations_and_empty_values_are_no_demands() -> None:
    made = config() | {"hooks": {}, "domainname": ""}
    assert read(made) == read(config())
    assert read(config() | {"annotations": {"org.x": "y"}}).annotations == {"org.x": "y"}


@pytest.mark.parametrize("there", [True, False])
def test_a_label_of_mounts_is_a_demand_where_there_are_labels(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tare.runners.container.config.bundle._SELINUX", os.fspath(tmp_path if there else tmp_path / "nothing")
    )
    made = put(config(), "linux.mountLabel", "system_u:object_r:x:s0")
    if there:
        with pytest.raises(BundleError, match=r"linux\.mountLabel: cannot be in force"):
            read(made)
    else:
        (line,) = read(made).warnings
        assert line.startswith("linux.mountLabel: files have no labels")


@pytest.mark.parametrize("name", ["kernel.domainname", "kernel/domainname"])
def test_a_domainname_is_not_contradicted_by_its_sysctl(name: str) -> None:
    made = config() | {"domainname": "one"}
    made["linux"]["sysctl"] = {name: "one"}
    assert read(made).sysctls == (("/proc/sys/kernel/domainname", "one"),)
    made["linux"]["sysctl"] = {name: "two"}
    with pytest.raises(BundleError, match=r"linux\.sysctl\.kernel\.domainname: contradicts domainname 'one'"):
        read(made)
    assert read(made | {"domainname": ""}).sysctls == (("/proc/sys/kernel/domainname", "two"),)


def test_hostname_needs_its_namespace() -> None:
    made = config()
    made["linux"]["namespaces"] = [item for item in made["linux"]["namespaces"] if item["type"] != "uts"]
    with pytest.raises(BundleError, match="rename the host"):
        read(made)
