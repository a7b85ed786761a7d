from __future__ import annotations

import errno
import select
import socket
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.watch import LinkWatch

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.kernel


def readable(watch: LinkWatch, seconds: float = 0) -> bool:
    return bool(select.select([watch], [], [], seconds)[0])


def test_it_is_readable_when_a_link_came_or_went(host: Host) -> None:
    watch = LinkWatch()
    assert not readable(watch)
    for command in ("add eth1 type veth", "set eth1 mtu 1400", "del eth1"):
        host.ip(f"link {command}")
        assert readable(watch, 10)
        watch.drain()
        assert not readable(watch)
    watch.close()


def test_events_that_were_lost_are_news_too(host: Host) -> None:
    """The kernel answers ENOBUFS once the socket's buffer is full."""
    watch = LinkWatch()
    watch._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for number in range(20):
        host.ip(f"link add eth{number} type veth")
    assert watch._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ENOBUFS
    host.ip("link add last type veth")
    assert readable(watch, 10)
    watch.drain()
    host.ip("link del last")
    assert readable(watch, 10), "it goes on"
    watch.close()
