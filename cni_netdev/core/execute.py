"""Carrying out steps: one step, one request to the kernel."""

from __future__ import annotations

import errno

from cni_netdev.core import hostside
from cni_netdev.core.errors import CannotApply, Fault, KernelRefused, RequestError
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.snapshots import refuse_if_changed, taken_away
from cni_netdev.core.steps import (
    AddFilter,
    AddRdma,
    AddTcx,
    Altname,
    Change,
    Enslave,
    HoldProgram,
    Master,
    Move,
    MoveRdma,
    NamePhy,
    NameRdma,
    RemoveTcx,
    RemoveWlan,
    SetAddress,
    SetEthtool,
    SetForwarding,
    SetKindData,
    SetNeighbour,
    SetQdisc,
    SetRoute,
    SetRule,
    SetVf,
    SetVrf,
    SetWlanType,
    Sysctl,
    Tune,
    Xdp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cni_netdev.core.model import Lent
    from cni_netdev.core.ports import Netns
    from cni_netdev.core.steps import Step

# Errnos by which the kernel says that what was asked for does not fit; others are its own trouble.
_DOES_NOT_FIT = frozenset(
    (
        errno.EEXIST,
        errno.EINVAL,
        errno.ERANGE,
        errno.EOPNOTSUPP,
        errno.EADDRINUSE,
        errno.EADDRNOTAVAIL,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ESRCH,
        errno.EACCES,
    )
)
_UNABLE = (errno.EOPNOTSUPP,)  # of an RDMA device whose driver has no code for a move
_MAC_BYTES_WITH_COLONS = 17


def perform(step: Step, here: Netns, target: Netns, ifindex: int) -> None:  # noqa: C901, PLR0912, PLR0915 - a table
    """Do one step to the link with this ifindex in ``here``; ``target`` is where a Move goes."""
    match step:
        case Move(_, before, after):
            here.move(ifindex, target, before, after)
        case Change(_, before, after):
            here.change(ifindex, before, after)
        case SetKindData(_, kind, before, after):
            here.set_kind_data(ifindex, kind, before, after)
        case Master(_, _, after):
            here.set_master(ifindex, after)
        case Altname(_, name, present):
            here.set_altname(ifindex, name, present=present)
        case SetAddress(_, address, present):
            here.set_address(ifindex, address, present=present)
        case SetRoute(_, route, present, append):
            here.set_route(ifindex, route, present=present, append=append)
        case SetNeighbour(_, neighbour, present):
            here.set_neighbour(ifindex, neighbour, present=present)
        case SetRule(_, rule, present):
            here.set_rule(rule, present=present)
        case SetVrf(_, vrf, present):
            here.set_vrf(vrf, present=present)
        case Enslave(_, _, after):
            here.set_master(ifindex, _ifindex_of(after, here) if after else 0)
        case SetForwarding(_, entry, present):
            here.set_forwarding(ifindex, entry, present=present)
        case SetQdisc(_, qdisc, present):
            here.set_qdisc(ifindex, qdisc, present=present)
        case Sysctl(link, key, _, after):
            here.set_sysctl(link, key, after)
        case SetEthtool(link, key, _, after):
            here.set_ethtool(link, key, after)
        case Tune(link, wanted):
            here.tune(link, wanted)
        case SetVf():
            here.set_virtual_function(step.pf, step.number, step.before, step.after)
        case Xdp(_, mode, before, after):
            if before:
                here.detach_xdp(ifindex, mode)
            if after:
                here.attach_xdp(ifindex, mode, after)
        case RemoveTcx(_, attach, program):
            here.detach_tcx(ifindex, attach, program)
        case MoveRdma(_, number, name):
            here.move_rdma(number, name, target)
        case NameRdma(_, number, before, after):
            here.rename_rdma(number, before, after)
        case AddRdma(_, link, name, soft):
            here.add_rdma(link, name, soft)
        case RemoveWlan(_, name):
            here.remove_wlan(name)
        case SetWlanType(_, _, after):
            here.set_wlan_type(ifindex, after)
        case NamePhy(_, number, before, after):
            here.rename_phy(number, before, after)
        case AddTcx(_, attach, program, before):
            here.attach_tcx(ifindex, attach, program, before)
        case AddFilter(_, value):
            here.add_filter(ifindex, value)
        case HoldProgram(inode, program):
            here.hold_program(inode, program)


def _ifindex_of(name: str, here: Netns) -> int:
    link = here.link(name=name)
    if link is None:
        raise KernelRefused(f"set master {name}", errno.ENODEV)
    return link.identity.ifindex


class Runner:
    """Carries a list of devices from the host into one pod."""

    def __init__(self, host: Netns, pod: Netns) -> None:
        self._host = host
        self._pod = pod
        self._touched: dict[int, Lent] = {}
        self._there: dict[int, int] = {}

    @property
    def touched(self) -> tuple[Lent, ...]:
        """The devices that may not be as they were any more."""
        return tuple(self._touched[position] for position in sorted(self._touched))

    def check(self, devices: tuple[Lent, ...]) -> tuple[frozenset[str], ...]:
        """Look before anything moves; returns the altnames that each device must leave behind.

        Raises RequestError or CannotApply with everything that does not fit.
        """
        _refuse_same_name(devices)
        faults = [fault for lent in devices for fault in self._faults(lent)]
        if faults:
            raise CannotApply("; ".join(str(fault) for fault in faults))
        names = frozenset(name for lent in devices for _, name in _names_asked(lent))
        return tuple(self._left_behind(lent, names) for lent in devices)

    def _faults(self, lent: Lent) -> list[Fault]:
        request, link, expected = lent.request, lent.home.link, lent.expected
        faults = []
        if self._pod.link(name=expected.name) is not None:
            fault = f"{expected.name!r} is the name or altname of another link in the pod"
            faults.append(Fault(f"{request.where}.new_name", fault))
        if request.mtu is not None and request.mtu < link.min_mtu:
            fault = f"{request.mtu} is below {link.name}'s minimum of {link.min_mtu}"
            faults.append(Fault(f"{request.where}.mtu", fault))
        if request.mtu is not None and link.max_mtu and request.mtu > link.max_mtu:
            fault = f"{request.mtu} is above {link.name}'s maximum of {link.max_mtu}"
            faults.append(Fault(f"{request.where}.mtu", fault))
        if request.mac and len(link.settings.mac or "") != _MAC_BYTES_WITH_COLONS:
            fault = f"{link.name} has no Ethernet address that could be set"
            faults.append(Fault(f"{request.where}.mac", fault))
        if request.extras and link.identity.ifindex:
            from cni_netdev.core import outfit

            faults += outfit.faults(lent, self._pod)
        if request.rdma:
            from cni_netdev.core import rdma  # of few links

            faults += rdma.faults(lent)
        return faults + hostside.faults(self._host, lent)

    def _left_behind(self, lent: Lent, names: frozenset[str]) -> frozenset[str]:
        """An altname equal to a name in the pod, of these devices too, would stop a move."""
        asked = lent.request.extras.altnames if lent.request.extras else ()
        return frozenset(
            name
            for name in lent.home.link.altnames
            if (name in names and name not in asked) or self._pod.link(name=name) is not None
        )

    def attach(
        self,
        devices: tuple[Lent, ...],
        steps: Sequence[tuple[int, Step]],
        in_time: Callable[[], None],
    ) -> None:
        """Carry out an attach plan.  Raises CannotApply or KernelRefused at the first refusal.

        Raises LinkChanged when a link is not as its snapshot has it when its turn comes.
        in_time: called before each step, to raise when there is no time for it.
        """
        for lent in reversed(devices):
            refuse_if_changed(self._host, lent.home)
        self.go_on(devices, steps, in_time)

    def go_on(
        self,
        devices: tuple[Lent, ...],
        steps: Sequence[tuple[int, Step]],
        in_time: Callable[[], None],
    ) -> None:
        """Carry out the rest of a plan whose first part was attached."""
        there = self._there
        for position, step in steps:
            in_time()
            lent = devices[position]
            if position not in self._touched:
                self._touch(position, lent)
            ifindex = there.get(position, lent.home.link.identity.ifindex)
            here, target = (self._pod, self._host) if position in there else (self._host, self._pod)
            try:
                perform(step, here, target, ifindex)
            except KernelRefused as error:
                if isinstance(step, MoveRdma) and not step.needed and error.errno in _UNABLE:
                    continue
                if isinstance(step, Move) and error.errno == errno.ENODEV:
                    self._refuse_if_taken(position, lent)
                raise _explained(error, lent) from error
            if isinstance(step, Move):
                there[position] = self._arrived(lent)

    def _touch(self, position: int, lent: Lent) -> None:
        if self._touched:
            refuse_if_changed(self._host, lent.home, alone=False)
        self._touched[position] = lent

    def _refuse_if_taken(self, position: int, lent: Lent) -> None:
        """Raises LinkChanged when it is in neither namespace: whoever has it now may keep it.

        A device that does not answer is also ENODEV, and may have moved.
        """
        identity = lent.home.link.identity
        if self._host.find(identity) is None and self._pod.find(identity) is None:
            del self._touched[position]
            raise taken_away(lent.home.link)

    def _arrived(self, lent: Lent) -> int:
        """Its ifindex in the pod: the kernel renumbers silently when the old one is taken there."""
        inode, ifindex = self._pod.numbers(lent.expected.name)
        if inode and inode == lent.home.link.identity.inode:
            return ifindex
        link = self._pod.link(name=lent.expected.name)  # Wi-Fi's may be made anew
        if link is None or not lent.home.link.identity.same_link(link.identity):
            raise CannotApply(
                f"{lent.request.where}: {lent.home.link.name} did not arrive in the pod"
            )
        return link.identity.ifindex


def _names_asked(lent: Lent) -> list[tuple[str, str]]:
    """(key, name) of each that it is to have in the pod."""
    extras = lent.request.extras
    asked = extras.altnames if extras else ()
    return [("new_name", lent.expected.name), *(("altnames", each) for each in asked)]


def _refuse_same_name(devices: tuple[Lent, ...]) -> None:
    first: dict[str, str] = {}
    faults = []
    for lent in devices:
        for key, name in _names_asked(lent):
            if name in first:
                fault = f"{name!r} is also the name in the pod of {first[name]}"
                faults.append(Fault(f"{lent.request.where}.{key}", fault))
            first.setdefault(name, lent.request.where)
    if faults:
        raise RequestError(tuple(faults))


def _explained(error: KernelRefused, lent: Lent) -> Exception:
    if error.errno in _DOES_NOT_FIT:
        return CannotApply(f"{lent.request.where}: {error.message}")
    return error
