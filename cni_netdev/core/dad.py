"""Duplicate address detection (RFC 4862): waiting for its end, by the kernel's events.

An event only wakes; what counts is the list of addresses, so that none that was missed does harm.
"""

from __future__ import annotations

import _socket as socket
import time

from cni_netdev.core import rtnl
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.netlink import (
    NLM_F_DUMP,
    RTM_GETADDR,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_netdev.core.netlink import Connection

_RTMGRP_IPV6_IFADDR = 0x100  # linux/rtnetlink.h
_AT_A_TIME = 0.2  # seconds between two looks at the caller's own limit
_MOST_BYTES = 8192


def listen() -> socket.socket:
    """Events of IPv6 addresses in the calling thread's namespace; to be closed.  Raises OSError."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        events.bind((0, _RTMGRP_IPV6_IFADDR))
        events.settimeout(_AT_A_TIME)
    except OSError:
        events.close()
        raise
    return events


def settled(
    connection: Connection,
    events: socket.socket,
    ifindex: int,
    seconds: float,
    in_time: Callable[[], None],
) -> tuple[str, ...]:
    """As ports.Netns.await_dad has it."""
    limit = time.monotonic() + seconds
    while True:
        query, what = rtnl.address_dump(ifindex), f"list addresses of ifindex {ifindex}"
        replies = connection.request(what, query, RTM_GETADDR, NLM_F_DUMP)
        found = [rtnl.dad_state(each) for each in replies if each["index"] == ifindex]
        failed = [address for address, state in found if state == "failed"]
        waiting = [address for address, state in found if state == "tentative"]
        if failed or not waiting:
            return tuple(f"{each} is used by another host" for each in failed)
        if time.monotonic() > limit:
            return tuple(f"{each} is still tentative after {seconds} s" for each in waiting)
        in_time()
        _await(events)


def _await(events: socket.socket) -> None:
    try:
        events.recv(_MOST_BYTES)
    except OSError:
        return  # no event by now, or more than there was room for
