"""Questions to the records: who holds what; pure."""

from __future__ import annotations

from cni_netdev.core.admission import selects
from cni_netdev.core.errors import DeviceHeld
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import STACKED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_netdev.core.model import DeviceRequest, Identity, Link, Owner, Record


def asked_by(request: DeviceRequest, records: Iterable[Record]) -> Owner | None:
    """Whose record has a device by an equal request."""
    for record in records:
        if any(lent.request.wish == request.wish for lent in record.devices):
            return record.owner
    return None


def holding(identity: Identity, records: Iterable[Record]) -> Owner | None:
    """Whose record has this very link."""
    for record in records:
        if any(lent.home.link.identity.same_link(identity) for lent in record.devices):
            return record.owner
    return None


def stacked_on(link: Link, records: Iterable[Record]) -> Owner | None:
    """Whose record has a link that lies on this one, and would hear what its next holder hears."""
    for record in records:
        for lent in record.devices:
            above = lent.home.link
            same = 0 != above.lower == link.identity.ifindex and not above.lower_elsewhere
            if same and above.kind in STACKED:
                return record.owner
    return None


def lent_for(request: DeviceRequest, records: Iterable[Record]) -> Record | None:
    """The record with a link that the request would have found on the host."""
    for record in records:
        if any(selects(request.selector, lent.home.link) for lent in record.devices):
            return record
    return None


def held_by(what: str, owner: Owner) -> DeviceHeld:
    return DeviceHeld(
        f"{what} is held by {owner}", "it comes back when that pod ends, or by netdevctl release"
    )


def missing(
    requests: Iterable[DeviceRequest], sandbox: str, boot_id: str, records: Iterable[Record]
) -> tuple[str, ...]:
    """The selectors of those requests that no complete attachment of the sandbox answers."""
    own = [
        record
        for record in records
        if record.complete and (record.owner.sandbox, record.boot_id) == (sandbox, boot_id)
    ]
    return tuple(str(each.selector) for each in requests if asked_by(each, own) is None)


def names(record: Record) -> str:
    return ", ".join(lent.home.link.name for lent in record.devices)
