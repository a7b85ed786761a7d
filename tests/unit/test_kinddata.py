from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core import kinddata

ATTRIBUTES = st.dictionaries(st.integers(1, 40), st.binary(min_size=1, max_size=9), max_size=8)


def told(attributes: dict[int, bytes]) -> str:
    """As the kernel packs them: length, number, value, padded to four bytes."""
    packed = b""
    for number, value in attributes.items():
        packed += struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
    return packed.hex()


@given(ATTRIBUTES, ATTRIBUTES)
def test_just_what_differs_is_told(before: dict[int, bytes], after: dict[int, bytes]) -> None:
    message = kinddata.attributes(kinddata.change("geneve", told(before), told(after)).hex())
    for number in before.keys() | after.keys():
        if before.get(number) == after.get(number):
            assert number not in message
        elif number in after:
            assert message[number] == after[number]
        else:
            assert message[number] == bytes(len(before[number]))
    assert tuple(sorted(message)) == kinddata.changed("geneve", told(before), told(after))


@given(st.binary(max_size=60))
def test_what_is_no_list_of_attributes_does_no_harm(data: bytes) -> None:
    found = kinddata.attributes(data.hex())
    assert sum(map(len, found.values())) <= len(data)


@pytest.mark.parametrize(("kind", "expected"), [("macvlan", ()), ("vxlan", (8,))])
def test_counts_that_follow_others_are_no_difference(kind: str, expected: tuple[int, ...]) -> None:
    assert kinddata.changed(kind, told({8: b"\1"}), told({8: b"\2"})) == expected


def test_flags_of_a_number_are_not_part_of_it() -> None:
    nested = struct.pack("=HH", 8, 5 | 0x8000) + b"abcd"
    assert kinddata.attributes(nested.hex()) == {5: b"abcd"}


def mapped(pairs: dict[int, int]) -> bytes:
    """As the kernel tells IFLA_VLAN_EGRESS_QOS: an attribute for each mapping."""
    return b"".join(struct.pack("=HHII", 12, 1, *pair) for pair in pairs.items())


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({1: 2}, {}, {1: 0}),
        ({}, {1: 2}, {1: 2}),
        ({1: 2, 3: 4}, {3: 5, 6: 7}, {1: 0, 3: 5, 6: 7}),
    ],
)
@pytest.mark.parametrize("number", [3, 4])
def test_a_vlans_mappings_are_taken_back_one_by_one(
    number: int, before: dict[int, int], after: dict[int, int], expected: dict[int, int]
) -> None:
    was, wanted = ({number: mapped(each)} if each else {} for each in (before, after))
    message = kinddata.change("vlan", told(was), told(wanted))
    assert kinddata.attributes(message.hex()) == {number: mapped(expected)}


def test_a_tunnel_is_told_everything() -> None:
    before, after = told({6: b"near", 7: b"away"}), told({6: b"near", 7: b"far."})
    assert kinddata.change("gre", before, after).hex() == after
    assert kinddata.change("gre", after, after) == b""
