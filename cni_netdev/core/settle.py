"""A link that is on the host, back to its snapshot: look, plan, do.

A step that the kernel refuses is tried again in its place, since a refusal may pass (memory, a
busy driver) and addresses have an order; what it goes on refusing is told, and the rest done.
"""

from __future__ import annotations

import errno

from cni_netdev.core import hostside, kinddata, plan
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.execute import perform
from cni_netdev.core.inplace import is_in_place
from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple
from cni_netdev.core.model import Snapshot
from cni_netdev.core.steps import (
    Altname,
    Change,
    SetAddress,
    SetEthtool,
    SetForwarding,
    SetNeighbour,
    SetRoute,
)

if TYPE_CHECKING:
    from cni_netdev.core.model import Address, Forwarding, Link, VirtualFunction
    from cni_netdev.core.ports import Netns
    from cni_netdev.core.steps import Step

_TRIES = 3
_ROUNDS = 2
# Refusals that say nothing about the request: another time it may be granted.
_PASSING = frozenset(
    (
        errno.EBUSY,
        errno.EAGAIN,
        errno.EINTR,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
    )
)
_FULL_LENGTH = {2: 32, 10: 128}
_SCOPE_LINK = 253
_SET = (SetAddress, SetRoute, SetNeighbour, SetForwarding)


class Settled(NamedTuple):
    """The link's name by now, and what is not as it was.

    refused: something could not be done; another link's settling may make room for it.
    again: and it may be granted at another time.
    """

    name: str
    notes: tuple[str, ...]
    refused: bool
    again: bool


def settle(host: Netns, home: Snapshot, link: Link, name: str) -> Settled:
    """Bring the link to its snapshot, under ``name``.  Raises KernelRefused when it cannot look,
    ENODEV when the link is gone.
    """
    notes: list[str] = []
    displaced = name != home.link.name
    if displaced:
        notes.append(f"{home.link.name} came home as {name}: another link has its name by now")
    refusals: list[KernelRefused] = []
    # The second round is for what the host's daemons undid meanwhile; most times it is a mere look.
    for _ in range(_ROUNDS):
        steps = plan.settle(home, _look(host, home, link), name)
        if not steps:
            break
        left = False
        for step in steps:
            reason = _not_ours_any_more(host, link, step)
            if reason:
                left = True
                notes.append(f"{name}: {reason}")
                displaced = displaced or isinstance(step, Altname)
            else:
                refusals += _do(host, step, link.identity.ifindex)
                _raise_if_gone(host, link, refusals)
        link = host.link(ifindex=link.identity.ifindex) or link
        if left or refusals:
            break
    if link.name != name:
        notes.append(f"{name} is called {link.name} by now: somebody else renamed it")
    notes += [f"{name}: {each.message}" for each in refusals]
    again = any(each.errno in _PASSING for each in refusals)
    notes += _otherwise(home, link)
    notes += [
        f"{name}: route {each.dst} has attributes that are not put back: set it again"
        for each in home.routes
        if each.partial
    ]
    return Settled(link.name, tuple(notes), bool(refusals) or displaced, again)


def let_go(host: Netns, home: Snapshot, link: Link, settled: Settled) -> Settled:
    """Of the programs that were held for the way back; not while one may still be missing."""
    if settled.again:
        return settled
    had, seen = home.link, host.link(ifindex=link.identity.ifindex)
    if seen is None or _programs(host, home, seen) != (had.xdp, home.tcx, home.filters):
        notes = (*settled.notes, f"{had.name}: its programs stay in /sys/fs/bpf/cni-netdev")
        return settled._replace(notes=notes)
    try:
        host.let_go_programs(had.identity.inode)
    except KernelRefused as error:
        return settled._replace(notes=(*settled.notes, error.message))
    return settled


def _programs(host: Netns, home: Snapshot, link: Link) -> tuple[object, ...]:
    ifindex = link.identity.ifindex
    filters = host.filters(ifindex) if home.filters else home.filters
    return link.xdp, host.tcx(ifindex), filters


def settle_function(host: Netns, home: Snapshot) -> Settled:
    """The same for a function that never left, since a driver in user space has it."""
    now = Snapshot(home.link, vf=_virtual_function(host, home))
    refusals = [
        each for step in hostside.virtual_function(home, now) for each in _do(host, step, 0)
    ]
    notes = tuple(f"{home.link.name}: {each.message}" for each in refusals)
    again = any(each.errno in _PASSING for each in refusals)
    return Settled(home.link.name, notes, bool(refusals), again)


