"""A link that is on the host, back to its snapshot: look, plan, do.

A step that the kernel refuses is tried again in its place, since a refusal may pass (memory, a
busy driver) and addresses have an order; what it goes on refusing is told, and the rest done.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from cni_netdev.core import plan
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.execute import perform
from cni_netdev.core.model import Snapshot
from cni_netdev.core.steps import Altname, SetAddress, SetNeighbour, SetRoute

if TYPE_CHECKING:
    from cni_netdev.core.model import Link
    from cni_netdev.core.ports import Netns
    from cni_netdev.core.steps import Step

_TRIES = 3
# Refusals that say nothing about the request: another time it may be granted.
_PASSING = frozenset((errno.EBUSY, errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EINTR))
_SET = (SetAddress, SetRoute, SetNeighbour)


class Settled(NamedTuple):
    """The link's name by now, what is not as it was, and whether trying again later may help."""

    name: str
    notes: tuple[str, ...]
    again: bool


def settle(host: Netns, home: Snapshot, link: Link, name: str) -> Settled:
    """Bring the link to its snapshot, under ``name``.  Raises KernelRefused when it cannot look."""
    notes: list[str] = []
    again = False
    for step in plan.settle(home, _look(host, home, link), name):
        reason = _not_ours_any_more(host, step)
        refused = None if reason else _do(host, step, link.identity.ifindex)
        if refused is not None:
            reason = refused.message
            again = again or refused.errno in _PASSING
        if reason:
            notes.append(f"{name}: {reason}")
    link = host.link(ifindex=link.identity.ifindex) or link
    return Settled(link.name, tuple(notes), again)


def _do(host: Netns, step: Step, ifindex: int) -> KernelRefused | None:
    """The refusal that remained; None when it is done or was there already."""
    refused = None
    for _ in range(_TRIES):
        try:
            perform(step, host, host, ifindex)
        except KernelRefused as error:
            if error.errno == errno.EEXIST and isinstance(step, _SET):
                return None
            refused = error
        else:
            return None
    return refused


def _not_ours_any_more(host: Netns, step: Step) -> str:
    """Why a thing must be left where it was put since; empty when it may come back."""
    if isinstance(step, SetAddress) and host.is_local(step.address.address):
        return f"{step.address.cidr} is on another link by now"
    if isinstance(step, Altname) and step.present and host.link(name=step.name):
        return f"altname {step.name} is another link's by now"
    return ""


def _look(host: Netns, home: Snapshot, link: Link) -> Snapshot:
    """Only what the snapshot has something to compare with."""
    ifindex = link.identity.ifindex
    return Snapshot(
        link=link,
        addresses=host.addresses(ifindex) if home.addresses else (),
        routes=host.routes(ifindex) if home.routes else (),
        neighbours=host.neighbours(ifindex) if home.neighbours else (),
        sysctls=host.sysctls(link.name),
        tcx=host.tcx(ifindex),
        qdiscs=host.qdiscs(ifindex) if home.qdiscs else (),
    )
