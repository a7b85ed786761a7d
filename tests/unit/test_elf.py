"""The loader that a program names."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev import elf

ROOM = 32
_OFFSET = 64 + 56  # behind the header and one program header


def program(loader: bytes = b"/lib/ld.so", kind: int = 3, room: int = ROOM) -> bytes:
    """As small as it can be."""
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", kind, 4, _OFFSET, 0, 0, room, room, 1)
    return head + loader.ljust(min(room, 1000), b"\0") + b"the rest"


def test_it_is_found_and_replaced_and_nothing_else_is() -> None:
    before = program()
    assert elf.loader(before) == "/lib/ld.so"
    after = elf.with_loader(before, "/opt/a/lib/ld.so")
    assert elf.loader(after) == "/opt/a/lib/ld.so"
    assert (len(after), after[:_OFFSET]) == (len(before), before[:_OFFSET])
    assert after.endswith(b"the rest")
    assert elf.with_loader(after, "/lib/ld.so") == before


def test_a_path_must_leave_a_byte_for_its_end() -> None:
    assert elf.loader(elf.with_loader(program(), "/" * (ROOM - 1))) == "/" * (ROOM - 1)
    with pytest.raises(ValueError, match="longer than the 31 bytes"):
        elf.with_loader(program(), "/" * ROOM)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a 64-bit"),
        (b"#!/bin/sh\n", "not a 64-bit"),
        (b"\x7fELF\x01\x01" + bytes(90), "not a 64-bit"),
        (program()[:40], "torn"),
        (program()[:80], "torn"),
        (program(kind=1), "names no loader"),
        (program(room=1 << 40), "names no loader"),
    ],
)
def test_anything_else_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        elf.loader(data)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for text in (data, b"\x7fELF\x02\x01" + data):
        with suppress(ValueError):
            elf.with_loader(text, "/x")
