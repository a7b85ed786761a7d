"""What the extras of a request mean in the pod: what to set, what must fit, what may not differ.

Pure but for looks through the ports.  Loaded only where a request has some.
"""

from __future__ import annotations

from cni_netdev.core.errors import CannotApply, Fault, KernelRefused
from cni_netdev.core.extras import SIZES
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import AF_INET6, IFF_UP, THIS_LINK
from cni_netdev.core.steps import Altname, Change, Enslave, SetNeighbour, SetRule, SetVrf, Sysctl
from cni_netdev.core.tunables import is_as_set
from cni_netdev.core.vrf import has_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Literal

    from cni_netdev.core.model import Address, Extras, Lent, Link, LinkSettings, Route, Rule, Vrf
    from cni_netdev.core.ports import Netns
    from cni_netdev.core.steps import Step

    Stage = Literal["moved", "addressed", "routed"]

_TRIES = 3
_MAIN_TABLE = 254
_IFA_F_NODAD, _IFA_F_OPTIMISTIC = 0x02, 0x04  # linux/if_addr.h
_OPTIMISTIC = {"ipv6/conf/optimistic_dad": "1", "ipv6/conf/use_optimistic": "1"}
# The kernel does it then, at the right moments: when the link goes up, when its MAC changes, when
# an IPv6 address is known to be nobody else's.
_ANNOUNCING = {"ipv4/conf/arp_notify": "1", "ipv6/conf/ndisc_notify": "1"}
_IPV6_MTU = 1280
_KEYS = {name: key for key, name in SIZES.items()}


def dressed(settings: LinkSettings, extras: Extras) -> LinkSettings:
    """The link's settings in the pod, with those asked for."""
    sizes = {**dict(settings.sizes), **dict(extras.sizes)}
    queue = settings.txqlen if extras.txqlen is None else extras.txqlen
    return settings._replace(txqlen=queue, sizes=tuple(sizes.items()))


def flagged(addresses: tuple[Address, ...], extras: Extras) -> tuple[Address, ...]:
    """With what is asked for of duplicate address detection."""
    flag = {"off": _IFA_F_NODAD, "optimistic": _IFA_F_OPTIMISTIC}.get(extras.dad, 0)
    return tuple(
        each._replace(flags=each.flags | flag)
        if each.family == AF_INET6 and not each.flags & _IFA_F_NODAD
        else each
        for each in addresses
    )


def routed(routes: tuple[Route, ...], extras: Extras) -> tuple[Route, ...]:
    """In the VRF's table instead of the main one, where nobody of the VRF would look."""
    if extras.vrf is None:
        return routes
    table = extras.vrf.table
    return tuple(
        each._replace(table=table) if each.table == _MAIN_TABLE else each for each in routes
    )


def sysctls_of(lent: Lent) -> tuple[tuple[str, str], ...]:
    """Those asked for, and those that do what else was asked for."""
    extras = _of(lent)
    implied = {
        **(_OPTIMISTIC if extras.dad == "optimistic" else {}),
        **(_ANNOUNCING if extras.announce else {}),
    }
    of_use = {key: value for key, value in implied.items() if _exists(lent, key)}
    return tuple({**of_use, **dict(extras.sysctls)}.items())


def _exists(lent: Lent, key: str) -> bool:
    """Whether the link has this sysctl in the pod; a small MTU at home hides IPv6's."""
    home = lent.home
    hidden = home.link.settings.mtu < _IPV6_MTU <= lent.expected.mtu and key.startswith("ipv6/")
    return hidden or key in dict(home.sysctls)


def arriving(lent: Lent) -> LinkSettings:
    """Down if a sysctl must be set before it goes up, since IPv6 then begins at once."""
    up = lent.expected
    return up._replace(flags=up.flags & ~IFF_UP) if sysctls_of(lent) else up


def steps(lent: Lent, stage: Stage) -> list[Step]:
    """moved: all links are in the pod.  addressed, routed: they have their addresses, routes."""
    extras, name = _of(lent), lent.expected.name
    match stage:
        case "moved":
            new = [each for each in extras.altnames if each not in lent.home.link.altnames]
            return [
                *(Altname("pod", each, True) for each in new),
                *_into_vrf(extras.vrf),
                *(Sysctl(name, key, "", value) for key, value in sysctls_of(lent)),
            ]
        case "addressed":
            before = arriving(lent)
            return [Change("pod", before, lent.expected)] if before != lent.expected else []
        case "routed":
            return [
                *(SetRule("pod", each, True) for each in rules_of(lent)),
                *(SetNeighbour("pod", each, True) for each in extras.neighbours),
            ]


def _into_vrf(vrf: Vrf | None) -> list[Step]:
    """Before the addresses: the kernel puts it down and up again, and IPv6 loses them."""
    return [SetVrf("pod", vrf, True), Enslave("pod", "", vrf.name)] if vrf else []


def await_dad(pod: Netns, devices: Iterable[Lent], in_time: Callable[[], None]) -> None:
    """Of the devices that asked for it.  Raises CannotApply."""
    for lent in devices:
        extras = lent.request.extras
        link = pod.find(lent.home.link.identity) if extras and extras.dad == "wait" else None
        if extras and link:
            told = pod.await_dad(link.identity.ifindex, extras.dad_seconds, in_time)
            if told:
                raise CannotApply(f"{lent.request.where}.dad: {'; '.join(told)}")


