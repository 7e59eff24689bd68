"""The whole set-up, recorded instead of done: what is called, in which order."""

from __future__ import annotations

import errno
import json
import os
import resource
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.runners.container.config.bundle import Bundle, parse
from tare.runners.container.config.defaults import default_config
from tare.runners.container.light.dataclasses import replace
from tare.runners.container.linux import capabilities, mount_calls, syscalls
from tare.runners.container.reader import BundleError
from tare.runners.container.seccomp.filters import Filter
from tare.runners.container.setup.kernel import flatten
from tare.runners.container.setup.sequence import StepSequence, make
from tare.runners.container.setup.steps import basic, carry, without_pivot
from tare.runners.container.warm import overlay_sequence, program, root_layer

if TYPE_CHECKING:
    from tare.runners.container.config.process import Process
    from tare.runners.container.warm.overlay_sequence import Found

FILTER = Filter(b"12345678")
#: Of the host that the containers are planned for.
PROCESSORS = frozenset({0, 1})


class Recorder:
    """A :class:`runners.container.setup.kernel.Sys` that only remembers; *fails* maps a call's name to an errno."""

    def __init__(self, **fails: int) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails = fails

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: object) -> None:
            self.calls.append((name, *arguments))
            if name in self.fails:
                raise OSError(self.fails[name], os.strerror(self.fails[name]), str(arguments))

        return call


def config(**changes: Any) -> dict[str, Any]:
    made = default_config(
        argv=("/payload",), env=(), rootfs="/root:fs,1", cgroup="tare-1/x", memory_bytes=1 << 27, cpus=1
    )
    return json.loads(json.dumps(made)) | changes  # type: ignore[no-any-return]


def bundle(**changes: Any) -> Bundle:
    return parse(config(**changes), directory="/bundle")


def look(path: str) -> Found:
    known: dict[str, Found] = {
        "/proc/kcore": "file",
        "/sys/firmware": "directory",
        "/proc/sys": "directory",
        "/root:fs,1/proc": "absent",
        "/root:fs,1/dev": "directory",
        "/root:fs,1/sys": "directory",
    }
    return known.get(path, "")


def made(last_capability: int = 40, held: root_layer.HostHandles | None = None, **changes: Any) -> StepSequence:
    """The plan of the warm helper."""
    return overlay_sequence.make(
        bundle(**changes),
        base="/b",
        last_capability=last_capability,
        processors=PROCESSORS,
        held=held,
        look=look,
        filtering=FILTER,
    )


def cold(**changes: Any) -> StepSequence:
    """The steps of the OCI runtime."""
    return make(bundle(**changes), last_capability=40, filtering=FILTER)


def recorded(*what: basic.Step) -> list[tuple[Any, ...]]:
    recorder = Recorder()
    for step in what:
        step.apply(recorder)
    return recorder.calls


def test_order_of_the_set_up() -> None:
    """Host's root gone before anything else is mounted; capabilities last, since all before needs them."""
    calls = recorded(*made().own)
    names = [call[0] for call in calls]
    mounts = [call[2] for call in calls if call[0] == "mount"]
    assert mounts[:4] == ["/b", "/b/m", ".", "/proc"]
    assert names.index("unshare") < names.index("umount2")
    assert calls[names.index("umount2") - 1 :][:4] == [
        ("mount", "/b/m", ".", "", mount_calls.MS_MOVE),
        ("umount2", "below", mount_calls.MNT_DETACH),
        ("chroot", ".."),
        ("chdir", "/"),
    ]
    assert calls.index(("mount", "proc", "/proc", "proc", 14, "")) > names.index("umount2")
    assert names.index("capset") > names.index("umount2")
    assert "seccomp" not in names
    assert [call.name for call in made().last] == ["seccomp"], "the last of all: it need not allow what set-up calls"
    assert names.index("run_on") > max(at for at, name in enumerate(names) if name == "mount"), "stay near till then"
    assert names[0] == "prctl"