def _otherwise(home: Snapshot, link: Link) -> list[str]:
    """What the kernel took without a word, and did not do."""
    kind, wanted = home.link.kind or "", home.link.data
    numbers = kinddata.changed(kind, link.data, wanted) if wanted else ()
    told = ", ".join(map(str, numbers))
    return [f"{link.name}: attributes {told} of its {kind} are not as they were"] if told else []


def _raise_if_gone(host: Netns, link: Link, refusals: list[KernelRefused]) -> None:
    """Of a link that is not here any more nothing else needs to be told."""
    for each in refusals:
        if each.errno == errno.ENODEV and host.link(ifindex=link.identity.ifindex) is None:
            raise each


def _do(host: Netns, step: Step, ifindex: int) -> list[KernelRefused]:
    """The refusals that remained; of settings, each is tried by itself after all together."""
    refused = _try(host, step, ifindex)
    if refused is None:
        return []
    pieces = plan.pieces(step) if isinstance(step, Change) else ()
    if len(pieces) < 2:  # noqa: PLR2004 - nothing to take apart
        return [refused]
    return [each for each in (_try(host, piece, ifindex) for piece in pieces) if each]


def _try(host: Netns, step: Step, ifindex: int) -> KernelRefused | None:
    """The refusal that remained; None when it is done or was there already."""
    refused = None
    for _ in range(_TRIES):
        try:
            perform(step, host, host, ifindex)
        except KernelRefused as error:
            refused = error
        else:
            return None
    return _that_counts(host, step, ifindex, refused) if refused else None


def _that_counts(
    host: Netns, step: Step, ifindex: int, refused: KernelRefused
) -> KernelRefused | None:
    """The refusal, if it means that something is not as it was."""
    if isinstance(step, SetEthtool):
        # What the link cannot set no pod could change either: it follows another link's.
        return None if refused.errno == errno.EOPNOTSUPP else refused
    if not isinstance(step, _SET):
        return refused
    if not step.present:
        return None if refused.errno == errno.ENOENT else refused
    if refused.errno != errno.EEXIST:
        return refused
    if is_in_place(host, ifindex, step):
        return None
    return KernelRefused(f"{refused.what}: another is in its place", refused.errno)


def _not_ours_any_more(host: Netns, link: Link, step: Step) -> str:
    """Why a thing must be left where it was put since; empty when it may come back."""
    if isinstance(step, SetAddress) and _moved_on(host, link, step.address):
        return f"{step.address.cidr} is on another link by now"
    if isinstance(step, Altname) and step.present and host.link(name=step.name):
        return f"altname {step.name} is another link's by now"
    return ""


def _moved_on(host: Netns, link: Link, address: Address) -> bool:
    """Whether another link was given the address.

    Many links may have the same link-local one, or one of full length (unnumbered links).
    """
    shareable = address.prefix == _FULL_LENGTH[address.family] or address.scope == _SCOPE_LINK
    others = set(host.links_with(address.address)) - {link.identity.ifindex}
    return bool(others) and not shareable


def _table(host: Netns, home: Snapshot, ifindex: int) -> tuple[Forwarding, ...] | None:
    """A move leaves what a pod put there only to links that forward by it."""
    needed = home.forwarding or home.link.kind == "vxlan"
    return host.forwarding(ifindex) if needed and home.forwarding is not None else None


def _virtual_function(host: Netns, home: Snapshot) -> VirtualFunction | None:
    if home.vf is None:
        return None
    from cni_netdev.core.vf import touched

    seen = host.virtual_function(home.link.identity.bus or "")
    return seen and seen._replace(settings=touched(home.vf.settings, seen.settings))


def _look(host: Netns, home: Snapshot, link: Link) -> Snapshot:
    """Only what the snapshot has something to compare with."""
    ifindex = link.identity.ifindex
    return Snapshot(
        link=link,
        addresses=host.addresses(ifindex) if home.addresses else (),
        routes=host.routes(ifindex) if home.routes else (),
        neighbours=host.neighbours(ifindex) if home.neighbours else (),
        sysctls=host.sysctls(link.name),
        ethtool=host.ethtool(link.name) if home.ethtool else (),
        rdma=host.rdma(link) if home.rdma else (),
        tcx=host.tcx(ifindex),
        qdiscs=host.qdiscs(ifindex) if home.qdiscs else (),
        forwarding=_table(host, home, ifindex),
        vf=_virtual_function(host, home),
        filters=host.filters(ifindex) if home.filters else None,
    )
