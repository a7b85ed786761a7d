"""What a Wi-Fi link is besides a link: of a type, and on a phy, which moves as a whole; pure.

Only a phy with one link is lent (see guards), so that whatever else is on it was made in the pod.
"""

from __future__ import annotations

from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.steps import NamePhy, RemoveWlan, SetWlanType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_netdev.core.model import Phy
    from cni_netdev.core.steps import Place, Step


def planted(seen: Phy, place: Place) -> Iterator[RemoveWlan]:
    """Away with what the pod made on the phy."""
    for each in seen.mates:
        yield RemoveWlan(place, each)


def settle(home: Phy, seen: Phy) -> Iterator[Step]:
    """On the host and down, back to what they were."""
    yield from planted(seen, "host")
    if home.type != seen.type:
        yield SetWlanType("host", seen.type, home.type)
    if home.name != seen.name:
        yield NamePhy("host", seen.number, seen.name, home.name)
