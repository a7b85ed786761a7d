"""NRI's multiplexer: several byte streams over one connection; pure.

A frame is a header of two big-endian u32, connection id and length, and that many bytes.  Frames
cut a stream anywhere, so what arrives is handed on as it comes and never kept
(containerd/nri, pkg/net/multiplex).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from nri_plugin.errors import PeerError

RESERVED, PLUGIN_SERVICE, RUNTIME_SERVICE = 0, 1, 2
# No writer makes a longer frame: this is NRI's limit before 0.7, then it is a ttrpc message at its
# largest, 4 MiB and its header.
LONGEST_FRAME = 16 << 20
# The Go side reads each frame into a buffer of 4096 bytes and gives up on a longer one.
LONGEST_SENT = 4096

_HEADER = struct.Struct(">II")


class Piece(NamedTuple):
    """Some bytes of one stream."""

    connection: int
    data: bytes


class Demultiplexer:
    """Takes the connection's bytes in any portions, gives the pieces of its streams."""

    def __init__(self) -> None:
        self._header = b""
        self._connection = 0
        self._left = 0

    def receive(self, data: bytes) -> list[Piece]:
        """Raises PeerError for the reserved connection and for a frame that is too long."""
        pieces = []
        view = memoryview(data)
        while view:
            if not self._left:
                view = self._read_header(view)
                continue
            piece, view = view[: self._left], view[self._left :]
            self._left -= len(piece)
            pieces.append(Piece(self._connection, bytes(piece)))
        return pieces

    @property
    def between_frames(self) -> bool:
        """Whether the connection may end here."""
        return not self._left and not self._header

    def _read_header(self, view: memoryview) -> memoryview:
        missing = _HEADER.size - len(self._header)
        self._header += bytes(view[:missing])
        if len(self._header) == _HEADER.size:
            self._connection, self._left = _HEADER.unpack(self._header)
            self._header = b""
            if self._connection == RESERVED:
                raise PeerError("a frame for connection 0, which is reserved")
            if self._left > LONGEST_FRAME:
                raise PeerError(f"a frame of {self._left} bytes, more than {LONGEST_FRAME}")
        return view[missing:]


def frames(connection: int, data: bytes) -> bytes:
    """The data as frames that the Go side can read."""
    out = bytearray()
    for start in range(0, len(data), LONGEST_SENT):
        part = data[start : start + LONGEST_SENT]
        out += _HEADER.pack(connection, len(part)) + part
    return bytes(out)
