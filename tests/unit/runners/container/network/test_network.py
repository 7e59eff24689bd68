"""A container's network, as far as it is arithmetic: addresses, free networks, what modes ask of a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from tare.runners.container.network import bridge

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def route(destination: str, mask: str) -> str:
    """One line of /proc/net/route on a little-endian machine."""
    return f"eth0\t{destination}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n"


def test_an_idle_host_gets_the_first_network() -> None:
    assert bridge.dotted(bridge.free_network(HEAD)) == "10.214.0.0"


def test_a_default_route_takes_nothing() -> None:
    assert bridge.dotted(bridge.free_network(HEAD + route("00000000", "00000000"))) == "10.214.0.0"


def test_a_network_that_a_route_leads_into_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "_ORDER", -1)
    taken = route("0000D60A", "00FCFFFF") + route("0904D60A", "FFFFFFFF")  # 10.214.0.0/22, 10.214.4.9/32
    assert bridge.dotted(bridge.free_network(HEAD + taken)) == "10.214.8.0"


def test_a_host_without_room_is_refused_with_the_file_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "_ORDER", -1)
    with pytest.raises(OSError, match=r"10\.214\.0\.0/16") as caught:
        bridge.free_network(HEAD + route("0000000A", "000000FF"))  # 10.0.0.0/8
    assert caught.value.filename == "/proc/net/route"


def test_a_lease_names_its_link_and_addresses() -> None:
    lease = bridge.Lease(name="web", base=10 << 24 | 214 << 16 | 4 << 8, offset=260, nat=False)
    assert (lease.address, lease.gateway, lease.network) == ("10.214.5.4", "10.214.4.1", "10.214.4.0/22")
    assert lease.link.startswith("tare-")
    assert len(lease.link) < 16  # IFNAMSIZ


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [("none", ["pid", "network"]), ("bridge", ["pid", "network"]), ("host", ["pid"])],
)
def test_a_mode_decides_about_the_namespace_and_nothing_else(mode: str, kinds: list[str]) -> None:
    joined = {"type": "network", "path": "/run/netns/other"}
    config: dict[str, Any] = {"hostname": "a", "linux": {"namespaces": [{"type": "pid"}, joined], "sysctl": {}}}
    found = bridge.configure(config, mode)
    assert [each["type"] for each in found["linux"]["namespaces"]] == kinds
    assert joined not in found["linux"]["namespaces"]
    assert found["hostname"] == "a"
    assert config["linux"]["namespaces"][1] is joined, "the caller's configuration is not changed"


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'vpn'; known: none, host, bridge"):
        bridge.configure({}, "vpn")
