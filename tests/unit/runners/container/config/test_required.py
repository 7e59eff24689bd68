"""Keys that the OCI specification requires, and their values: docs/reference/runtime-spec.md names each line."""

from __future__ import annotations

import copy
import json
import resource
from typing import Any

import pytest

from tare.runners.container.config import process
from tare.runners.container.config.bundle import Bundle, parse
from tare.runners.container.config.defaults import default_config
from tare.runners.container.config.scheduling import Scheduler
from tare.runners.container.reader import BundleError
from tare.runners.container.setup import sequence

RANGE = {"containerID": 0, "hostID": 100_000, "size": 65536}


def config() -> dict[str, Any]:
    made = default_config(argv=["/x"], env=[("A", "b")], rootfs="/r", cgroup="x", memory_bytes=0, cpus=0)
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def read(made: object) -> Bundle:
    return parse(made, directory="/bundle")


def whole() -> dict[str, Any]:
    """A configuration that has an entry in every list, each with all the keys that it must have."""
    made = config()
    made["annotations"] = {"a": "b"}
    made["mounts"] = [{"destination": "/m", "type": "tmpfs"}]
    made["hooks"] = {"createRuntime": [{"path": "/x"}]}
    made["process"] |= {
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        "scheduler": {"policy": "SCHED_OTHER"},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 0},
    }
    made["linux"] |= {
        "namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "user"}],
        "uidMappings": [dict(RANGE)],
        "gidMappings": [dict(RANGE)],
        "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}],
        "personality": {"domain": "LINUX"},
    }
    device, rate = {"major": 8, "minor": 0}, {"major": 8, "minor": 0, "rate": 1}
    made["linux"]["resources"] = {
        "devices": [{"allow": False}],
        "blockIO": {
            "weightDevice": [device | {"weight": 100}],
            **{f"throttle{kind}Device": [dict(rate)] for kind in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")},
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
        "network": {"priorities": [{"name": "lo", "priority": 1}]},
    }
    condition = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
    made["linux"]["seccomp"]["syscalls"] = [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [condition]}]
    return made


REQUIRED = """
    ociVersion root root.path process.cwd process.args process.rlimits.0.type process.rlimits.0.soft
    process.rlimits.0.hard process.scheduler.policy process.ioPriority.class mounts.0.destination
    hooks.createRuntime.0.path linux.namespaces.0.type linux.uidMappings.0.containerID linux.uidMappings.0.hostID
    linux.uidMappings.0.size linux.gidMappings.0.containerID linux.gidMappings.0.hostID linux.gidMappings.0.size
    linux.devices.0.type linux.devices.0.path linux.devices.0.major linux.devices.0.minor linux.personality.domain
    linux.seccomp.defaultAction linux.seccomp.syscalls.0.names linux.seccomp.syscalls.0.action
    linux.seccomp.syscalls.0.args.0.index linux.seccomp.syscalls.0.args.0.value linux.seccomp.syscalls.0.args.0.op
    linux.resources.devices.0.allow linux.resources.blockIO.weightDevice.0.major
    linux.resources.blockIO.weightDevice.0.minor linux.resources.blockIO.weightDevice.0.weight
    linux.resources.blockIO.throttleReadBpsDevice.0.rate
    linux.resources.blockIO.throttleWriteBpsDevice.0.rate linux.resources.blockIO.throttleReadIOPSDevice.0.rate
    linux.resources.blockIO.throttleWriteIOPSDevice.0.rate linux.resources.blockIO.throttleReadBpsDevice.0.major
    linux.resources.blockIO.throttleWriteIOPSDevice.0.minor linux.resources.hugepageLimits.0.pageSize
    linux.resources.hugepageLimits.0.limit linux.resources.network.priorities.0.name
    linux.resources.network.priorities.0.priority
""".split()


def without(made: dict[str, Any], path: str) -> dict[str, Any]:
    made = copy.deepcopy(made)
    *above, last = path.split(".")
    at: Any = made
    for word in above:
        at = at[int(word)] if word.isdigit() else at[word]
    del at[last]
    return made


def test_nothing_is_missing_in_the_whole() -> None:
    assert read(whole()).warnings == ()


@pytest.mark.parametrize("path", REQUIRED)
def test_keys_that_must_be_there(path: str) -> None:
    with pytest.raises(BundleError, match=r"missing|must") as caught:
        read(without(whole(), path))
    words = [f"[{word}]" if word.isdigit() else f".{word}" for word in path.split(".")]
    assert caught.value.where == "".join(words)[1:]


@pytest.mark.parametrize("key", ["username", "commandLine"])
def test_keys_of_other_platforms_are_not_read(key: str) -> None:
    made = config()
    made["process"]["commandLine"] = "cmd.exe"
    made["process"]["user"]["username"] = "ContainerUser"
    bundle = read(made)
    assert bundle.process.argv == ("/x",)
    assert len([line for line in bundle.warnings if key in line]) == (key == "username")


@pytest.mark.parametrize("section", ["windows", "solaris", "vm", "zos", "freebsd"])
def test_sections_of_other_platforms_are_a_warning(section: str) -> None:
    (line,) = read(config() | {section: {"key": [{"deep": 1}]}}).warnings
    assert line.startswith(f"{section}: is for another platform")


@pytest.mark.parametrize("annotations", [{"": "x"}, {"a": 1}, {"a": ["b"]}, {"a": {}}, ["a"], "a", True])
def test_annotations_are_texts_with_names(annotations: object) -> None:
    with pytest.raises(BundleError) as caught:
        read(config() | {"annotations": annotations})
    assert caught.value.where.startswith("annotations")


def test_annotations_of_any_text() -> None:
    given = {"a": "", "ä/ö\n": "\u2603\0", "x" * 5000: "y" * 100_000}
    assert read(config() | {"annotations": given}).annotations == given


def test_an_annotation_of_null_is_an_empty_text() -> None:
    assert read(config() | {"annotations": {"a": None, "b": "c"}}).annotations == {"a": "", "b": "c"}


def test_every_limit_of_the_kernel_is_known() -> None:
    here = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
    here.pop("RLIMIT_OFILE", None)  # BSD's name of NOFILE
    assert here.items() <= {f"RLIMIT_{name}": number for name, number in process.RLIMITS.items()}.items()


def test_nothing_here_touches_resctrl() -> None:
    steps = sequence.make(read(config()), last_capability=40).steps
    assert steps
    assert not any("resctrl" in step.describe() for step in steps)


@pytest.mark.parametrize("version", ["1.0", "1", "1.2.x", "1.0.0.0", "1.-1.0"])
def test_a_version_without_its_form_is_a_warning(version: str) -> None:
    (line,) = read(config() | {"ociVersion": version}).warnings
    assert "ociVersion" in line


@pytest.mark.parametrize("version", ["1.0.0", "1.0.0-rc5", "1.3.0-dev", "1.1.0+build.5", "1.2.1-rc.1+5", "1.99.0"])
def test_versions_in_their_form(version: str) -> None:
    bundle = read(config() | {"ociVersion": version})
    assert (bundle.version, bundle.warnings) == (version, ())


def test_a_name_that_stands_twice_is_a_warning() -> None:
    (line,) = parse(config(), directory="/b", twice=["args"]).warnings
    assert line.startswith("args: stands twice")


def test_without_a_process_there_is_nothing_to_start() -> None:
    made = config()
    del made["process"]
    assert read(made).process == process.NOTHING
    assert read(made | {"process": None}).process == process.NOTHING


def test_a_size_is_for_terminals_alone() -> None:
    made = config()
    made["process"]["consoleSize"] = {"height": "high"}
    assert read(made).process.console_size is None
    made["process"]["terminal"] = True
    with pytest.raises(BundleError, match=r"process\.consoleSize\.height"):
        read(made)


def test_the_scheduler_whole() -> None:
    made = config()
    made["process"]["scheduler"] = {
        "policy": "SCHED_DEADLINE",
        "flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"],
        "runtime": 1,
        "deadline": 2,
        "period": (1 << 64) - 1,
    }
    wanted = Scheduler(policy=6, flags=6, runtime_ns=1, deadline_ns=2, period_ns=(1 << 64) - 1)
    assert read(made).process.scheduler == wanted
    assert len(wanted.packed()) == 48, "SCHED_ATTR_SIZE_VER0"


