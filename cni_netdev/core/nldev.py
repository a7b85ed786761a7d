"""RDMA devices over the kernel's netlink for them (rdma/rdma_netlink.h; core/nldev.c there).

A socket sees the devices of the namespace that it was made in: those that were moved there, or in
shared mode all.  A device has the same index in every namespace, and no other ever gets that.
"""

from __future__ import annotations

import errno
import time

from cni_netdev.core._pyroute2 import further_message
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import Rdma
from cni_netdev.core.netlink import NETLINK_RDMA, NLM_F_ACK, NLM_F_DUMP, Connection
from cni_netdev.core.rtnl import Attributes, decoded, encoded

if TYPE_CHECKING:
    from typing import Any

_NLDEV = 5 << 10  # RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, ...)
_GET, _SET, _NEWLINK, _PORT_GET, _SYS_GET = (_NLDEV + each for each in (1, 2, 3, 5, 6))
_ATTRIBUTES = {
    1: ("DEV_INDEX", "uint32"),
    2: ("DEV_NAME", "asciiz"),
    3: ("PORT_INDEX", "uint32"),
    6: ("NODE_GUID", "uint64"),
    50: ("NDEV_INDEX", "uint32"),
    51: ("NDEV_NAME", "asciiz"),
    65: ("LINK_TYPE", "asciiz"),
    66: ("SYS_NETNS_MODE", "uint8"),
    67: ("DEV_PROTOCOL", "asciiz"),
    68: ("NET_NS_FD", "uint32"),
}
# What `rdma link add` calls the two drivers that need no hardware, by the protocol that each talks.
_SOFT = {"roce": "rxe", "iw": "siw"}
# For how long the device of a link that has moved may end, and how often that is looked at.
_ENDING_SECONDS, _PAUSE = 2.0, 0.005


class Nldev:
    """A connection in the calling thread's namespace.  All methods raise KernelRefused."""

    def __init__(self) -> None:
        self._message = further_message("nldevmsg", (), _ATTRIBUTES)
        self._connection = Connection(NETLINK_RDMA)

    def close(self) -> None:
        self._connection.close()

    def over(self, ifindex: int, candidates: dict[str, bool]) -> tuple[Rdma, ...]:
        """Of the candidates, by name and whether made in software, those over the link."""
        shared = self._shared()
        found = []
        for device, protocol in self._devices():
            soft = _SOFT.get(protocol, "") if candidates.get(device.name) else ""
            if device.name not in candidates or bool(soft) != candidates[device.name]:
                continue
            links = self._links(device)
            if ifindex in links:
                alone = set(links) == {ifindex}
                found.append(device._replace(soft=soft, shared=shared, alone=alone))
        return tuple(found)

    def find(self, device: Rdma) -> Rdma | None:
        """It, as it is here and now, but for what is over() to tell."""
        for seen, _ in self._devices():
            if device.same_device(seen):
                return seen
        return None

    def _shared(self) -> bool:
        replies = self._connection.request("ask for RDMA's mode", self._filled(), _SYS_GET, 0)
        # A kernel that says nothing of modes has one only.
        return bool(Attributes(replies[0]).get("SYS_NETNS_MODE", 1))

    def _devices(self) -> list[tuple[Rdma, str]]:
        """Each with the protocol that it talks."""
        replies = self._connection.request("list RDMA devices", self._filled(), _GET, NLM_F_DUMP)
        every = map(Attributes, replies)
        return [
            (
                Rdma(each["DEV_INDEX"], decoded(each["DEV_NAME"]), each.get("NODE_GUID", 0)),
                decoded(each.get("DEV_PROTOCOL", "")),
            )
            for each in every
        ]

    def _links(self, device: Rdma) -> list[int]:
        """The ifindex of each port's link; 0 for one that has none in this namespace."""
        query = self._filled(("DEV_INDEX", device.number))
        what = f"list the ports of RDMA device {device.name}"
        replies = self._connection.request(what, query, _PORT_GET, NLM_F_DUMP)
        return [Attributes(each).get("NDEV_INDEX", 0) for each in replies]

    def move(self, number: int, name: str, namespace: int) -> None:
        """namespace: a descriptor of it."""
        message = self._filled(("DEV_INDEX", number), ("NET_NS_FD", namespace))
        self._change(f"move RDMA device {name}", message, _SET)

    def rename(self, number: int, before: str, after: str) -> None:
        message = self._filled(("DEV_INDEX", number), ("DEV_NAME", encoded(after)))
        self._change(f"rename RDMA device {before} to {after}", message, _SET)

    def add(self, link: str, name: str, soft: str) -> None:
        message = self._filled(
            ("DEV_NAME", encoded(name)), ("NDEV_NAME", encoded(link)), ("LINK_TYPE", soft)
        )
        what = f"make RDMA device {name} ({soft}) over {link}"
        limit = time.monotonic() + _ENDING_SECONDS
        while True:
            try:
                self._change(what, message, _NEWLINK)
            except KernelRefused as error:
                # How it says that a name is taken (core/device.c, assign_name).
                if error.errno != errno.ENFILE:
                    raise
                if self._is_used(name) or time.monotonic() > limit:
                    taken = f"{what}: there is another {name}"
                    raise KernelRefused(taken, errno.EEXIST) from error
            else:
                return
            time.sleep(_PAUSE)

    def _is_used(self, name: str) -> bool:
        """Not when its link has left: the kernel takes such a one away by and by."""
        named = [device for device, _ in self._devices() if device.name == name]
        return any(any(self._links(each)) for each in named)

    def _change(self, what: str, message: Any, kind: int) -> None:
        self._connection.request(what, message, kind, NLM_F_ACK)

    def _filled(self, *attributes: tuple[str, Any]) -> Any:
        message = self._message()
        message["attrs"] = list(attributes)
        return message
