"""What ethtool sets of a link, in the namespace of the calling thread (linux/ethtool.h).

A move changes nothing of it, and a pod with CAP_NET_ADMIN may change it all.  Kept here is what
can be told to the kernel again as it told it; not RSS tables, steering rules, EEE, FEC and the
like, each of which has calls of its own.

Rejected: ethtool's generic netlink.  It needs a look-up of its family and a message for each of
these, which pyroute2 has only behind an event loop; an ioctl costs 2 µs where no driver answers.
"""

from __future__ import annotations

import _socket as socket
import fcntl
import struct

from cni_netdev.core import libc
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

_SIOCETHTOOL = 0x8946
_REQUEST = struct.Struct("16sQ16x")  # struct ifreq: the name, then the address of the command
_FEATURES_GET, _FEATURES_SET, _MODES_GET, _MODES_SET = 0x3A, 0x3B, 0x4C, 0x4D
_FEATURE_HEADER, _FEATURE = struct.Struct("=II"), struct.Struct("=IIII")
_MOST_FEATURE_WORDS = 8  # two today
# struct ethtool_sset_info for one set, and the head of struct ethtool_gstrings.
_COUNT_GET, _STRINGS_GET = 0x37, 0x1B
_COUNT, _STRINGS, _STRING_BYTES = struct.Struct("=IIQI"), struct.Struct("=III"), 32
# struct ethtool_link_settings: command, speed, duplex, port, phy_address, autoneg, mdio_support,
# eth_tp_mdix, eth_tp_mdix_ctrl, the length of a bitmap in words, transceiver, master_slave_cfg and
# what is not to be set; then three bitmaps: supported, advertised, the partner's.
_MODES = struct.Struct("=IIBBBBBBBbBB30s")
_UNKNOWN_SPEEDS = (0, 0xFFFFFFFF)
_FEATURES, _LINK_MODES = "features", "link modes"


class _Block(NamedTuple):
    """Numbers that are told and set in one piece.  size: in bytes, with the command."""

    get: int
    set: int
    size: int


_BLOCKS = {
    "channels": _Block(0x3C, 0x3D, 36),
    "coalesce": _Block(0x0E, 0x0F, 92),
    "message level": _Block(0x07, 0x08, 8),
    "pause": _Block(0x12, 0x13, 16),
    "private flags": _Block(0x27, 0x28, 8),
    "rings": _Block(0x10, 0x11, 36),
    "wake-on-lan": _Block(0x05, 0x06, 18),
}


def read(name: str) -> tuple[tuple[str, str], ...]:
    """((``rings``, bytes in hexadecimal), ...) of a link; what it does not have is left out."""
    with Device(name) as device:
        return tuple(device.settings())


def write(name: str, key: str, value: str) -> None:
    """Set one; ``key`` and ``value`` as from read().  Raises KernelRefused."""
    try:
        with Device(name) as device:
            device.set(key, bytes.fromhex(value))
    except OSError as error:
        raise KernelRefused(f"set ethtool's {key} of {name}", error.errno or 0) from error


