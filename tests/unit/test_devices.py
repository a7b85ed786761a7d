"""Device objects to requests: the table of faults is in tests/bad_inputs.py."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core.devices import merge_requests, parse_devices
from cni_netdev.core.errors import RequestError
from cni_netdev.core.extras import SIZES
from cni_netdev.core.model import DeviceRequest, Extras, RouteRequest, Rule, Selector
from cni_netdev.core.tunables import TUNABLES
from cni_netdev.core.values import shown
from tests.strategies import requests

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ("name", "mtu", "routes", "addresses", "dst", "x", "up", "address", "mac")
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def one(**device: Any) -> DeviceRequest:
    return parse_devices([{"name": "nic1", **device}], "config", "devices")[0]


def rendered(request: DeviceRequest) -> dict[str, Any]:
    """A request as a user would write it."""
    routes = [
        {key: value for key, value in route._asdict().items() if value is not None}
        for route in request.routes
    ]
    written = {
        request.selector.kind: request.selector.value,
        "new_name": request.new_name,
        "addresses": list(request.addresses),
        "mtu": request.mtu,
        "mac": request.mac,
        "routes": routes,
        "up": request.up,
        "keep_addresses": request.keep_addresses,
        **written_extras(request.extras or Extras()),
        "ethtool": _sections(request.ethtool),
        "rdma": request.rdma,
        "vf": dict(request.vf) or None,
        "ebpf": request.ebpf or None,
    }
    return {key: value for key, value in written.items() if value is not None}


def written_rule(rule: Rule) -> dict[str, Any]:
    whole = {
        "family": {2: "ipv4", 10: "ipv6"}[rule.family],
        "from": rule.src,
        "to": rule.dst,
        "iif": bool(rule.iif),
        "oif": bool(rule.oif),
        "fwmark": rule.mark,
        "fwmask": rule.mask,
        "table": rule.table,
        "priority": rule.priority,
    }
    return {key: value for key, value in whole.items() if value}


def written_extras(extras: Extras) -> dict[str, Any]:
    sizes = dict(extras.sizes)
    return {
        "txqlen": extras.txqlen,
        "altnames": list(extras.altnames),
        "dad": {"wait": extras.dad_seconds} if extras.dad == "wait" else extras.dad or None,
        "vrf": extras.vrf._asdict() if extras.vrf else None,
        "announce": extras.announce,
        "sysctls": {name: dict(extras.sysctls).get(key) for name, (key, _) in TUNABLES.items()},
        "rules": list(map(written_rule, extras.rules)),
        "neighbors": [{"address": each.address, "mac": each.mac} for each in extras.neighbours],
        **{key: sizes.get(name) for key, name in SIZES.items()},
    }


def _sections(pairs: tuple[tuple[str, str], ...]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for key, value in pairs:
        section, _, name = key.partition(".")
        found.setdefault(section, {})[name] = value
    return found


@given(requests())
def test_what_is_written_is_what_is_read(request: DeviceRequest) -> None:
    (read,) = parse_devices([rendered(request)], "config", "devices")
    assert read.wish == request.wish


@given(JSON)
def test_only_the_documented_error(value: Any) -> None:
    with suppress(RequestError):
        parse_devices(value, "capability", "x")


@given(st.lists(requests(), max_size=4))
def test_merged_requests_name_each_link_and_each_name_once(wishes: list[DeviceRequest]) -> None:
    placed = tuple(each._replace(where=f"[{number}]") for number, each in enumerate(wishes))
    try:
        merged = merge_requests(placed[:2], placed[2:])
    except RequestError:
        selectors = [each.selector for each in placed]
        names = [each.new_name or each.selector.value for each in placed]
        names += [name for each in placed if each.extras for name in each.extras.altnames]
        assert len(set(selectors)) < len(selectors) or len(set(names)) < len(names)
    else:
        assert merged == placed
        assert len({each.selector for each in merged}) == len(merged)


@pytest.mark.parametrize(
    ("device", "addresses"),
    [
        ({"address": "10.0.0.1", "prefix": 24}, ("10.0.0.1/24",)),
        ({"address": "10.0.0.1", "prefix": "24"}, ("10.0.0.1/24",)),
        ({"address": "10.0.0.1"}, ("10.0.0.1/32",)),
        ({"address": "fd00::1"}, ("fd00::1/128",)),
        ({"address": "10.0.0.1/24", "prefix": 24}, ("10.0.0.1/24",)),
        ({"address": "FD00:0::1/64", "addresses": ["10.0.0.1/8"]}, ("fd00::1/64", "10.0.0.1/8")),
    ],
)
def test_forms_of_an_address(device: dict[str, Any], addresses: tuple[str, ...]) -> None:
    assert one(**device).addresses == addresses


def test_canonical_forms() -> None:
    assert one(mac="02-AA-00-00-00-01").mac == "02:aa:00:00:00:01"
    (pci,) = parse_devices([{"pci_address": "3B:02.1"}], "config", "d")
    assert pci.selector == Selector("pci_address", "0000:3b:02.1")
    routes = one(
        routes=[{"dst": "default", "gw": "fd00::1"}, {"dst": "10.0.0.0/8", "scope": "link"}]
    )
    assert routes.routes == (
        RouteRequest("::/0", gw="fd00::1"),
        RouteRequest("10.0.0.0/8", scope=253),
    )


def test_all_faults_of_all_devices_come_at_once() -> None:
    with pytest.raises(RequestError) as caught:
        parse_devices([{"name": "a", "mtu": 1, "mac": "x"}, {}, 7], "config", "devices")
    assert [fault.path for fault in caught.value.faults] == [
        "devices[0].mtu",
        "devices[0].mac",
        "devices[1]",
        "devices[2]",
    ]


def test_a_tenants_text_is_escaped_and_cut_in_messages() -> None:
    with pytest.raises(RequestError) as caught:
        parse_devices([{"name": "a\x1b[31m\n" + "x" * 500, "\x1b": 1}], "annotation", "")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 600


def test_names_may_be_swapped() -> None:
    first, second = {"name": "a", "new_name": "b"}, {"name": "b", "new_name": "a"}
    assert (
        len(merge_requests(parse_devices(json.loads(json.dumps([first, second])), "config", "d")))
        == 2
    )


# --- limits ----------------------------------------------------------------------------------

MANY = [f"10.0.{number // 256}.{number % 256}/32" for number in range(1, 300)]
ROUTES = [{"dst": dst} for dst in MANY]


def refusal(**device: Any) -> str:
    with pytest.raises(RequestError) as caught:
        one(**device)
    return caught.value.message


def test_how_many_of_each() -> None:
    devices = [{"name": f"nic{number}"} for number in range(65)]
    assert len(parse_devices(devices[:64], "annotation", "")) == 64
    with pytest.raises(RequestError, match="65 devices are more than 64"):
        parse_devices(devices, "annotation", "")
    assert len(one(addresses=MANY[:64]).addresses) == 64
    assert len(one(address=MANY[64], addresses=MANY[:63]).addresses) == 64
    assert "65 entries are more than 64" in refusal(addresses=MANY[:65])
    assert "64 entries are more than 63" in refusal(address=MANY[64], addresses=MANY[:64])
    assert len(one(routes=ROUTES[:256]).routes) == 256
    assert "257 entries are more than 256" in refusal(routes=ROUTES[:257])


@pytest.mark.parametrize(
    ("key", "least", "most"),
    [
        ("mtu", 68, 65535),
        ("prefix", 0, 32),
        ("priority", 0, 2**32 - 1),
        ("table", 1, 2**32 - 1),
        ("scope", 0, 255),
        ("advmss", 1, 65535),
    ],
)
def test_ranges(key: str, least: int, most: int) -> None:
    def device(value: object) -> dict[str, Any]:
        if key == "mtu":
            return {"mtu": value}
        if key == "prefix":
            return {"address": "10.0.0.1", "prefix": value}
        return {"routes": [{"dst": "10.0.0.0/8", key: value}]}

    for right in (least, most, str(least), str(most)):
        one(**device(right))
    huge = ("9" * 13, 10**4000, 2**64, -(2**63), 1e308, float("nan"), float("inf"))
    odd = ("", "+1", "-0", "01", "1 ", "\u0661", "1_0", "0x10", True, [1], {"a": 1})
    for wrong in (least - 1, most + 1, str(most + 1), *huge, *odd):
        assert len(refusal(**device(wrong))) < 250, wrong


@pytest.mark.parametrize("key", ["name", "new_name", "kernel_path", "mac", "address", "dst"])
@pytest.mark.parametrize("text", ["a\0b", "\0", "a\nb", "\u202ea", "a\ud800", "\x1b[m", "x" * 5000])
def test_no_text_gets_through_that_is_no_plain_name_or_number(key: str, text: str) -> None:
    device = {"routes": [{"dst": text}]} if key == "dst" else {key: text}
    whole = device if key in ("name", "kernel_path") else {"name": "nic1", **device}
    with pytest.raises(RequestError) as caught:
        parse_devices([whole], "annotation", "")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 250


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/sys/devices/pci0000:00/0000:00:05.0", "/sys/devices/pci0000:00/0000:00:05.0"),
        ("/sys/devices//virtual/net/nic1/", "/sys/devices/virtual/net/nic1"),
        ("/sys/devices/" + "x" * 1011, "/sys/devices/" + "x" * 1011),
    ],
)
def test_kernel_paths(path: str, canonical: str) -> None:
    (found,) = parse_devices([{"kernel_path": path}], "annotation", "")
    assert found.selector == Selector("kernel_path", canonical)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/sys/devices",
        "/sys/devicesx/net",
        "/sys/class/net/nic1",
        "sys/devices/x",
        "//sys/devices/x",
        "/sys/devices/../class/net/nic1",
        "/sys/devices/virtual/..",
        "/sys/devices/./x",
        "/sys/devices/a\n/x",
        "/sys/devices/" + "x" * 1012,
        5,
        ["/sys/devices/x"],
    ],
)
def test_no_kernel_paths(path: object) -> None:
    with pytest.raises(RequestError, match=r"is no plain path below /sys/devices/|must be text"):
        parse_devices([{"kernel_path": path}], "annotation", "")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("plain", "'plain'"),
        ("a\x1b\u202e\ud800", r"'a\x1b\u202e\ud800'"),
        ("x" * 100, "'" + "x" * 63 + "..."),
        ([], "[]"),
        ({"k": "\u202e"}, r"{'k': '\u202e'}"),
        ([[[[["x"]]]]], "[[[[...]]]]"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, ...]"),
        (None, "None"),
        (1.5, "1.5"),
    ],
)
def test_what_is_shown_of_a_value(value: object, told: str) -> None:
    assert shown(value) == told