def test_who_stands_alone_has_nothing_of_the_host_to_let_go_of() -> None:
    """But two descriptors, and those before the root is entered: from there on a link might lead to one."""
    planned = made(held=root_layer.HostHandles(root=7, lower=8))
    inherited, calls = recorded(*planned.inherited), recorded(*planned.own)
    assert inherited[inherited.index(("pivot_root", ".", "below")) :][1:3] == [
        ("umount2", "below", mount_calls.MNT_DETACH),
        ("fchdir", 8),
    ]
    (overlay,) = (call for call in calls if call[:2] == ("mount", "overlay"))
    assert overlay[5] == "lowerdir=.,upperdir=/below/u,workdir=/below/w"
    assert calls[calls.index(overlay) + 1 :][:6] == [
        ("close", 7),
        ("close", 8),
        ("chdir", "/"),
        ("mount", "/below/m", ".", "", mount_calls.MS_MOVE),
        ("chroot", ".."),
        ("chdir", "/"),
    ]
    assert "umount2" not in [call[0] for call in calls]
    entered = calls.index(("chroot", "..")) + 2
    usual = recorded(*made().own)
    assert calls[entered:] == usual[usual.index(("chroot", "..")) + 2 :], "inside, all is the same"


def test_groups_are_joined_from_the_hosts_root_where_ours_is_another() -> None:
    assert recorded(basic.JoinCgroup(("/g/a/tasks", "/g/b/tasks"), root=7)) == [
        ("write", "g/a/tasks", "0", 7),
        ("write", "g/b/tasks", "0", 7),
    ]


def test_namespaces_in_one_clone() -> None:
    flags = made().clone_flags
    for flag in ("NEWNS", "NEWPID", "NEWUTS", "NEWIPC", "NEWNET"):
        assert flags & getattr(syscalls, f"CLONE_{flag}")
    assert not flags & syscalls.CLONE_NEWCGROUP, "it would hide the parent's cgroup, not the container's"


def test_inherited_steps_take_what_is_not_granted() -> None:
    calls = recorded(*made(last_capability=40).inherited)
    dropped = {call[2] for call in calls if call[:2] == ("prctl", syscalls.PR_CAPBSET_DROP)}
    assert len(dropped) == 41 - 14
    assert 21 in dropped, "CAP_SYS_ADMIN"
    assert 0 not in dropped, "CAP_CHOWN"
    assert ("prctl", syscalls.PR_SET_NO_NEW_PRIVS, 1) in calls
    assert ("setgroups", []) in calls


def test_the_host_is_put_below_an_empty_root_once() -> None:
    """No child calls pivot_root: it looks at every process of the host."""
    once, each = recorded(*made().inherited), recorded(*made().own)
    assert [call[0] for call in once].index("pivot_root") < [call[0] for call in once].index("chroot")
    assert "pivot_root" not in [call[0] for call in each]
    mounted = [call for call in once if call[0] == "mount"]
    assert [call[2:4] for call in mounted] == [("/b", "tmpfs"), ("/b", "")]
    assert mounted[-1][4] & mount_calls.MS_RDONLY


def test_masks_and_readonly_follow_what_is_there() -> None:
    calls = recorded(*made().own)
    assert ("mount", "/dev/null", "/proc/kcore", "", mount_calls.MS_BIND) in calls
    hidden = [call for call in calls if call[0] == "mount" and call[2] in ("/proc/acpi", "/proc/scsi", "/sys/firmware")]
    # One empty file system: whichever comes first, and the others like it.
    assert [call[3] for call in hidden] == ["tmpfs"] + [""] * (len(hidden) - 1)
    assert {call[1] for call in hidden[1:]} <= {hidden[0][2]}
    assert hidden[-1][2] == "/sys/firmware"
    bound = calls.index(("mount", "/proc/sys", "/proc/sys", "", mount_calls.MS_BIND | mount_calls.MS_REC))
    assert calls[bound + 1] == ("set_attributes", "/proc/sys", mount_calls.MOUNT_ATTR_RDONLY)
    assert not any("timer_list" in str(call) for call in calls)


