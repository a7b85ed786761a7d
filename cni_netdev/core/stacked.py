"""What hangs on a link and hears what it hears: macvlans, VLANs and the like, in any namespace.

The kernel shows such a link only where it is itself, and a pod can move it into a namespace of
its own.  Two things give it away in every namespace:
the kernel     makes no macvlan of mode passthru on a link that another one hangs on; it says so
               before it makes anything (EINVAL), as it says that a name is taken (EEXIST), so that
               asking for one under a name that is taken tells which of both it is (0.2 ms)
namespace ids  a namespace that a link is moved to gets one in that which it left (RTM_GETNSID)

Rejected: the list of MACs that a link takes in (a move empties it, and a macvlan that is down is
not in it); the `upper_` entries of sysfs (none for a link in another namespace).
"""

from __future__ import annotations

import errno
import os
import struct

from cni_netdev.core import rtnl
from cni_netdev.core._pyroute2 import messages
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple
from cni_netdev.core.model import STACKED
from cni_netdev.core.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    RTM_DELLINK,
    RTM_GETLINK,
    RTM_GETNSID,
    RTM_NEWLINK,
)

if TYPE_CHECKING:
    from typing import Any

    from cni_netdev.core.model import Link
    from cni_netdev.core.netlink import Connection

_NO_IFINDEX = 0x7FFFFFFF  # the last one; never given out by itself
_UNKNOWN_ID = 0xFFFFFFFF  # NETNSA_NSID_NOT_ASSIGNED
_MACVLAN_MODE, _PASSTHRU = 1, 8  # linux/if_link.h
# What is made on one of these hangs on the link below it instead; an ipvlan takes nothing else.
_PASSED_DOWN = frozenset(("macvlan", "macvtap", "ipvlan", "ipvtap"))
# Each link that is deleted by itself costs 16 ms; a pod could have made thousands.
_MOST_SINGLY = 64


class _Found(NamedTuple):
    ifindex: int
    name: str


def overheard(connection: Connection, link: Link) -> bool:
    """As ports.Netns has it."""
    if not link.ethernet or link.kind in _PASSED_DOWN:
        return False
    what, flags = f"ask what is on link {link.name}", NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    try:
        connection.request(what, _another(link), RTM_NEWLINK, flags)
    except KernelRefused as error:
        match error.errno:
            case errno.EEXIST | errno.EOPNOTSUPP:
                return False
            case errno.EINVAL:
                return True
            case errno.EBUSY:  # another kind of listener; a bridge is one on its ports
                return not link.master
        raise
    # Somebody renamed the link in that moment, and so it was made: nothing was there.
    connection.request(what, rtnl.link_only(_NO_IFINDEX), RTM_DELLINK, NLM_F_ACK)
    return False


def _another(link: Link) -> Any:
    """RTM_NEWLINK of a macvlan on the link, under its own name, which is taken."""
    mode = struct.pack("=HHI", 8, _MACVLAN_MODE, _PASSTHRU)
    kind = {"attrs": [("IFLA_INFO_KIND", "macvlan"), ("IFLA_INFO_DATA", mode)]}
    return rtnl.link_only(
        _NO_IFINDEX,
        ("IFLA_IFNAME", rtnl.encoded(link.name)),
        ("IFLA_LINK", link.identity.ifindex),
        ("IFLA_LINKINFO", kind),
    )


def further(connection: Connection, home: int) -> tuple[int, ...]:
    """The ids of the namespaces that this one knows, but that of the one open at ``home``."""
    what, query = "list the ids of namespaces", _id_message()
    replies = connection.request(what, query, RTM_GETNSID, NLM_F_DUMP)
    known = [rtnl.Attributes(reply)["NETNSA_NSID"] for reply in replies]
    return tuple(each for each in known if each != _id_of(connection, home)) if known else ()


def delete(connection: Connection, ifindex: int, home: int | None) -> tuple[str, ...]:
    """Delete what hangs on the link with this ifindex; gives the names.

    Here, and in the namespaces that this one knows.  home: a descriptor of the link's namespace;
    None: it is this one, and then only this one is looked at.
    Raises KernelRefused; with EAGAIN when more is left than can be deleted in one go.
    """
    found = _found(connection, ifindex, home, None)
    _delete_together(connection, [each.ifindex for each in found])
    for other in further(connection, home) if home is not None else ():
        there = _found(connection, ifindex, home, other)
        _delete_singly(connection, [each.ifindex for each in there], other)
        found += there
    return tuple(each.name for each in found)


def _found(
    connection: Connection, ifindex: int, home: int | None, within: int | None
) -> list[_Found]:
    query = rtnl.link_dump()
    if within is not None:
        query["attrs"].append(("IFLA_IF_NETNSID", within))
    replies = connection.request("list links", query, RTM_GETLINK, NLM_F_DUMP)
    stacked = [reply for reply in replies if _is_on(reply, ifindex)]
    # The kernel gives the link's namespace an id, if it has none, to tell of it here.
    wanted = None if home is None or not stacked else _id_of(connection, home)
    return [
        _Found(reply["index"], rtnl.decoded(rtnl.Attributes(reply)["IFLA_IFNAME"]))
        for reply in stacked
        if rtnl.Attributes(reply).get("IFLA_LINK_NETNSID") == wanted
    ]


def _is_on(message: Any, ifindex: int) -> bool:
    attributes = rtnl.Attributes(message)
    return attributes.get("IFLA_LINK") == ifindex and rtnl.kind_of(attributes) in STACKED


def _delete_together(connection: Connection, ifindexes: list[int]) -> None:
    """Many cost little more than one: they are put in a group, and that is deleted."""
    if len(ifindexes) > 1:
        group = int.from_bytes(os.urandom(4), "little") | 1
        try:
            for each in ifindexes:
                message = rtnl.link_only(each, ("IFLA_GROUP", group))
                _do(connection, "mark links", message, RTM_NEWLINK)
            message = rtnl.link_only(0, ("IFLA_GROUP", group))
            _do(connection, "delete links", message, RTM_DELLINK)
        except KernelRefused as error:
            if error.errno != errno.EOPNOTSUPP:  # something that cannot be deleted was added
                raise
        else:
            return
    _delete_singly(connection, ifindexes, None)


def _delete_singly(connection: Connection, ifindexes: list[int], within: int | None) -> None:
    for each in ifindexes[:_MOST_SINGLY]:
        place = () if within is None else (("IFLA_IF_NETNSID", within),)
        message = rtnl.link_only(each, *place)
        _do(connection, f"delete link with ifindex {each}", message, RTM_DELLINK)
    if len(ifindexes) > _MOST_SINGLY:
        raise KernelRefused(f"delete {len(ifindexes)} links at once", errno.EAGAIN)


def _do(connection: Connection, what: str, message: Any, kind: int) -> None:
    """Nothing happens when the link is gone by now."""
    try:
        connection.request(what, message, kind, NLM_F_ACK)
    except KernelRefused as error:
        if error.errno != errno.ENODEV:
            raise


def _id_of(connection: Connection, home: int) -> int:
    query = _id_message(("NETNSA_FD", home))
    replies = connection.request("ask for a namespace's id", query, RTM_GETNSID, 0)
    number: int = rtnl.Attributes(replies[0])["NETNSA_NSID"]
    return number


def _id_message(*attributes: tuple[str, int]) -> Any:
    message = messages().namespace_id()
    message["family"] = 0
    message["attrs"] = list(attributes)
    return message
