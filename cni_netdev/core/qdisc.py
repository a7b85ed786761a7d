"""Queueing disciplines of one link; pure, pyroute2 messages to the model's values and back.

The options are kept as the bytes that the kernel told, to be told to it again: pyroute2's decoders
of every discipline would cost 15 ms on each pod's start, and a field that they miss would be lost.
Numbers: linux/rtnetlink.h and linux/pkt_sched.h.
"""

from __future__ import annotations

from cni_netdev.core._pyroute2 import messages
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import Qdisc
from cni_netdev.core.netlink import asked_again
from cni_netdev.core.rtnl import Attributes

if TYPE_CHECKING:
    from typing import Any

ROOT, INGRESS = 0xFFFFFFFF, 0xFFFFFFF1  # TC_H_ROOT, TC_H_INGRESS


@asked_again
def query(ifindex: int, parent: int) -> Any:
    """RTM_GETQDISC of the one at this place of the link."""
    return traffic(ifindex, parent, 0, [])


def qdisc_from(message: Any) -> Qdisc | None:
    """The discipline, or None for the kernel's own default, which has no handle."""
    if not message["handle"]:
        return None
    attributes = Attributes(message)
    options = attributes.get("TCA_OPTIONS", b"")
    return Qdisc(attributes["TCA_KIND"], message["handle"], message["parent"], bytes(options).hex())


def qdisc(ifindex: int, value: Qdisc) -> Any:
    """RTM_NEWQDISC or RTM_DELQDISC."""
    attributes: list[tuple[str, Any]] = [("TCA_KIND", value.kind)]
    if value.options:
        attributes.append(("TCA_OPTIONS", bytes.fromhex(value.options)))
    return traffic(ifindex, value.parent, value.handle, attributes)


def traffic(
    ifindex: int, parent: int, handle: int, attributes: list[tuple[str, Any]], info: int = 0
) -> Any:
    """A message of traffic control (struct tcmsg).  info: of filters, see model.Filter."""
    message = messages().traffic()
    fields = (("index", ifindex), ("parent", parent), ("handle", handle), ("info", info))
    for name, value in fields:
        message[name] = value
    message["attrs"] = attributes
    return message
