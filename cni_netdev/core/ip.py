"""IP addresses with a prefix length, by what libc knows of them; pure.

``ipaddress`` would cost 4 ms of CPU on the start of every pod that asks for an address.  Texts come
out as the kernel's addresses do, which pyroute2 reads by inet_ntop(3), too.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from cni_netdev.core.lean import NamedTuple

_LENGTHS = {AF_INET: 32, AF_INET6: 128}
_V4_MULTICAST, _V6_MULTICAST = range(224, 240), range(255, 256)  # of the first byte


class Interface(NamedTuple):
    """An address, and how many of its bits are the network's."""

    family: int
    packed: bytes
    prefix: int

    @property
    def address(self) -> str:
        return inet_ntop(self.family, self.packed)

    @property
    def network(self) -> Interface:
        """The network's own address, with the same prefix."""
        rest = _LENGTHS[self.family] - self.prefix
        number = int.from_bytes(self.packed, "big") >> rest << rest
        return self._replace(packed=number.to_bytes(len(self.packed), "big"))

    @property
    def of_a_link(self) -> bool:
        """Whether a link may have it: neither unspecified nor multicast."""
        multicast = _V4_MULTICAST if self.family == AF_INET else _V6_MULTICAST
        return any(self.packed) and self.packed[0] not in multicast

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"


def interface(text: str) -> Interface:
    """Of an address, or one with its prefix length after a ``/``.  Raises ValueError."""
    bare, slash, length = text.partition("/")
    family = AF_INET6 if ":" in bare else AF_INET
    longest = _LENGTHS[family]
    try:
        packed = inet_pton(family, bare)
    except (OSError, ValueError) as error:
        raise ValueError(f"{bare!r} is no IP address") from error
    plain = length.isascii() and length.isdigit()
    if slash and not (plain and int(length) <= longest):
        raise ValueError(f"{length!r} is no length of up to {longest}")
    return Interface(family, packed, int(length) if slash else longest)
