"""RDMA devices of lent links: which go along, and what becomes of the others; pure but for looks.

The kernel has two modes (`rdma system`).  In shared mode, its default, every namespace sees every
RDMA device: nothing moves, and a pod that has the link can use the device.  In exclusive mode a
device is seen in one namespace only, and is moved by a request of its own, if its driver can.

A device that is made in software over a link (rxe, siw) ends when the link moves, in either mode.
It is made again at home, and in the pod if that was asked for.  In exclusive mode the kernel puts
what is made in a pod into its initial namespace, where the pod does not see it.
"""

from __future__ import annotations

from cni_netdev.core.errors import Fault
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.steps import AddRdma, MoveRdma, NameRdma

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_netdev.core.model import Lent, Rdma
    from cni_netdev.core.ports import Netns


def faults(lent: Lent) -> list[Fault]:
    """Why the pod cannot have what it must have; empty when it can, by one device at least."""
    name, devices = lent.home.link.name, lent.home.rdma
    reasons = [_unusable(each) for each in devices] or [f"{name} has none; see `rdma link`"]
    if "" in reasons:
        return []
    return [Fault(f"{lent.request.where}.rdma", "; ".join(reasons))]


def _unusable(device: Rdma) -> str:
    if device.shared:
        return ""
    if device.soft:
        return f"{device.name} is made in software ({device.soft}): it needs shared mode"
    return "" if device.alone else f"{device.name} serves other links too, which need it here"


def moves(lent: Lent) -> Iterator[MoveRdma]:
    """Those that go along, before their link."""
    if lent.request.rdma is False:
        return
    for each in lent.home.rdma:
        if not each.soft and not _unusable(each) and not each.shared:
            yield MoveRdma("host", each.number, each.name, needed=bool(lent.request.rdma))


def additions(lent: Lent) -> Iterator[AddRdma]:
    """Those that the link's move ended and the pod asked for."""
    for each in lent.home.rdma:
        if each.soft and not _unusable(each):
            yield AddRdma("pod", lent.expected.name, each.name, each.soft)


def settle(
    home: tuple[Rdma, ...], now: tuple[Rdma, ...], link: str
) -> Iterator[AddRdma | NameRdma]:
    """What brings the devices over a link on the host, called ``link``, back to what they were."""
    for each in home:
        if each.soft:
            if each.soft not in [seen.soft for seen in now]:
                yield AddRdma("host", link, each.name, each.soft)
            continue
        for seen in now:
            if each.same_device(seen) and each.name != seen.name:
                yield NameRdma("host", seen.number, seen.name, each.name)


def notes(devices: tuple[Lent, ...], pod: Netns) -> Iterator[str]:
    """What is worth telling when they have been lent."""
    for lent in devices:
        link = lent.home.link.name
        for each in lent.home.rdma:
            if each.soft:
                where = "here and at home" if lent.request.rdma else "at home"
                yield f"RDMA device {each.name} ended as {link} moved: made again {where}"
            elif each.shared:
                if lent.request.rdma:
                    yield f"RDMA device {each.name} of {link} is seen everywhere (shared mode)"
            elif lent.request.rdma is not False and pod.find_rdma(each) is None:
                reason = _unusable(each) or f"the driver of {each.name} cannot move it"
                yield f"RDMA device {each.name} of {link} stays on the host: {reason}"