@pytest.mark.parametrize(
    ("text", "found"), [("", ()), ("0", (0,)), ("0-3,7", (0, 1, 2, 3, 7)), (" 1 , 3-3 ", (1, 3)), ("5-5,5", (5,))]
)
def test_lists_of_processors(text: str, found: tuple[int, ...]) -> None:
    made = config()
    made["process"]["execCPUAffinity"] = {"initial": text}
    assert read(made).process.affinity == (frozenset(found), frozenset())


@pytest.mark.parametrize("text", [",", "0,", "-1", "1-", "0x1", "1 2", "٣", "99999"])
def test_what_is_no_list_of_processors(text: str) -> None:
    made = config()
    made["process"]["execCPUAffinity"] = {"final": text}
    with pytest.raises(BundleError, match=r"execCPUAffinity\.final"):
        read(made)


def test_of_a_variable_that_is_set_twice_the_last_counts() -> None:
    made = config()
    made["process"]["env"] = ["A=1", "B=2", "A=3"]
    assert dict(read(made).process.env) == {"A": "3", "B": "2"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.0, "a number with a fraction"),
        (1e3, "a number with a fraction"),
        ("0", "not a text"),
        (True, "not true or false"),
        ([0], "not a list"),
        ({}, "not an object"),
    ],
)
def test_a_wrong_type_is_named_in_words(value: object, said: str) -> None:
    made = config()
    made["process"]["user"]["uid"] = value
    with pytest.raises(BundleError, match="must be a whole number") as caught:
        read(json.loads(json.dumps(made)))
    assert said in caught.value.why
    assert caught.value.where == "process.user.uid"
