"""Everything that can be seen of a link with iproute2 and /proc, for exact comparison.

Nothing here goes through our own netlink code: a mistake there must not hide itself.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

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
_FLAGS = frozenset(("UP", "NOARP", "PROMISC", "ALLMULTI", "MULTICAST", "DYNAMIC", "DEBUG"))


def capture(name: str) -> dict[str, Any]:
    """The link's state as nested plain values."""
    link = _ip("-d", "link", "show", "dev", name)[0]
    shown = _ip("-d", "addr", "show", "dev", name)[0]["addr_info"]
    addresses = [_lasting(each) for each in shown]
    return {
        "link": _lasting(link),
        "flags": sorted(_FLAGS & set(link["flags"])),
        "addresses": [each for each in addresses if each["scope"] != "link"],
        # The kernel makes its own when the carrier comes, before or after the others are set.
        "link-local": _sorted(each for each in addresses if each["scope"] == "link"),
        "routes": [_lasting(each) for family in ("-4", "-6") for each in _routes(family, name)],
        "neighbours": _sorted(_ip("neigh", "show", "dev", name, "nud", "permanent")),
        "proxies": _sorted(each for each in _ip("neigh", "show", "proxy") if each["dev"] == name),
        "qdisc": _tc("qdisc", "show", "dev", name),
        "filters": _tc("filter", "show", "dev", name, "ingress"),
        "sysctls": sysctls(name),
    }


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Where two captures differ, a sentence each."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for key in sorted(before.keys() | after.keys())
            for line in differences(before.get(key), after.get(key), f"{path}.{key}")
        ]
    return [] if before == after else [f"{path[1:]}: {before!r} became {after!r}"]


def everything() -> dict[str, Any]:
    """Every link of this namespace, to show that a refused request touched nothing."""
    return {each["ifname"]: capture(each["ifname"]) for each in _ip("link")}


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


def _routes(family: str, name: str) -> list[Any]:
    routes = _ip(family, "-d", "route", "show", "table", "all", "dev", name)
    for each in routes:
        each["flags"] = [flag for flag in each.get("flags", []) if flag == "onlink"]
    return _sorted(each for each in routes if not _comes_with_the_carrier(each))


def _comes_with_the_carrier(route: Any) -> bool:
    """The kernel's own, before or after we look; they follow from the link-local address."""
    own = ("fe80::/64", "ff00::/8")
    return route.get("protocol") == "kernel" and route.get("dst") in own


def _sorted(values: Any) -> list[Any]:
    return sorted(values, key=lambda each: json.dumps(each, sort_keys=True))


def _ip(*arguments: str) -> Any:
    return _json("ip", *arguments)


def _tc(*arguments: str) -> Any:
    return _json("tc", *arguments)


def _json(program: str, *arguments: str) -> Any:
    done = subprocess.run([program, "-j", *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout or "[]")
