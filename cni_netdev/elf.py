"""The loader that a program of the bundle names: only where the bundle lies says its path.

Layout: elf(5).  Only 64 bits, little-endian: x86-64, aarch64, riscv64.
"""

from __future__ import annotations

import struct

_MAGIC = b"\x7fELF\x02\x01"
_HEADER = struct.Struct("<32xQ14xHH")  # e_phoff, e_phentsize, e_phnum
_SEGMENT = struct.Struct("<I4xQ16xQ")  # p_type, p_offset, p_filesz
_PT_INTERP = 3


def loader(data: bytes) -> str:
    """The path of the loader that the program names.  Raises ValueError."""
    start, room = _place(data)
    return data[start : start + room].partition(b"\0")[0].decode()


def with_loader(data: bytes, path: str) -> bytes:
    """The same program, naming this loader.

    Raises ValueError for what is no such program, and for a path that does not fit.
    """
    start, room = _place(data)
    text = path.encode()
    if len(text) >= room:
        raise ValueError(f"{path!r} is longer than the {room - 1} bytes that there are for it")
    return data[:start] + text.ljust(room, b"\0") + data[start + room :]


def _place(data: bytes) -> tuple[int, int]:
    """Where the path stands, and how many bytes there are for it with its NUL."""
    if not data.startswith(_MAGIC):
        raise ValueError("not a 64-bit, little-endian ELF file")
    try:
        offset, size, count = _HEADER.unpack_from(data)
        for number in range(count):
            kind, start, room = _SEGMENT.unpack_from(data, offset + number * size)
            if kind == _PT_INTERP and start + room <= len(data):
                return start, room
    except struct.error:
        raise ValueError("a torn ELF file") from None
    raise ValueError("an ELF file that names no loader")
