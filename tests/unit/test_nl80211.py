"""nl80211's requests, packed here by hand from linux/nl80211.h and linux/genetlink.h.

tests/vm/test_wifi.py makes them of the real kernel.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import nl80211

if TYPE_CHECKING:
    from typing import Any

FAMILY = 31


def attribute(number: int, value: int | str, size: int = 4) -> bytes:
    data = value.encode() + b"\0" if isinstance(value, str) else value.to_bytes(size, "little")
    return struct.pack("=HH", 4 + len(data), number) + data + bytes(-len(data) % 4)


class Kernel:
    """Knows where nl80211 is, and that every link is a monitor, and the ninth."""

    def __init__(self) -> None:
        self.said: list[tuple[int, int, bytes]] = []

    def request(self, what: str, filled: Any, kind: int, flags: int) -> list[Any]:
        assert what
        filled.encode()
        command, attributes = filled.data[16], bytes(filled.data[20:])
        self.said.append((kind, command, attributes))
        if flags:
            assert flags == 0x4
            return []
        body = attribute(1, FAMILY, 2) if kind == 16 else attribute(3, 9) + attribute(5, 6)
        reply = type(filled)(struct.pack("=IHHII", 20 + len(body), kind, 0, 0, 0) + bytes(4) + body)
        reply.decode()
        return [reply]

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(nl80211, "Connection", lambda protocol: made if protocol == 16 else None)
    return made


def test_what_is_said(kernel: Kernel) -> None:
    connection = nl80211.Nl80211()
    connection.move(0, 12)
    connection.rename(0, "mine", "phy0")
    assert connection.type_of(7) == 6
    connection.set_type(7, 2)
    connection.remove(8)
    assert connection.make(0, 2) == 9
    connection.close()
    assert kernel.said == [
        (16, 3, attribute(2, "nl80211")),
        (FAMILY, 49, attribute(1, 0) + attribute(219, 12)),
        (FAMILY, 2, attribute(1, 0) + attribute(2, "phy0")),
        (FAMILY, 5, attribute(3, 7)),
        (FAMILY, 6, attribute(3, 7) + attribute(5, 2)),
        (FAMILY, 8, attribute(3, 8)),
        (FAMILY, 7, attribute(1, 0) + attribute(4, "wlan%d") + attribute(5, 2)),
    ]
