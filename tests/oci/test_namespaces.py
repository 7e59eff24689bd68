"""Namespaces: new, shared, joined by path; and what belongs to one: names, interfaces, sysctls."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.oci.harness import Box

FILES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup"}


def host(kind: str) -> str:
    return os.fspath(Path("/proc/self/ns", FILES[kind]).readlink())


def inside(box: Box) -> dict[str, str]:
    script = "\n".join(f"echo {kind} $(readlink /proc/self/ns/{file})" for kind, file in FILES.items())
    return dict(line.split() for line in box.sh(script).ok().lines)


def test_each_listed_namespace_is_new(box: Box) -> None:
    found = inside(box)
    assert found.keys() == FILES.keys()
    assert [kind for kind in FILES if found[kind] == host(kind)] == []


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup", "pid"])
def test_one_that_is_not_listed_is_the_callers(box: Box, kind: str) -> None:
    box.without(kind)
    if kind == "network":  # sysfs shows a network namespace, and only its owner may mount it
        box.config["mounts"] = [each for each in box.config["mounts"] if each["type"] != "sysfs"]
    if kind == "ipc":
        box.config["mounts"] = [each for each in box.config["mounts"] if each["type"] != "mqueue"]
    found = inside(box)
    assert [each for each in FILES if found[each] == host(each)] == [kind]


@contextmanager
def another(*options: str) -> Iterator[int]:
    """A process in namespaces of its own."""
    with subprocess.Popen(
        ["unshare", *options, "sh", "-c", "echo there; exec sleep 1000"], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "there\n"
        try:
            yield child.pid
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("kind", "option"), [("network", "--net"), ("ipc", "--ipc"), ("uts", "--uts"), ("cgroup", "--cgroup")]
)
def test_joined_by_path(box: Box, kind: str, option: str) -> None:
    with another(option) as pid:
        path = f"/proc/{pid}/ns/{FILES[kind]}"
        box.without(kind)
        box.linux["namespaces"].append({"type": kind, "path": path})
        expected = os.fspath(Path(path).readlink())
        assert expected != host(kind)
        assert inside(box)[kind] == expected


def test_joined_pid_namespace(box: Box) -> None:
    """The containers of a pod see each other's processes."""
    with another("--pid", "--fork", "--kill-child", "--mount-proc") as pid:
        child = Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()
        path = f"/proc/{child}/ns/pid"
        box.without("pid")
        box.linux["namespaces"].append({"type": "pid", "path": path})
        done = box.sh("readlink /proc/self/ns/pid; echo $$; cat /proc/1/cmdline | tr '\\0' ' '").ok()
        assert done.lines[0] == os.fspath(Path(path).readlink())
        assert int(done.lines[1]) > 1
        assert done.lines[2].startswith("sleep 1000")


def test_a_joined_namespace_of_another_kind_is_refused(box: Box) -> None:
    with another("--net") as pid:
        box.without("uts")
        box.linux["namespaces"].append({"type": "uts", "path": f"/proc/{pid}/ns/net"})
        box.run("/bin/true").refused()


@pytest.mark.parametrize("path", ["/no/such/namespace", "/etc/passwd"])
def test_a_path_that_is_no_namespace_is_refused(box: Box, path: str) -> None:
    box.without("network")
    box.linux["namespaces"].append({"type": "network", "path": path})
    done = box.run("/bin/true").refused()
    assert path in done.err or not box.runtime.ours


def test_hostname(box: Box) -> None:
    box.config["hostname"] = "a-name.example"
    assert box.run("/bin/hostname").ok().out == "a-name.example\n"
    assert os.uname().nodename != "a-name.example"


@pytest.mark.deviates("runc", "1.1 is older than domainname")
def test_domainname(box: Box) -> None:
    box.config["domainname"] = "domain.example"
    before = Path("/proc/sys/kernel/domainname").read_text()
    assert box.run("/bin/cat", "/proc/sys/kernel/domainname").ok().out == "domain.example\n"
    assert Path("/proc/sys/kernel/domainname").read_text() == before


