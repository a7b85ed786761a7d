"""Everything that can be seen of a link with iproute2 and /proc, for exact comparison.

Nothing here goes through our own netlink code: a mistake there must not hide itself.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import socket
import struct
import subprocess
import time
from ipaddress import IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_SYSCTLS = ("ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh")
# Numbers and states that follow the moment or the carrier, not the administrator.
_PASSING = frozenset(
    (
        "ifindex",
        "operstate",
        "link_index",
        "link",
        "link_netnsid",
        "flags",
        "tentative",
        "stats64",
        "valid_life_time",
        "preferred_life_time",
        "dadfailed",
        "qdisc",
    )
)
_CARRIER_SECONDS = 0.5
_FLAGS = frozenset(("UP", "NOARP", "PROMISC", "ALLMULTI", "MULTICAST", "DYNAMIC", "DEBUG"))


def capture(name: str) -> dict[str, Any]:
    """The link's state as nested plain values."""
    return captures(name)[name]


def captures(*names: str) -> dict[str, dict[str, Any]]:
    """Those of the links that are there, by name; with none named, of all."""
    limit = time.monotonic() + _CARRIER_SECONDS
    while True:
        links = _links()
        wanted = [name for name in names or links if name in links]
        try:
            listed = _Listed()
            if time.monotonic() > limit or not any(listed.is_due(links[name]) for name in wanted):
                return {name: listed.of(name, links[name]) for name in wanted}
        except (OSError, LookupError, subprocess.CalledProcessError):
            if _indexes(_links()) == _indexes(links):
                raise
            continue  # one came or went while it was looked at
        time.sleep(0.02)


def _links() -> dict[str, Any]:
    return {each["ifname"]: each for each in _ip("-d", "link")}


def _indexes(links: dict[str, Any]) -> dict[str, int]:
    return {name: link["ifindex"] for name, link in links.items()}


class _Listed:
    """Everything that is listed of a host's links, by one process for each kind of thing."""

    def __init__(self) -> None:
        self._addresses = {each["ifname"]: each["addr_info"] for each in _ip("-d", "addr")}
        self._routes = _by_link(
            route
            for family in ("-4", "-6")
            for route in _sorted(map(_own, _ip(family, "-d", "route", "show", "table", "all")))
            if not _comes_with_the_carrier(route)
        )
        self._neighbours = _by_link(_ip("neigh", "show", "nud", "permanent"))
        self._proxies = _by_link(_ip("neigh", "show", "proxy"))
        self._qdiscs = _by_link(_tc("qdisc", "show"))
        self._macs = _by_link(filter(_is_set_by_hand, _json("bridge", "fdb", "show")), "ifname")
        self._multicast = _multicast_set_by_hand()
        self._tokens = _by_link(_ip("token"), "ifname")

    def is_due(self, link: Any) -> bool:
        """Whether the kernel is about to make its link-local address, or the routes to those that
        were given, in a worker of its own (net/ipv6/addrconf.c, addrconf_dad_work).
        """
        name = link["ifname"]
        if not {"UP", "LOWER_UP"} <= set(link["flags"]) or link["link_type"] != "ether":
            return False
        if link.get("inet6_addr_gen_mode") == "none" or not _has_ipv6(name):
            return False
        given = {each["local"] for each in self._addresses[name] if each["family"] == "inet6"}
        routed = {each["dst"] for each in self._routes.get(name, ()) if each["type"] == "local"}
        if {each for each in given if not each.startswith("fe80:")} - routed:
            return True
        local = {each["local"] for each in self._addresses[name] if each["scope"] == "link"}
        if link["inet6_addr_gen_mode"] == "eui64":
            return _by_eui64(link["address"]) not in local
        return not local

    def of(self, name: str, link: Any) -> dict[str, Any]:
        addresses = [_lasting(each) for each in self._addresses[name]]
        qdiscs = self._qdiscs.get(name, [])
        with_filters = any(each["kind"] in ("ingress", "clsact") for each in qdiscs)
        return {
            "link": _lasting(link),
            "flags": sorted(_FLAGS & set(link["flags"])),
            "addresses": [each for each in addresses if each["scope"] != "link"],
            # The kernel makes its own when the carrier comes, before or after the others are set.
            "link-local": _sorted(each for each in addresses if each["scope"] == "link"),
            "routes": [_lasting(each) for each in self._routes.get(name, [])],
            "neighbours": _sorted(self._neighbours.get(name, [])),
            "proxies": _sorted(self._proxies.get(name, [])),
            "qdisc": qdiscs,
            "filters": _tc("filter", "show", "dev", name, "ingress") if with_filters else [],
            "sysctls": sysctls(name),
            "macs": _sorted(self._macs.get(name, [])),
            "multicast": sorted(self._multicast.get(name, [])),
            "token": self._tokens.get(name, []),
            "offloads": offloads(name),
            "queues": len(list(Path("/sys/class/net", name, "queues").glob("*"))),
        }