def rules_of(lent: Lent) -> tuple[Rule, ...]:
    """As they are in the pod, where the link has its name."""
    name = lent.expected.name
    return tuple(
        each._replace(
            iif=name if each.iif == THIS_LINK else each.iif,
            oif=name if each.oif == THIS_LINK else each.oif,
        )
        for each in _of(lent).rules
    )


def take_back(pod: Netns, devices: Iterable[Lent]) -> tuple[str, ...]:
    """What a move leaves where it is: rules and VRFs.  A sentence for each that had to stay."""
    of_extras = [(lent, lent.request.extras) for lent in devices if lent.request.extras]
    rules = {rule for lent, _ in of_extras for rule in rules_of(lent)}
    vrfs = dict.fromkeys(extras.vrf for _, extras in of_extras if extras.vrf)
    refused: list[KernelRefused] = []
    for _ in range(_TRIES):
        refused = [*_without_rules(pod, rules), *_without_vrfs(pod, vrfs)]
        if not refused:
            break
    return tuple(f"left in the pod's namespace: {error.message}" for error in refused)


def _without_rules(pod: Netns, ours: set[Rule]) -> Iterator[KernelRefused]:
    """The most particular ones first: the kernel takes the first that has at least what is said."""
    try:
        there = [each for each in pod.rules() if each in ours] if ours else []
    except KernelRefused as error:
        yield error
        return
    for rule in sorted(there, key=_particulars, reverse=True):
        try:
            pod.set_rule(rule, present=False)
        except KernelRefused as error:
            yield error


def _without_vrfs(pod: Netns, vrfs: Iterable[Vrf]) -> Iterator[KernelRefused]:
    for vrf in vrfs:
        try:
            pod.set_vrf(vrf, present=False)
        except KernelRefused as error:
            yield error


def _particulars(rule: Rule) -> int:
    return sum(map(bool, rule))


def _covers(one: Rule, other: Rule) -> bool:
    """Whether the other has at least what the one says."""
    return all(said in (has, None, "", 0) for said, has in zip(one, other, strict=True))


def faults(lent: Lent, pod: Netns) -> list[Fault]:
    """What cannot be, seen before anything moves."""
    extras, where = _of(lent), lent.request.where
    sizes = dict(lent.home.link.settings.sizes)
    found = [
        Fault(f"{where}.{_KEYS[name]}", "is not known to this kernel")
        for name, _ in extras.sizes
        if name not in sizes
    ]
    found += [
        Fault(f"{where}.altnames", f"{each!r} is the name or altname of another link in the pod")
        for each in extras.altnames
        if pod.link(name=each) is not None
    ]
    found += [
        Fault(f"{where}.sysctls", f"this kernel has no {key} for {lent.home.link.name}")
        for key, _ in extras.sysctls
        if not _exists(lent, key)
    ]
    if extras.dad == "optimistic" and not all(_exists(lent, key) for key in _OPTIMISTIC):
        found.append(Fault(f"{where}.dad", "this kernel knows no optimistic detection here"))
    there_already = pod.link(name=extras.vrf.name) if extras.vrf else None
    if there_already and extras.vrf and not has_table(there_already, extras.vrf.table):
        fault = f"{extras.vrf.name!r} is another link in the pod than a VRF of this table"
        found.append(Fault(f"{where}.vrf", fault))
    there = pod.rules() if extras.rules else ()
    found += [
        Fault(f"{where}.rules[{number}]", "is there already, by another attachment of this pod")
        for number, each in enumerate(rules_of(lent))
        if any(_covers(each, other) or _covers(other, each) for other in there)
    ]
    return found


def differences(lent: Lent, link: Link, pod: Netns) -> list[str]:
    """A sentence for each thing that is not as it was asked for any more."""
    extras, name = _of(lent), lent.expected.name
    have, sizes = link.settings, dict(link.settings.sizes)
    found = [
        f"{name} has {_KEYS[key]} {sizes.get(key)} instead of {size}"
        for key, size in extras.sizes
        if sizes.get(key) != size
    ]
    if extras.txqlen not in (None, have.txqlen):
        found.append(f"{name} has txqlen {have.txqlen} instead of {extras.txqlen}")
    found += [
        f"{name} has lost altname {each}" for each in extras.altnames if each not in link.altnames
    ]
    if extras.neighbours:
        there = {each.address: each.mac for each in pod.neighbours(link.identity.ifindex)}
        found += [
            f"{name} has lost neighbor {each.address} with {each.mac}"
            for each in extras.neighbours
            if there.get(each.address) != each.mac
        ]
    vrf = pod.link(name=extras.vrf.name) if extras.vrf else None
    if extras.vrf and not (vrf and has_table(vrf, extras.vrf.table)):
        found.append(f"{name} has lost VRF {extras.vrf.name} of table {extras.vrf.table}")
    elif vrf and link.master != vrf.identity.ifindex:
        found.append(f"{name} is not in VRF {vrf.name} any more")
    sysctls = sysctls_of(lent)
    if sysctls:
        values = dict(pod.sysctls(link.name))
        found += [
            f"{name} has {key} {values.get(key)} instead of {value}"
            for key, value in sysctls
            if not is_as_set(key, value, values.get(key))
        ]
    if extras.rules:
        rules = pod.rules()
        found += [
            f"{name} has lost rule {each.priority} for table {each.table}"
            for each in rules_of(lent)
            if each not in rules
        ]
    return found


def _of(lent: Lent) -> Extras:
    if lent.request.extras is None:
        raise TypeError(f"{lent.request.where} asks for nothing of this")
    return lent.request.extras
