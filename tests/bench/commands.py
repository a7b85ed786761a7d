"""What is timed: a plugin as a runtime starts it, and ip."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from tests.bench.turns import Command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.host import Host

OURS, GO, IP = "cni-netdev", "host-device", "ip link set netns"
BY_AGENT = f"{OURS} by its agent"
_CONF: dict[str, Any] = {"cniVersion": "1.0.0", "name": "net"}


def cni(
    host: Host, plugin: str, verb: str, pod: str, container: str, conf: dict[str, Any]
) -> Command:
    """pod: the name of its namespace."""
    environ = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": f"/run/netns/{pod}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(host.bin_dir),
    }
    text = json.dumps({**_CONF, "type": plugin, **conf})
    return Command([str(host.bin_dir / plugin)], environ, text)


def version(host: Host, plugin: str) -> Command:
    text = json.dumps({"cniVersion": "1.0.0"})
    return Command([str(host.bin_dir / plugin)], {"CNI_COMMAND": "VERSION"}, text)


def ip(arguments: str, stdin: str = "") -> Command:
    return Command(["ip", *arguments.split()], {"PATH": os.environ["PATH"]}, stdin)


def batch(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