def test_devices_and_links() -> None:
    calls = recorded(*made().own)
    nodes = {call[1]: call[3] for call in calls if call[0] == "mknod"}
    assert nodes["/dev/null"] == os.makedev(1, 3)
    assert set(nodes) == {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    assert ("symlink", "pts/ptmx", "/dev/ptmx") in calls
    before, after = calls.index(("umask", 0)), calls.index(("umask", 0o22))
    assert all(before < i < after for i, call in enumerate(calls) if call[0] == "mknod")


def test_joining_writes_zero_to_each() -> None:
    assert recorded(basic.JoinCgroup(("/m/tasks", "/p/tasks"))) == [
        ("write", "/m/tasks", "0", None),
        ("write", "/p/tasks", "0", None),
    ]


def test_overlay_escapes() -> None:
    calls = recorded(root_layer.Layer("/root:fs,1", "/b"))
    assert calls[-1] == (
        "mount",
        "overlay",
        "/b/m",
        "overlay",
        0,
        r"lowerdir=/root\:fs\,1,upperdir=/b/u,workdir=/b/w",
    )


@given(st.text(st.sampled_from("a/\\:,"), max_size=12))
def test_overlay_escapes_can_be_undone(path: str) -> None:
    text = root_layer.overlay_options(path, "", "")
    raw = text.removeprefix("lowerdir=").removesuffix(",upperdir=,workdir=")
    plain, rest = "", iter(raw)
    for char in rest:
        assert char not in ":,"
        plain += next(rest) if char == "\\" else char
    assert plain == path


def test_directories_are_made_where_there_are_none() -> None:
    """The rootfs' own /proc is enough; its /dev/pts is not, since the tmpfs on /dev has come over it."""
    answers: dict[str, Found] = {
        "/root:fs,1/proc": "directory",
        "/root:fs,1/dev": "absent",
        "/root:fs,1/dev/pts": "directory",
        "/root:fs,1/sys": "absent",
    }
    planned = overlay_sequence.make(
        bundle(),
        base="/b",
        last_capability=40,
        processors=PROCESSORS,
        look=lambda path: answers.get(path, ""),
        filtering=FILTER,
    )
    directories = [call[1] for call in recorded(*planned.own) if call[0] == "mkdir"]
    assert directories[3:] == ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"]


@pytest.mark.parametrize("found", ["", "file"])
def test_a_link_in_the_image_is_walked_with_care(found: Found) -> None:
    """A plain step is for a place where no link can be; all else goes through the careful one."""
    planned = overlay_sequence.make(
        bundle(), base="/b", last_capability=40, processors=PROCESSORS, look=lambda _: found, filtering=FILTER
    )
    calls = recorded(*planned.own)
    careful = [call[2] for call in calls if call[0] == "mount_in"]
    assert careful == ["/proc", "/dev", "/sys"]
    assert [call[2] for call in calls if call[0] == "mount" and call[2].startswith("/dev/")][:3] == [
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
    ], "what was mounted empty holds no link"


def test_masks_outside_proc_are_careful() -> None:
    changes = config()["linux"] | {"maskedPaths": ["/etc/x"], "readonlyPaths": ["/usr"]}
    calls = recorded(*made(linux=changes).own)
    assert ("mask_in", "/etc/x") in calls
    assert ("readonly_in", "/usr") in calls


def test_look_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "dev").symlink_to("/etc")
    (tmp_path / "nowhere").symlink_to("/absent")
    root = os.path.realpath(tmp_path)
    names = ("proc", "file", "dev", "dev/passwd", "nowhere", "absent", "absent/below")
    assert [overlay_sequence.look(f"{root}/{name}") for name in names] == [
        "directory",
        "file",
        "",
        "",
        "",
        "absent",
        "",
    ]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"hooks": {"prestart": [{"path": "/x"}]}}, "hooks.prestart"),
        ({"process": config()["process"] | {"terminal": True}}, "process.terminal"),
        ({"process": config()["process"] | {"args": ["sh"]}}, "process.args"),
        ({"mounts": [{"destination": "/x", "type": "bind", "source": "/y"}]}, "mounts[0]"),
        ({"mounts": [{"destination": "/x/../y", "type": "tmpfs"}]}, "mounts[0].destination"),
        ({"linux": config()["linux"] | {"maskedPaths": ["/proc/../etc"]}}, "linux.maskedPaths"),
        ({"linux": config()["linux"] | {"readonlyPaths": ["/proc/../etc"]}}, "linux.readonlyPaths"),
        ({"linux": config()["linux"] | {"namespaces": [{"type": "mount"}, {"type": "uts"}]}}, "linux.namespaces"),
        ({"linux": config()["linux"] | {"namespaces": [{"type": "pid"}, {"type": "uts"}]}}, "linux.namespaces"),
        (
            {"linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "pid", "path": "/x"}]}},
            "linux.namespaces",
        ),
    ],
)
def test_what_the_helper_cannot_do_is_refused(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(BundleError) as caught:
        made(**changes)
    assert caught.value.where == where
    assert caught.value.fix


def test_in_place_the_root_is_entered_last() -> None:
    """Hooks see both roots; every path in the image is resolved with care; what must be masked is, after that."""
    planned = cold()
    outside = recorded(*planned.outside)
    assert {call[0] for call in outside} >= {"attach_root", "mount_in", "device_in", "link_in", "mkdir_in"}
    assert not {"pivot_root", "mask_in", "capset"} & {call[0] for call in outside}
    plain = [call for call in outside if call[0] in ("mount", "mkdir", "mknod", "symlink")]
    assert plain == [("mount", "none", "/", "", mount_calls.MS_REC | mount_calls.MS_SLAVE)]
    entering = [call[0] for call in recorded(*planned.entering)]
    assert entering[:4] == ["chdir", "pivot_root", "umount2", "chdir"]
    assert entering.count("mask_in") == 11
    assert entering.count("readonly_in") == 5


def test_without_pivot_root_the_rest_is_the_same() -> None:
    usual, moved = cold(), make(bundle(), pivot=False, filtering=FILTER, last_capability=40)
    assert recorded(*moved.outside) == recorded(*usual.outside)
    entering = recorded(*moved.entering)
    assert entering[:4] == [
        ("let_go_of_host",),
        ("mount", ".", "/", "", mount_calls.MS_MOVE),
        ("chroot", "."),
        ("chdir", "/"),
    ]
    assert entering[4:] == recorded(*usual.entering)[4:]


@pytest.mark.parametrize("pivot", [True, False])
def test_in_the_callers_mount_namespace_nothing_of_it_changes(pivot: bool) -> None:
    namespaces = [{"type": kind} for kind in ("pid", "uts")]
    shared = bundle(linux=config()["linux"] | {"namespaces": namespaces})
    planned = make(shared, pivot=pivot, filtering=FILTER, last_capability=40)
    calls = recorded(*planned.own)
    assert not [call for call in calls if call[0] in ("mount", "pivot_root", "umount2", "let_go_of_host")]
    assert recorded(*planned.entering)[:2] == [("chroot", "."), ("chdir", "/")]
    assert not planned.clone_flags & syscalls.CLONE_NEWNS


def test_what_of_the_host_shows_the_kernel() -> None:
    mountinfo = """\
20 1 0:1 / / rw - ext4 /dev/vda rw
21 20 0:2 / /proc rw - proc proc rw
22 20 0:3 / /sys rw shared:5 - sysfs sysfs rw
23 21 0:2 /sys /proc/sys ro - proc proc rw
24 20 0:2 / /b/root\\040fs/proc rw - proc proc rw
25 20 0:2 / /b/root\\040fs2/proc rw - proc proc rw
26 20 0:9 / /tmp rw - tmpfs proc rw
"""
    assert without_pivot.whole(mountinfo, "/b/root fs") == ["/proc", "/sys", "/b/root fs2/proc"]


def test_both_ways_mount_and_mask_the_same() -> None:
    """The same configuration: the same file systems with the same options at the same places, by either order."""

    def mounts(planned: StepSequence) -> list[tuple[Any, ...]]:
        return [
            call[1:] for call in recorded(*planned.own) if call[0] in ("mount", "mount_in") and call[2].count("/") > 0
        ]

    ours = [call for call in mounts(made()) if call[2] in ("proc", "tmpfs", "devpts", "mqueue", "sysfs")]
    kinds = [(m.source, m.target, m.kind, m.flags, m.data) for m in bundle().mounts]
    assert [call[:5] for call in mounts(cold()) if call[1] != "/"] == kinds
    assert [call for call in ours if call in kinds] == kinds


def person_of(**changes: Any) -> list[tuple[Any, ...]]:
    return recorded(*cold(process=config()["process"] | changes).credentials)


def test_user_then_capabilities_then_ambient() -> None:
    sets = {name: ["CAP_CHOWN"] for name in ("bounding", "effective", "permitted", "inheritable", "ambient")}
    user = {"uid": 7, "gid": 8, "additionalGids": [4, 9], "umask": 0o77}
    calls = person_of(user=user, capabilities=sets)
    names = [call[0] for call in calls]
    assert calls[names.index("setresuid")] == ("setresuid", 7, 7, 7)
    assert calls[names.index("setgroups")] == ("setgroups", [4, 9])
    assert ("umask", 0o77) in calls
    assert names.index("setgroups") < names.index("setresgid") < names.index("setresuid") < names.index("capset")
    keep = calls.index(("prctl", syscalls.PR_SET_KEEPCAPS, 1))
    assert keep < names.index("setresuid")
    raised = calls.index(("prctl", syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, 0))
    assert raised > names.index("capset")
    assert len([call for call in calls if call[:2] == ("prctl", syscalls.PR_CAPBSET_DROP)]) == 40


def test_without_no_new_privs_the_right_to_filter_is_carried_over() -> None:
    """seccomp(2) wants CAP_SYS_ADMIN then: the small program has it, and sets the configured sets before the filter."""
    calls = person_of(noNewPrivileges=False)
    admin = 1 << 21
    (mask,) = {call[1] for call in calls if call[0] == "inherit"}
    assert mask & admin
    names = [call[0] for call in calls]
    assert names.index("inherit") < calls.index(("prctl", syscalls.PR_CAPBSET_DROP, 21)), "the bounding set limits it"
    (held,) = [call for call in calls if call[0] == "capset"]
    assert all(each & admin for each in held[1:])
    process = config()["process"] | {"noNewPrivileges": False}
    last = cold(process=process).last
    assert [call.name for call in last] == ["prctl", "capset", "seccomp"]


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize(
    ("bounding", "permitted", "effective", "inheritable", "ambient"),
    [
        (0b111, 0b111, 0b111, 0, 0),
        (0b111, 0b010, 0b010, 0, 0),
        (0b111, 0b111, 0b010, 0b100, 0b100),
        (0, 0, 0, 0, 0),
        (0b001, 0b110, 0b110, 0b110, 0b010),
    ],
)
def test_both_execs_leave_what_one_would(
    uid: int,
    filtered: bool,
    quiet: bool,
    bounding: int,
    permitted: int,
    effective: int,
    inheritable: int,
    ambient: int,
) -> None:
    """By the rules of capabilities(7): the program's sets, those that execve judges by, and the right to filter."""
    sets = capabilities.Capabilities(
        bounding=bounding, permitted=permitted, effective=effective, inheritable=inheritable, ambient=ambient
    )

    def execve(permitted: int, inheritable: int, ambient: int) -> tuple[int, int, int]:
        gained = (inheritable | bounding) if uid == 0 else 0
        if quiet:
            gained &= permitted
        return gained | ambient, inheritable, ambient

    process = replace(bundle().process, uid=uid, capabilities=sets, no_new_privileges=quiet)
    carried = carry.needed(process, filtered=filtered)
    if carried is None:
        held, inherited, around = execve(permitted, inheritable, ambient)
        assert held == effective, "execve judges by what is configured"
        assert not filtered or quiet
        now = (held, inherited, around)
    else:
        around = carried.mask if uid else 0
        held, _, _ = execve(carried.mask, carried.inheritable, around)
        assert held & carried.mask == carried.mask
        assert not filtered or quiet or held >> 21 & 1
        now = (permitted | carried.extra, inheritable, ambient)
    assert execve(*now) == execve(permitted, inheritable, ambient)


def test_limits_are_set_from_outside() -> None:
    from tare.runners.container.setup.sequence import limits

    process = config()["process"] | {
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 1}],
        "oomScoreAdj": -500,
    }
    read = bundle(process=process).process
    assert recorded(*limits(read, pid=77)) == [
        ("write", "/proc/77/oom_score_adj", "-500"),
        ("prlimit", 77, 4, (0, 1)),
    ]
    assert ("write", "/proc/self/oom_score_adj", "-500") in recorded(*limits(read, pid=0))
    assert "RLIMIT" not in str(cold(process=process).credentials)


