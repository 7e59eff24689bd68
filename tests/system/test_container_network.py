"""A container's network for real: veth pairs, a bridge, NAT; all in network namespaces of the test's own.

Each test runs in a forked child that has unshared its network: it stands for the host, and the real one is not touched.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tare.runners.container.linux import syscalls
from tare.runners.container.network import bridge
from tests.conftest import require


def nat_tool() -> str:
    """The program for NAT, or ''."""
    try:
        return bridge.nat_tool()
    except FileNotFoundError:
        return ""


def nat_rules() -> str:
    """What the kernel has of NAT in this network namespace, without the chains that are always there."""
    tool = bridge.nat_tool()
    words = ["list", "ruleset"] if tool.endswith("nft") else ["-t", "nat", "-S"]
    said = subprocess.run([tool, *words], capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in said.splitlines() if not line.startswith("-P "))


def as_host(test: Callable[[str], None], state: Path) -> None:
    """Run *test* with a state directory, in a child whose network namespace is new; its failure is ours."""
    require("root", os.geteuid() == 0, "this is not root")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            syscalls.link_up("lo")
            test(os.fspath(state))
        except BaseException:  # noqa: BLE001 - a child must not go on as a second pytest
            os.write(writer, traceback.format_exc().encode()[-8000:])
        finally:
            os._exit(0)
    os.close(writer)
    said = b""
    while data := os.read(reader, 4096):
        said += data
    os.close(reader)
    os.waitpid(pid, 0)
    if said:
        pytest.fail(said.decode(), pytrace=False)


@contextmanager
def container() -> Iterator[int]:
    """A process in a network namespace of its own, which stands for a container; yields its pid."""
    code = (
        "import ctypes, os, sys\n"
        "assert ctypes.CDLL(None).unshare(0x40000000) == 0\n"
        "os.write(1, b'.')\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(1) == b"."
    try:
        yield process.pid
    finally:
        process.communicate()


def within(pid: int, action: Callable[[], None]) -> None:
    """Run *action* in the network namespace of *pid*; raises if it does."""
    child = os.fork()
    if child == 0:
        try:
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
            action()
        except BaseException:  # noqa: BLE001 - a child must not go on as a second pytest
            os.write(2, traceback.format_exc().encode())
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, f"inside the network of {pid}; see standard error"


def run(commands: str) -> None:
    """A few commands of ip(8)."""
    for command in commands.split(" && "):
        subprocess.run(command.split(), check=True)


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def talk(server_address: str, client: int, server: int) -> None:
    """A byte from the network of process *client* to a listener in that of *server*."""
    with ExitStack() as stack:
        ready, go = os.pipe()

        def serve() -> None:
            with socket.create_server((server_address, 7)) as listening:
                os.write(go, b".")
                listening.settimeout(10)
                accepted, _ = listening.accept()
                with accepted:
                    assert accepted.recv(1) == b"x"

        def call() -> None:
            with socket.create_connection((server_address, 7), timeout=10) as connected:
                connected.sendall(b"x")

        child = os.fork()
        if child == 0:
            try:
                within(server, serve)
                os._exit(0)
            except BaseException:  # noqa: BLE001 - a child must not go on as a second pytest
                os._exit(1)
        stack.callback(os.waitpid, child, 0)
        stack.callback(lambda: os.kill(child, signal.SIGKILL))
        os.close(go)
        assert os.read(ready, 1) == b".", "the listener did not start"
        within(client, call)


def test_two_containers_and_the_host_reach_each_other_and_nothing_stays(tmp_path: Path) -> None:
    def test(state: str) -> None:
        before = links()
        with container() as one, container() as two:
            first, second = bridge.setup(one, "one", state=state), bridge.setup(two, "two", state=state)
            assert first.address != second.address
            assert first.gateway == second.gateway
            talk(second.address, one, two)
            talk(first.address, os.getpid(), one)
            talk(first.gateway, two, os.getpid())
            assert bridge.teardown("one", state=state)
            assert first.link not in links()
            assert bridge.BRIDGE in links(), "another container still uses it"
            assert bridge.teardown("two", state=state)
        assert links() == before
        assert not bridge.teardown("two", state=state)
        assert not Path(state, "leases").exists()

    as_host(test, tmp_path)


def test_the_inside_has_one_interface_with_address_and_default_route(tmp_path: Path) -> None:
    def test(state: str) -> None:
        with container() as pid:
            lease = bridge.setup(pid, "one", state=state)

            def look() -> None:
                assert links() == {"lo", bridge.INTERFACE}
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anywhere:
                    anywhere.connect(("192.0.2.1", 9))  # sends nothing: asks which address it would come from
                    assert anywhere.getsockname()[0] == lease.address
                with socket.create_server(("127.0.0.1", 0)):
                    pass  # loopback is up

            within(pid, look)
            bridge.teardown("one", state=state)

    as_host(test, tmp_path)


def test_what_died_without_teardown_is_removed_by_name_and_its_address_is_free_again(tmp_path: Path) -> None:
    def test(state: str) -> None:
        with container() as pid:
            first = bridge.setup(pid, "one", state=state)
        with container() as pid:
            with pytest.raises(FileExistsError):
                bridge.setup(pid, "one", state=state)
            assert bridge.teardown("one", state=state)
            assert bridge.setup(pid, "again", state=state).address == first.address
            bridge.teardown("again", state=state)
        assert links() == {"lo"}

    as_host(test, tmp_path)


def test_a_setup_that_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def test(state: str) -> None:
        with container() as pid:

            def occupy() -> None:
                subprocess.run(["ip", "link", "add", bridge.INTERFACE, "type", "bridge"], check=True)

            within(pid, occupy)
            with pytest.raises(OSError, match="cannot add the link tare-v"):
                bridge.setup(pid, "one", state=state)
        assert links() == {"lo"}
        assert not Path(state, "leases").exists()

    as_host(test, tmp_path)


def test_a_container_on_the_hosts_network_is_refused(tmp_path: Path) -> None:
    def test(state: str) -> None:
        with pytest.raises(OSError, match="no network namespace of its own"):
            bridge.setup(os.getpid(), "one", state=state)
        assert links() == {"lo"}

    as_host(test, tmp_path)


def test_nat_gives_the_hosts_address_to_what_leaves(tmp_path: Path) -> None:
    require("nat", nat_tool(), "neither nft nor iptables is installed")

    def test(state: str) -> None:
        with container() as outside, container() as pid:
            # A neighbour of this "host", which knows no way to the containers' network.
            uplink = f"ip link add up0 type veth peer name far0 netns {outside} && ip addr add 198.51.100.1/24 dev up0"
            run(f"{uplink} && ip link set up0 up")
            there = "ip addr add 198.51.100.2/24 dev far0 && ip link set far0 up && ip link set lo up"
            within(outside, lambda: run(there))
            Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
            with pytest.raises(OSError, match=r"ip_forward=1"):
                bridge.setup(pid, "one", nat=True, state=state)
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            bridge.setup(pid, "one", nat=True, state=state)
            assert "10.214.0.0/22" in nat_rules()
            talk("198.51.100.2", pid, outside)
            assert bridge.teardown("one", state=state)
            assert nat_rules() == ""

    as_host(test, tmp_path)