def test_pid_1(box: Box) -> None:
    """Nothing of the host's processes is seen."""
    done = box.sh("echo $$; ls -d /proc/[0-9]* | wc -l; ls -l /proc/1/exe").ok()
    assert done.lines[0] == "1"
    assert int(done.lines[1]) < 6


def test_loopback(box: Box) -> None:
    """The network namespace has the loopback interface alone, and it is up."""
    done = box.sh("ls /sys/class/net; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo up").ok()
    assert set(done.lines) - {"up"} == set(done.lines) & set(os.listdir("/sys/class/net")) == {"lo"}
    assert "up" in done.lines


def test_the_cgroup_namespace_hides_the_path(box: Box) -> None:
    lines = box.run("/bin/cat", "/proc/self/cgroup").ok().lines
    assert any(line.endswith(":/") for line in lines)
    assert not any(box.name in line for line in lines)


def test_sysctl(box: Box) -> None:
    box.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}
    before = Path("/proc/sys/kernel/shm_rmid_forced").read_text()
    done = box.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced").ok()
    assert done.lines == ["1", "1"]
    assert Path("/proc/sys/kernel/shm_rmid_forced").read_text() == before


@pytest.mark.parametrize(
    ("key", "namespace"),
    [("net.ipv4.ip_forward", "network"), ("kernel.shm_rmid_forced", "ipc"), ("kernel.pid_max", "")],
)
def test_a_sysctl_of_the_host_is_refused(box: Box, key: str, namespace: str) -> None:
    """Without a namespace of its own, it would set the host's."""
    path = Path("/proc/sys", *key.split("."))
    before = path.read_text()
    box.linux["sysctl"] = {key: before.strip()}
    if namespace:
        box.without(namespace)
        box.config["mounts"] = [each for each in box.config["mounts"] if each["type"] not in ("sysfs", "mqueue")]
    box.run("/bin/true").refused()
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/lo.5/forwarding", "net/ipv4/conf/lo.5/forwarding"),
        ("net.ipv4.conf.lo/5.forwarding", "net/ipv4/conf/lo.5/forwarding"),
    ],
)
@pytest.mark.deviates("runc", "1.1.5 has no interface names with dots", only=["lo"])
@pytest.mark.deviates("crun", "1.8 has no interface names with dots", only=["lo"])
def test_names_of_sysctls(box: Box, key: str, path: str) -> None:
    """sysctl(8): the first separator decides; the other stands for a dot in a name."""
    with network("lo.5") as pid:
        box.without("network")
        box.linux["namespaces"].append({"type": "network", "path": f"/proc/{pid}/ns/net"})
        box.linux["sysctl"] = {key: "1"}
        assert box.run("/bin/cat", f"/proc/sys/{path}").ok().out == "1\n"


@contextmanager
def network(interface: str) -> Iterator[int]:
    """A network namespace with this interface."""
    with another("--net") as pid:
        enter = ("nsenter", f"--net=/proc/{pid}/ns/net")
        subprocess.run([*enter, "ip", "link", "add", interface, "type", "veth"], check=True)
        yield pid


@pytest.mark.parametrize(
    "key", ["net/../kernel/pid_max", "net.ipv4..x", "kernel.hostname", "kernel/pid_max", "net.", ".net.x"]
)
def test_sysctls_that_are_none_of_the_containers(box: Box, key: str) -> None:
    box.linux["sysctl"] = {key: "1"}
    box.run("/bin/true").refused()


