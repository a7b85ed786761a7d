from __future__ import annotations

import pytest

from cni_netdev.core import forwarding
from cni_netdev.core.model import Forwarding

TABLE = """\
2    nic1            1     0     333300000001
2    nic1            2     1     010203040506
3    nic2            1     1     010203040507
2    nic1            1     0     01005e0000fb
"""


def entry(mac: str, **others: str) -> Forwarding:
    attributes = {"NDA_LLADDR": mac.replace(":", ""), **others}
    return Forwarding(0x80, 2, tuple(attributes.items()))


def test_what_was_set_by_hand_is_told_from_what_was_joined() -> None:
    assert forwarding.set_by_hand(2, TABLE) == {"010203040506"}
    assert forwarding.set_by_hand(4, TABLE) == frozenset()


@pytest.mark.parametrize(
    ("mac", "joined", "always"),
    [
        ("02:00:00:00:00:01", False, False),
        ("01:02:03:04:05:06", True, False),
        ("01:00:5e:00:00:01", True, True),
        ("01:00:5e:00:00:fb", True, False),
        ("33:33:ff:12:34:56", True, True),
    ],
)
def test_multicast_macs(mac: str, *, joined: bool, always: bool) -> None:
    each = entry(mac)
    assert each.mac == mac
    assert forwarding.may_be_joined(each) is joined
    assert forwarding.is_always_joined(each) is always


def test_where_a_vxlan_sends_multicast_is_never_joined() -> None:
    assert not forwarding.may_be_joined(entry("01:00:5e:00:00:01", NDA_DST="7f000006"))


def test_an_entry_survives_the_way_to_the_kernel_and_back() -> None:
    given = entry("02:00:00:00:00:66", NDA_DST="7f000006", NDA_PORT="12b5")
    message = forwarding.change(7, given)
    message.encode()
    decoded = type(message)(message.data)
    decoded.decode()
    assert [set(each.attributes) for each in forwarding.entries([decoded], 7)] == [
        set(given.attributes)
    ]
    assert forwarding.entries([decoded], 8) == []
