"""The multiplexer: whole, byte by byte, cut anywhere; its limits."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_plugin.errors import PeerError
from nri_plugin.mux import LONGEST_FRAME, LONGEST_SENT, Demultiplexer, Piece, frames
from tests.wire import frame, partition

FRAMES = st.lists(st.tuples(st.integers(1, 2**32 - 1), st.binary(max_size=40)), max_size=6)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of one connection as one, since frames and portions cut anywhere."""
    out: list[Piece] = []
    for piece in pieces:
        if out and out[-1].connection == piece.connection:
            piece = Piece(piece.connection, out.pop().data + piece.data)  # noqa: PLW2901
        out.append(piece)
    return out


def received(portions: list[bytes]) -> list[Piece]:
    demultiplexer = Demultiplexer()
    pieces = [piece for portion in portions for piece in demultiplexer.receive(portion)]
    assert demultiplexer.between_frames
    return joined(pieces)


def test_frames_of_several_connections() -> None:
    data = frame(1, b"ab") + frame(2, b"c") + frame(1, b"") + frame(7, b"d")
    assert Demultiplexer().receive(data) == [Piece(1, b"ab"), Piece(2, b"c"), Piece(7, b"d")]


def test_byte_by_byte() -> None:
    data = frame(1, b"ab") + frame(2, b"c") + frame(1, b"")
    assert received([bytes([each]) for each in data]) == [Piece(1, b"ab"), Piece(2, b"c")]


@given(FRAMES, CUTS)
def test_any_partition_gives_the_same_streams(
    sent: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(frame(*each) for each in sent)
    wanted = joined([Piece(*each) for each in sent if each[1]])
    assert received(partition(data, cuts)) == wanted


def test_a_piece_is_handed_on_before_its_frame_is_whole() -> None:
    demultiplexer = Demultiplexer()
    assert demultiplexer.receive(frame(1, b"abcd")[:-2]) == [Piece(1, b"ab")]
    assert not demultiplexer.between_frames
    assert demultiplexer.receive(b"cd" + b"\0\0") == [Piece(1, b"cd")]
    assert not demultiplexer.between_frames, "two bytes of a header are here"


@pytest.mark.parametrize(
    ("connection", "length", "why"),
    [(0, 0, "reserved"), (0, 5, "reserved"), (1, LONGEST_FRAME + 1, "more than 16777216")],
)
def test_what_no_peer_may_send(connection: int, length: int, why: str) -> None:
    header = struct.pack(">II", connection, length)
    for portions in ([header], [header[:7], header[7:]], [frame(2, b"x") + header + b"yz"]):
        demultiplexer = Demultiplexer()
        with pytest.raises(PeerError, match=why):
            [demultiplexer.receive(portion) for portion in portions]


def test_the_longest_frame_is_taken() -> None:
    assert LONGEST_FRAME == 16 * 1024 * 1024
    assert Demultiplexer().receive(struct.pack(">II", 1, LONGEST_FRAME)) == []
    whole = frame(1, bytes(LONGEST_FRAME))
    assert Demultiplexer().receive(whole) == [Piece(1, bytes(LONGEST_FRAME))]


@pytest.mark.parametrize(
    ("size", "lengths"),
    [(0, []), (1, [1]), (4096, [4096]), (4097, [4096, 1]), (10_000, [4096, 4096, 1808])],
)
def test_what_we_send_fits_the_go_sides_buffer(size: int, lengths: list[int]) -> None:
    assert LONGEST_SENT == 4096
    data = bytes(each % 251 for each in range(size))
    pieces = Demultiplexer().receive(frames(2, data))
    assert [len(piece.data) for piece in pieces] == lengths
    assert b"".join(piece.data for piece in pieces) == data
    assert {piece.connection for piece in pieces} <= {2}


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_arbitrary_bytes_raise_only_PeerError(portions: list[bytes]) -> None:  # noqa: N802
    demultiplexer = Demultiplexer()
    try:
        for portion in portions:
            taken = sum(len(piece.data) for piece in demultiplexer.receive(portion))
            assert taken <= len(portion)
            assert len(demultiplexer._header) < 8
    except PeerError:
        pass