@pytest.mark.parametrize(
    ("kind", "key"),
    [("network", "net.ipv4.ip_forward"), ("ipc", "kernel.shm_rmid_forced"), ("uts", "kernel.domainname")],
)
@pytest.mark.parametrize("whose", ["self", str(os.getpid())], ids=["self", "pid"])
@pytest.mark.deviates("runc", "1.1 looks at the network alone", only=["ipc", "uts"])
@pytest.mark.deviates("crun", "1.8 writes them to the host")
def test_sysctls_of_a_namespace_that_is_the_callers(box: Box, kind: str, key: str, whose: str) -> None:
    """A path is no sign of another namespace: the host's would change."""
    path = Path("/proc/sys", *key.split("."))
    before = path.read_text()
    box.without(kind)
    box.linux["namespaces"].append({"type": kind, "path": f"/proc/{whose}/ns/{FILES[kind]}"})
    box.linux["sysctl"] = {key: before.strip()}
    done = box.run("/bin/true").refused()
    assert path.read_text() == before
    assert "caller" in done.err or not box.runtime.ours


@pytest.mark.deviates("runc", "1.1 is older than domainname")
@pytest.mark.parametrize(("value", "fits"), [("domain.example", True), ("other.example", False)])
def test_a_domainname_and_its_sysctl_do_not_contradict_each_other(box: Box, value: str, *, fits: bool) -> None:
    box.config["domainname"] = "domain.example"
    box.linux["sysctl"] = {"kernel.domainname": value}
    done = box.run("/bin/cat", "/proc/sys/kernel/domainname")
    if fits:
        assert done.ok().out == "domain.example\n"
    else:
        done.refused()
        assert "kernel.domainname" in done.err or not box.runtime.ours


@pytest.mark.parametrize("key", ["hostname", "domainname"])
@pytest.mark.deviates("runc", "1.1 renames the host")
@pytest.mark.deviates("crun", "1.8 renames the host")
def test_a_name_for_the_callers_uts_namespace_is_refused(box: Box, key: str) -> None:
    before = Path("/proc/sys/kernel", key).read_text().strip()
    box.without("uts")
    box.linux["namespaces"].append({"type": "uts", "path": "/proc/self/ns/uts"})
    box.config[key] = before  # the same: nothing is lost where a runtime does it
    assert "caller" in box.run("/bin/true").refused().err


@pytest.mark.parametrize("order", [1, -1])
def test_namespaces_joined_in_any_order(box: Box, order: int) -> None:
    with another("--net", "--ipc", "--uts") as pid:
        joined = [{"type": kind, "path": f"/proc/{pid}/ns/{FILES[kind]}"} for kind in ("network", "ipc", "uts")]
        box.without("network", "ipc", "uts")
        box.linux["namespaces"] = (joined + box.linux["namespaces"])[::order]
        found = inside(box)
        for kind in ("network", "ipc", "uts"):
            assert found[kind] == os.fspath(Path(f"/proc/{pid}/ns/{FILES[kind]}").readlink())


@pytest.mark.deviates("runc", "1.1 is older than time namespaces")
@pytest.mark.deviates("crun", "1.8 is older than their offsets")
@pytest.mark.parametrize(
    ("offsets", "works"),
    [
        ({"monotonic": {"secs": 1000}}, True),
        ({"boottime": {"secs": 7881, "nanosecs": 500_000_000}}, True),
        ({"monotonic": {"secs": 5}, "boottime": {"secs": 100_000, "nanosecs": 0}}, True),
        ({"monotonic": {}, "boottime": {}}, True),
        ({"realtime": {"secs": 5}}, False),
    ],
    ids=["monotonic", "boottime", "both", "none", "realtime"],
)
def test_time_offsets(box: Box, offsets: dict[str, dict[str, int]], works: bool) -> None:
    box.linux["namespaces"].append({"type": "time"})
    box.linux["timeOffsets"] = offsets
    done = box.sh("cat /proc/uptime")
    if not works:
        done.refused()
        return
    inside_s = float(done.ok().out.split()[0])
    wanted = offsets.get("boottime", {}).get("secs", 0)
    assert inside_s - float(Path("/proc/uptime").read_text().split()[0]) > wanted - 60
