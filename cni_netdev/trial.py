"""What a policy says to a pod before there is one: each device, the verdict, and what speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cni_netdev.core import policy as rules
from cni_netdev.core.admission import look, resolve, selects
from cni_netdev.core.errors import DeviceNotFound
from cni_netdev.core.holdings import lent_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_netdev.core.model import DeviceRequest, Record
    from cni_netdev.core.policy import Pod, Policy
    from cni_netdev.core.ports import Netns


class Trial(NamedTuple):
    """where, asks: the device's path in its source, and its selector; empty when nobody asks.

    link: its name on the host, None when there is none.
    """

    source: str
    where: str
    asks: str
    link: str | None
    allowed: bool
    why: str


def of_requests(
    host: Netns,
    records: Iterable[Record],
    requests: Iterable[DeviceRequest],
    pod: Pod,
    policy: Policy,
) -> tuple[Trial, ...]:
    """Each device that is asked for.  One that is lent is judged as it was at home."""
    known = tuple(records)
    return tuple(_of_request(host, known, each, pod, policy) for each in requests)


def of_every_link(host: Netns, pod: Pod, policy: Policy) -> tuple[Trial, ...]:
    """Each link of the host, as if an annotation asked for it."""
    return tuple(
        Trial("annotation", "", "", link.name, *look(host, link, "annotation", pod, policy))
        for link in host.links()
    )


def _of_request(
    host: Netns, records: tuple[Record, ...], request: DeviceRequest, pod: Pod, policy: Policy
) -> Trial:
    asked = (request.source, request.where, str(request.selector))
    try:
        link = resolve(host, request)
    except DeviceNotFound as error:
        record = lent_for(request, records)
        if record is None:
            why = error.message.removeprefix(f"{request.where}: ")
            return Trial(*asked, None, allowed=False, why=why)
        lent = next(each for each in record.devices if selects(request.selector, each.home.link))
        verdict = rules.admit(lent.home, request.source, pod, policy, privileges=request.privileges)
        why = f"{verdict.reason}; lent to {record.owner} now"
        return Trial(*asked, lent.home.link.name, verdict.allowed, why)
    verdict = look(host, link, request.source, pod, policy, request.privileges)
    return Trial(*asked, link.name, *verdict)