#: Small, as RLIMIT_NAME, soft, hard and its number; the last was set while this was still Python.
SMALL = [
    ("AS", 4 << 20, 8 << 20, 9),
    ("DATA", 1 << 20, 1 << 20, 2),
    ("FSIZE", 0, 0, 1),
    ("STACK", 1 << 16, 1 << 20, 3),
    ("NOFILE", 8, 1024, 7),
]


def limited(name: str, soft: int, hard: int) -> Process:
    limit = {"type": f"RLIMIT_{name}", "soft": soft, "hard": hard}
    return bundle(process=config()["process"] | {"rlimits": [limit]}).process


@pytest.mark.parametrize(("name", "soft", "hard", "number"), SMALL)
def test_limits_that_python_could_not_live_with_come_last(
    name: str, soft: int, hard: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the capabilities and the filter; from outside they are only given the room that they need."""
    from tare.runners.container.setup.sequence import becoming, limits

    read = limited(name, soft, hard)
    last = becoming(read, bundle=bundle(), last_capability=40, filtering=FILTER)
    for calls in (last.calls, last.before_hooks) if name != "FSIZE" else (last.calls,):
        assert calls[0].name == "prlimit64"
        assert calls[0].arguments == (0, number, struct.pack("<QQ", soft, hard), 0)
    assert name in last.words[0]
    assert "prlimit64" not in [call.name for call in last.before_hooks[name != "FSIZE" :]], "a hook's output is a file"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (5, -1))
    assert recorded(*limits(read, pid=77)) == []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (5, hard))
    assert recorded(*limits(read, pid=77)) == []
    if hard:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (5, hard - 1))
        assert recorded(*limits(read, pid=77)) == [("prlimit", 77, number, (5, hard))]


def test_no_limit_is_room_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    from tare.runners.container.setup.sequence import becoming, limits

    read = limited("AS", -1 % (1 << 64), -1 % (1 << 64))
    (call, *_) = becoming(read, bundle=bundle(), last_capability=40, filtering=FILTER).calls
    assert call.arguments == (0, 9, b"\xff" * 16, 0)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (5, 6))
    assert recorded(*limits(read, pid=0)) == [("prlimit", 0, 9, (5, -1))]


def test_other_limits_cost_no_call_of_the_small_program() -> None:
    from tare.runners.container.setup.sequence import becoming

    for name in ("CORE", "NPROC", "NOFILE", "MEMLOCK"):
        last = becoming(limited(name, 1024, 4096), bundle=bundle(), last_capability=40, filtering=FILTER)
        assert "prlimit64" not in [call.name for call in last.calls]


def test_user_namespaces_bind_devices() -> None:
    """mknod(2) there makes nothing that could be opened."""
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    namespaces = [{"type": kind} for kind in ("mount", "pid", "uts", "user")]
    linux = config()["linux"] | {"namespaces": namespaces, "uidMappings": ids, "gidMappings": ids}
    planned = cold(linux=linux)
    assert planned.clone_flags & syscalls.CLONE_NEWUSER
    calls = recorded(*planned.outside)
    assert not [call for call in calls if call[0] == "device_in"]
    assert [call[1] for call in calls if call[0] == "bound_device_in"] == [
        f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")
    ]
    names = [call[0] for call in calls]
    assert names.index("attach_root") < names.index("setresuid") < names.index("mount_in"), (
        "the root's way is the host's"
    )


def test_a_bound_dev_gets_no_devices() -> None:
    calls = recorded(*cold(mounts=[{"destination": "/dev", "type": "bind", "source": "/dev"}]).outside)
    assert not {"device_in", "link_in"} & {call[0] for call in calls}


def test_readonly_root_comes_after_all_that_writes() -> None:
    planned = cold(root={"path": "/r", "readonly": True})
    last = recorded(*planned.entering)[-1]
    assert last == ("attributes_in", "/", mount_calls.MOUNT_ATTR_RDONLY, 0, 0)


def run(*what: basic.Step, **fails: int) -> tuple[list[tuple[Any, ...]], str]:
    """Run *what* as a child does, with calls that fail; what was called and what was said on the status pipe."""
    recorder = Recorder(**fails)
    calls = [
        [(getattr(recorder, act.__name__), arguments, tolerated) for act, arguments, tolerated in each]
        for each in flatten(what)
    ]
    reader, writer = os.pipe()
    try:
        went_well = program.run(what, calls, writer)
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8") as said:
        text = said.read()
    assert went_well == (not text)
    return recorder.calls, text


def test_flat_calls_are_the_steps_calls() -> None:
    flat = [(act.__name__, *arguments) for each in flatten(made().own) for act, arguments, _ in each]
    assert flat == recorded(*made().own)


@pytest.mark.parametrize("error", [errno.ENOENT, errno.ENOTDIR])
@pytest.mark.parametrize("step", [basic.MaskFile("/proc/x"), basic.MaskDirectory("/x"), basic.MakeReadonly("/x")])
def test_absent_paths_need_no_mask(step: basic.Step, error: int) -> None:
    calls, said = run(step, basic.NewSession(), mount=error)
    assert said == ""
    assert calls[-1] == ("setsid",)


@pytest.mark.parametrize("step", [basic.MaskFile("/proc/x"), basic.MaskDirectory("/x"), basic.MakeReadonly("/x")])
def test_a_mask_that_fails_is_no_success(step: basic.Step) -> None:
    calls, said = run(step, basic.NewSession(), mount=errno.EPERM)
    assert "[Errno 1]" in said
    assert ("setsid",) not in calls


def test_a_mask_like_another_must_be_there() -> None:
    """Where the first is missing, binding it would leave the second open: that is no path that needs no mask."""
    calls, said = run(basic.MaskDirectory("/y", "/x"), basic.NewSession(), mount=errno.ENOENT)
    assert "cannot mask the directory /y as /x" in said
    assert ("setsid",) not in calls


def test_existing_directory_is_fine() -> None:
    assert run(basic.MakeDirectory("/proc"), mkdir=errno.EEXIST)[1] == ""
    assert "cannot make the directory /proc" in run(basic.MakeDirectory("/proc"), mkdir=errno.EACCES)[1]


def test_failure_names_its_step() -> None:
    """The child's only way to speak is a pipe: step and reason stand in one line, and nothing after is done."""
    calls, said = run(basic.SetHostname("x"), basic.NewSession(), sethostname=errno.EPERM)
    assert said.startswith("cannot set the hostname to x: [Errno 1]")
    assert [call[0] for call in calls] == ["sethostname"]


def test_every_step_says_what_it_does_and_is_frozen() -> None:
    limits = config()["process"] | {
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 1}],
        "oomScoreAdj": 5,
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE"},
        "scheduler": {"policy": "SCHED_IDLE"},
    }
    warm, in_place = made(process=limits), cold(process=limits)
    every = [*warm.steps, *in_place.steps, basic.JoinCgroup(("/m/x/tasks",))]
    words = [step.describe() for step in every]
    assert all(word and word[0].islower() and not word.endswith(".") for word in words)
    assert len({*words}) > 60
    assert "bound the capabilities to CAP_CHOWN CAP_DAC_OVERRIDE" in str(words)
    step = basic.SetHostname("x")
    with pytest.raises(AttributeError):
        step.name = "y"  # type: ignore[misc]
