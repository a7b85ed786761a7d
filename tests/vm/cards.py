"""The guest's network cards, whatever they are called by now."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Card(NamedTuple):
    """A card, as it is on the host.  bus: as ``0000:01:00.0``.  path: its device below /sys."""

    name: str
    bus: str
    path: str
    mac: str


def card(driver: str) -> Card:
    """The card, or the VF of the lowest number, of this driver."""
    for place in sorted(Path("/sys/class/net").iterdir()):
        if (place / "device" / "driver").resolve().name == driver:
            return _card(place)
    raise AssertionError(f"no link of driver {driver}")


def _card(place: Path) -> Card:
    path = place.resolve()
    bus = [part for part in path.parts if part.count(":") == 2]
    mac = (path / "address").read_text().strip()
    return Card(place.name, bus[-1], str(path.parent.parent), mac)
