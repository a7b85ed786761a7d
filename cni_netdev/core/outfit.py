"""What the extras of a request mean in the pod: what to set, what must fit, what may not differ.

Pure but for looks through the ports.  Loaded only where a request has some.
"""

from __future__ import annotations

from cni_netdev.core.errors import Fault
from cni_netdev.core.extras import SIZES
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.steps import Altname, SetNeighbour

if TYPE_CHECKING:
    from cni_netdev.core.model import Extras, Lent, Link, LinkSettings
    from cni_netdev.core.ports import Netns
    from cni_netdev.core.steps import Step

_KEYS = {name: key for key, name in SIZES.items()}


def dressed(settings: LinkSettings, extras: Extras) -> LinkSettings:
    """The link's settings in the pod, with those asked for."""
    sizes = {**dict(settings.sizes), **dict(extras.sizes)}
    queue = settings.txqlen if extras.txqlen is None else extras.txqlen
    return settings._replace(txqlen=queue, sizes=tuple(sizes.items()))


def before_addresses(lent: Lent) -> list[Step]:
    """What is set once the link is in the pod."""
    extras = _of(lent)
    own = lent.home.link.altnames
    return [Altname("pod", each, True) for each in extras.altnames if each not in own]


def after_routes(lent: Lent) -> list[Step]:
    """What is set at the end."""
    return [SetNeighbour("pod", each, True) for each in _of(lent).neighbours]


def faults(lent: Lent, pod: Netns) -> list[Fault]:
    """What cannot be, seen before anything moves."""
    extras, where = _of(lent), lent.request.where
    known = dict(lent.home.link.settings.sizes)
    found = [
        Fault(f"{where}.{_KEYS[name]}", "is not known to this kernel")
        for name, _ in extras.sizes
        if name not in known
    ]
    found += [
        Fault(f"{where}.altnames", f"{each!r} is the name or altname of another link in the pod")
        for each in extras.altnames
        if pod.link(name=each) is not None
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
    return found


def _of(lent: Lent) -> Extras:
    if lent.request.extras is None:
        raise TypeError(f"{lent.request.where} asks for nothing of this")
    return lent.request.extras
