"""What the extras of a request mean in the pod: what to set, what must fit, what may not differ.

Pure but for looks through the ports.  Loaded only where a request has some.
"""

from __future__ import annotations

from cni_netdev.core.errors import Fault, KernelRefused
from cni_netdev.core.extras import SIZES
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import IFF_UP, THIS_LINK
from cni_netdev.core.steps import Altname, Change, SetNeighbour, SetRule, Sysctl
from cni_netdev.core.tunables import is_as_set

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    from cni_netdev.core.model import Extras, Lent, Link, LinkSettings, Rule
    from cni_netdev.core.ports import Netns
    from cni_netdev.core.steps import Step

    Stage = Literal["moved", "addressed", "routed"]

_TRIES = 3
_IPV6_MTU = 1280  # below it the link has no sysctls of IPv6 at home; it may have a larger one here
_KEYS = {name: key for key, name in SIZES.items()}


def dressed(settings: LinkSettings, extras: Extras) -> LinkSettings:
    """The link's settings in the pod, with those asked for."""
    sizes = {**dict(settings.sizes), **dict(extras.sizes)}
    queue = settings.txqlen if extras.txqlen is None else extras.txqlen
    return settings._replace(txqlen=queue, sizes=tuple(sizes.items()))


def arriving(lent: Lent) -> LinkSettings:
    """Down if a sysctl must be set before it goes up, since IPv6 then begins at once."""
    up = lent.expected
    return up._replace(flags=up.flags & ~IFF_UP) if _of(lent).sysctls else up


def steps(lent: Lent, stage: Stage) -> list[Step]:
    """moved: all links are in the pod.  addressed, routed: they have their addresses, routes."""
    extras, name = _of(lent), lent.expected.name
    match stage:
        case "moved":
            new = [each for each in extras.altnames if each not in lent.home.link.altnames]
            return [
                *(Altname("pod", each, True) for each in new),
                *(Sysctl(name, key, "", value) for key, value in extras.sysctls),
            ]
        case "addressed":
            before = arriving(lent)
            return [Change("pod", before, lent.expected)] if before != lent.expected else []
        case "routed":
            return [
                *(SetRule("pod", each, True) for each in rules_of(lent)),
                *(SetNeighbour("pod", each, True) for each in extras.neighbours),
            ]


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


def take_rules_back(pod: Netns, devices: Iterable[Lent]) -> tuple[str, ...]:
    """A move leaves rules where they are.  Returns a sentence for each that had to stay.

    The most particular ones first: the kernel takes the first away that has at least what is said.
    """
    ours = {rule for lent in devices if lent.request.extras for rule in rules_of(lent)}
    if not ours:
        return ()
    refused: list[KernelRefused] = []
    for _ in range(_TRIES):
        refused = []
        try:
            there = [each for each in pod.rules() if each in ours]
        except KernelRefused as error:
            refused.append(error)
            continue
        for rule in sorted(there, key=_particulars, reverse=True):
            try:
                pod.set_rule(rule, present=False)
            except KernelRefused as error:
                refused.append(error)
        if not refused:
            break
    return tuple(f"left in the pod's namespace: {error.message}" for error in refused)


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
    known = dict(lent.home.sysctls)
    found += [
        Fault(f"{where}.sysctls", f"this kernel has no {key} for {lent.home.link.name}")
        for key, _ in extras.sysctls
        if key not in known and (lent.home.link.settings.mtu >= _IPV6_MTU or "ipv6" not in key)
    ]
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
    if extras.sysctls:
        values = dict(pod.sysctls(link.name))
        found += [
            f"{name} has {key} {values.get(key)} instead of {value}"
            for key, value in extras.sysctls
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