def _has_ipv6(name: str) -> bool:
    switch = Path("/proc/sys/net/ipv6/conf", name, "disable_ipv6")
    return switch.exists() and switch.read_text().strip() == "0"


def _by_eui64(mac: str) -> str:
    digits = bytes.fromhex(mac.replace(":", ""))
    half = bytes([digits[0] ^ 2, *digits[1:3], 0xFF, 0xFE, *digits[3:]])
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + half))


def _by_link(values: Iterable[Any], key: str = "dev") -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for each in values:
        found.setdefault(each.get(key, ""), []).append(each)
    return found


def _is_set_by_hand(entry: Any) -> bool:
    """Of MACs: not what was learnt, nor what IP and sockets have joined."""
    joined = "dst" not in entry and int(entry["mac"][:2], 16) & 1
    return entry.get("state") in ("permanent", "static") and not joined


def _multicast_set_by_hand() -> dict[str, list[str]]:
    """By link, of /proc/net/dev_mcast: ifindex, name, users, whether it is set, MAC."""
    found: dict[str, list[str]] = {}
    for line in Path("/proc/thread-self/net/dev_mcast").read_text().splitlines():
        _, name, _, by_hand, mac = line.split()
        if by_hand != "0":
            found.setdefault(name, []).append(mac)
    return found


def offloads(name: str) -> dict[str, int]:
    """By ethtool's oldest commands, one for each (linux/ethtool.h)."""
    commands = {"rx": 0x14, "tx": 0x16, "sg": 0x18, "tso": 0x1E, "gso": 0x23, "gro": 0x2B}
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for what, command in commands.items():
            value = ctypes.create_string_buffer(struct.pack("=II", command, 0), 8)
            request = struct.pack("16sQ16x", name.encode(), ctypes.addressof(value))
            fcntl.ioctl(asked, 0x8946, request)
            found[what] = struct.unpack_from("=II", value.raw)[1]
    return found


def _own(route: Any) -> Any:
    """Without the flags that follow the carrier."""
    return {**route, "flags": [flag for flag in route.get("flags", []) if flag == "onlink"]}


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Where two captures differ, a sentence each."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for key in sorted(before.keys() | after.keys())
            for line in differences(before.get(key), after.get(key), f"{path}.{key}")
        ]
    if isinstance(before, list) and isinstance(after, list) and before != after:
        lost = [each for each in before if each not in after]
        new = [each for each in after if each not in before]
        told = f"lost {lost}, new {new}" if lost or new else f"in another order: {after}"
        return [f"{path[1:]}: {told}"]
    return [] if before == after else [f"{path[1:]}: {before!r} became {after!r}"]


def everything() -> dict[str, Any]:
    """Every link of this namespace, to show that a refused request touched nothing."""
    return captures()


def whole_host() -> dict[str, Any]:
    """All links, and all that is of none."""
    routes = [
        each for family in ("-4", "-6") for each in _ip(family, "route", "show", "table", "all")
    ]
    return {
        "links": captures(),
        "rules": [_ip(family, "rule") for family in ("-4", "-6")],
        "routes": _sorted(_own(each) for each in routes if "dev" not in each),
        "sysctls": {name: sysctls(name) for name in ("all", "default")},
    }


def sysctls(name: str) -> dict[str, str]:
    found = {}
    for group in _SYSCTLS:
        for file in sorted(Path("/proc/sys/net", group, name).glob("*")):
            try:
                found[f"{group}/{file.name}"] = file.read_text().strip()
            except OSError:
                continue  # write-only, or stable_secret before it is set
    return found


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(each) for key, each in value.items() if key not in _PASSING}
    if isinstance(value, list):
        return [_lasting(each) for each in value]
    return value


def _comes_with_the_carrier(route: Any) -> bool:
    """The kernel's own, before or after we look; they follow from the link-local address."""
    if route.get("protocol") != "kernel":
        return False
    destination = route.get("dst", "")
    own_address = route.get("type") == "local" and destination.startswith("fe80::")
    return own_address or destination in ("fe80::/64", "ff00::/8")


def _sorted(values: Any) -> list[Any]:
    return sorted(values, key=lambda each: json.dumps(each, sort_keys=True))


def _ip(*arguments: str) -> Any:
    return _json("ip", *arguments)


def _tc(*arguments: str) -> Any:
    return _json("tc", *arguments)


def _json(program: str, *arguments: str) -> Any:
    done = subprocess.run([program, "-j", *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout or "[]")
