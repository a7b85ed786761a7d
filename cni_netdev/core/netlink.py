"""One netlink connection: a request out, its replies in, errno to our errors.

A netlink socket stays bound to the namespace that it was made in (netlink(7)), so a connection is
opened while the calling thread is inside and is used from outside afterwards.

Strict checking (NETLINK_GET_STRICT_CHK) makes the kernel filter dumps by interface, so that the
addresses and routes of one link cost the same on a host with ten links as with two thousand.
"""

from __future__ import annotations

import _socket as socket
import struct

from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.lean import TYPE_CHECKING, ExitStack, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ParamSpec

    P = ParamSpec("P")

NETLINK_ROUTE, NETLINK_GENERIC, NETLINK_RDMA = 0, 16, 20  # linux/netlink.h
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_ECHO = 0x8
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
# linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_GETTFILTER = 44, 46
RTM_GETNSID = 90
RTM_NEWLINKPROP, RTM_DELLINKPROP = 108, 109

_NLM_F_DUMP_INTR = 0x10
_NLM_F_ACK_TLVS = 0x200
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12
_HEADER = struct.Struct("=IHHII")
_LARGEST_REPLY = 128 << 10  # a link may come with 64 KiB of altnames
_DUMP_TRIES = 5
_MOST_ENCODED = 256
_SEQUENCE, _SEQUENCE_AT = struct.Struct("=I"), 8


class Query(NamedTuple):
    """A question that is asked over and over: encoded once by each connection."""

    make: Callable[..., Any]
    given: tuple[Any, ...]
    named: tuple[tuple[str, Any], ...]


def asked_again(make: Callable[P, Any]) -> Callable[P, Query]:
    """Of a function that fills a message, one that puts the filling off."""

    def put_off(*given: P.args, **named: P.kwargs) -> Query:
        return Query(make, given, tuple(named.items()))

    return put_off


class Connection:
    """A netlink socket in the calling thread's namespace.  Not for two threads at once."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        try:
            with ExitStack() as on_error:
                self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
                on_error.callback(self._socket.close)
                for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
                    self._socket.setsockopt(_SOL_NETLINK, option, 1)
                on_error.pop_all()
        except OSError as error:
            raise KernelRefused("open a netlink socket", error.errno or 0) from error
        self._sequence = 0
        # One for all: what is kept of a reply would else lie in the midst of memory that was made
        # for the largest, and a resident process grow by it.
        self._buffer = memoryview(bytearray(_LARGEST_REPLY))
        self._encoded: dict[tuple[Query, int, int], tuple[bytes, Any]] = {}

    def close(self) -> None:
        self._socket.close()

    def request(self, what: str, message: Any, kind: int, flags: int) -> list[Any]:
        """Send one message and return the decoded replies (none for a bare acknowledgement).

        what: for the error's text, as ``move link eth1``.  message: a pyroute2 message, filled, or
        a Query.  kind: RTM_*.  flags: NLM_F_* besides REQUEST.
        Raises KernelRefused with the kernel's errno and text.
        """
        for _ in range(_DUMP_TRIES):
            replies, interrupted = self._exchange(what, message, kind, flags)
            if not interrupted:
                return replies
        raise KernelRefused(f"{what}: the list kept changing while it was read", 11)

    def _exchange(self, what: str, message: Any, kind: int, flags: int) -> tuple[list[Any], bool]:
        self._sequence += 1
        if isinstance(message, Query):
            data, decoder = self._once(message, kind, flags)
        else:
            data, decoder = _encode(message, kind, flags), type(message)
        _SEQUENCE.pack_into(data, _SEQUENCE_AT, self._sequence)
        try:
            self._socket.send(data)
            return self._replies(what, decoder, dump=flags & NLM_F_DUMP == NLM_F_DUMP)
        except OSError as error:
            raise KernelRefused(what, error.errno or 0) from error

    def _once(self, query: Query, kind: int, flags: int) -> tuple[bytearray, Any]:
        """The message's bytes, and what decodes the replies."""
        key = (query, kind, flags)
        if key not in self._encoded:
            if len(self._encoded) >= _MOST_ENCODED:
                self._encoded.clear()
            message = query.make(*query.given, **dict(query.named))
            self._encoded[key] = bytes(_encode(message, kind, flags)), type(message)
        data, decoder = self._encoded[key]
        return bytearray(data), decoder

    def _replies(self, what: str, decoder: Any, *, dump: bool) -> tuple[list[Any], bool]:
        replies: list[Any] = []
        interrupted = False
        while True:
            length = self._socket.recv_into(self._buffer)
            for kind, flags, sequence, part in _split(bytes(self._buffer[:length])):
                if sequence != self._sequence:
                    continue  # the late rest of a request that failed half way
                interrupted = interrupted or bool(flags & _NLM_F_DUMP_INTR)
                if kind == _NLMSG_DONE:
                    return replies, interrupted
                if kind == _NLMSG_ERROR:
                    _raise_if_refused(what, part, flags)
                    return replies, interrupted
                reply = decoder(part)
                reply.decode()
                replies.append(reply)
                if not dump:
                    return replies, interrupted


def _encode(message: Any, kind: int, flags: int) -> bytearray:
    message.reset()
    message["header"]["type"] = kind
    message["header"]["flags"] = flags | NLM_F_REQUEST
    message.encode()
    data: bytearray = message.data
    return data


def _split(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, whole message) of each message in one datagram (netlink(7))."""
    parts = []
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            break
        parts.append((kind, flags, sequence, data[offset : offset + length]))
        offset += (length + 3) & ~3
    return parts


def _raise_if_refused(what: str, part: bytes, flags: int) -> None:
    (code,) = struct.unpack_from("=i", part, _HEADER.size)
    if code:
        raise KernelRefused(what, -code, _extended_text(part) if flags & _NLM_F_ACK_TLVS else "")


def _extended_text(part: bytes) -> str:
    """The text of an extended acknowledgement (Documentation/userspace-api/netlink/intro.rst)."""
    offset = _HEADER.size + 4 + _HEADER.size
    while offset + 4 <= len(part):
        length, kind = struct.unpack_from("=HH", part, offset)
        if length < 4:  # noqa: PLR2004 - an attribute is never shorter than its header
            break
        if kind == _NLMSGERR_ATTR_MSG:
            return part[offset + 4 : offset + length].split(b"\0")[0].decode(errors="replace")
        offset += (length + 3) & ~3
    return ""