class Device:
    """A socket to ask for one link by its name; its methods raise OSError."""

    def __init__(self, name: str) -> None:
        self._name = name.encode(errors="surrogateescape")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def settings(self) -> Iterator[tuple[str, str]]:
        for key in (*_BLOCKS, _FEATURES, _LINK_MODES):
            try:
                value = self._get(key)
            except OSError:
                continue  # not of this link
            if value:
                yield key, value.hex()

    def _get(self, key: str) -> bytes:
        if key == _FEATURES:
            return self._features()
        return self._modes() if key == _LINK_MODES else self.block(key)

    def set(self, key: str, value: bytes) -> None:
        if key == _FEATURES:
            count = len(value) // 8
            self._ask(_FEATURE_HEADER.pack(_FEATURES_SET, count) + value)
        elif key == _LINK_MODES:
            self._set_modes(value)
        else:
            self._ask(struct.pack("=I", _BLOCKS[key].set) + value)

    def _ask(self, command: bytes) -> bytes:
        """The command as the kernel left it.  Raises OSError."""
        buffer = libc.buffer(len(command))
        buffer.raw = command
        request = _REQUEST.pack(self._name, libc.address(buffer))
        fcntl.ioctl(self._socket.fileno(), _SIOCETHTOOL, request)
        answer: bytes = buffer.raw
        return answer

    def block(self, key: str) -> bytes:
        """Its numbers, without the command.  Raises OSError where the link has none of these."""
        block = _BLOCKS[key]
        return self._ask(struct.pack("=I", block.get).ljust(block.size, b"\0"))[4:]

    def strings(self, kind: int) -> tuple[str, ...]:
        """The names of one set (ETH_SS_*), in order.  Raises OSError where the link has none."""
        mask = _COUNT.pack(_COUNT_GET, 0, 1 << kind, 0)
        *_, answered, count = _COUNT.unpack(self._ask(mask))
        if not answered:
            return ()
        asked = _STRINGS.pack(_STRINGS_GET, kind, count) + bytes(_STRING_BYTES * count)
        told = self._ask(asked)[_STRINGS.size :]
        each = (told[at : at + _STRING_BYTES] for at in range(0, len(told), _STRING_BYTES))
        return tuple(text.split(b"\0")[0].decode(errors="replace") for text in each)

    def feature_words(self) -> tuple[tuple[int, int, int, int], ...]:
        """For each 32 features what can be set, is asked for, is in effect and never changes."""
        most = bytes(_FEATURE.size * _MOST_FEATURE_WORDS)
        answer = self._ask(_FEATURE_HEADER.pack(_FEATURES_GET, _MOST_FEATURE_WORDS) + most)
        _, count = _FEATURE_HEADER.unpack_from(answer)
        words = answer[_FEATURE_HEADER.size :][: _FEATURE.size * count]
        return tuple(_FEATURE.iter_unpack(words))

    def _features(self) -> bytes:
        """As they are set: for each word what can be, and what is wanted of that."""
        return b"".join(
            struct.pack("=II", available, requested & available)
            for available, requested, _, _ in self.feature_words()
        )

    # --- what a link offers to its partner -----------------------------------------------------

    def _modes(self) -> bytes:
        """Whether it negotiates, what it offers, and speed and duplex where those are set.

        Nothing where they are set but not told: many drivers do not while there is no carrier.
        """
        fields, _, advertised, _ = self._told_modes()
        _, speed, duplex, _, _, autoneg = fields[:6]
        if not autoneg and speed in _UNKNOWN_SPEEDS:
            return b""
        forced = (0, 0) if autoneg else (speed, duplex)
        return struct.pack("=BIB", autoneg, *forced) + advertised

    def _set_modes(self, value: bytes) -> None:
        fields, supported, _, partners = self._told_modes()
        autoneg, speed, duplex = struct.unpack_from("=BIB", value)
        if not autoneg:
            fields[1], fields[2] = speed, duplex
        fields[0], fields[5] = _MODES_SET, autoneg
        self._ask(_MODES.pack(*fields) + supported + value[6:] + partners)

    def _told_modes(self) -> tuple[list[int], bytes, bytes, bytes]:
        """The struct's fields and the three bitmaps."""
        empty = _MODES.pack(_MODES_GET, *[0] * 11, b"")
        words = -_MODES.unpack(self._ask(empty))[9]  # the kernel answers how long they must be
        if words <= 0:
            raise OSError
        asked = _MODES.pack(_MODES_GET, *[0] * 8, words, 0, 0, b"") + bytes(4 * 3 * words)
        answer = self._ask(asked)
        maps = answer[_MODES.size :]
        supported, advertised, partners = (maps[4 * words * at :][: 4 * words] for at in range(3))
        return list(_MODES.unpack_from(answer)), supported, advertised, partners
