"""Single values of a request, each checked and made canonical; pure.

Every function raises ValueError with what is wrong and what would be right.  In an annotation all
scalars arrive as text, so numbers and booleans are taken as decimal text and true or false too.
"""

from __future__ import annotations

from cni_netdev.core.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_netdev.core.ip import Interface

MTU = (68, 65535)  # RFC 791's smallest, and the largest that Linux's own links take
U32 = (0, 2**32 - 1)
_MOST_SHOWN = 64
_NAME_BYTES, _ALTNAME_BYTES = 15, 127  # IFNAMSIZ and ALTIFNAMSIZ less the closing zero
_SCOPES = {"global": 0, "universe": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
_MOST_DIGITS = 12
# What may stand where a pattern has these letters; anything else stands for itself.
_DIGITS = {"x": "0123456789abcdef", "o": "01234567"}
_MAC, _LONG_MAC = ":".join(["xx"] * 6), ":".join(["xx"] * 20)
_SLOT, _DOMAINS = "xx:xx.o", ("xxxx", "xxxxx", "xxxxxx", "xxxxxxx", "xxxxxxxx")


def _fits(text: str, *patterns: str) -> bool:
    return any(
        len(text) == len(pattern)
        and all(each in _DIGITS.get(kind, kind) for each, kind in zip(text, pattern, strict=True))
        for pattern in patterns
    )


def is_pci(text: str) -> bool:
    """Whether it is a whole PCI address in lower case, as sysfs writes them."""
    domain, _, slot = text.partition(":")
    return _fits(domain, *_DOMAINS) and _fits(slot, _SLOT)


def nearest(key: str, known: tuple[str, ...]) -> str:
    """``; did you mean mtu?`` or the list of keys, for the end of a message."""
    from difflib import get_close_matches

    close = get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def shown(value: object) -> str:
    """A caller's value for a message: escaped, and no longer than a line can bear.

    Of a list or object only the beginning is looked at: YAML's aliases make one without end.
    """
    text = ascii(value) if isinstance(value, str | int | float | None) else _outline(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _outline(value: object) -> str:
    from reprlib import Repr

    brief = Repr()
    brief.maxlevel, brief.maxstring, brief.maxother = 3, _MOST_SHOWN, _MOST_SHOWN
    return brief.repr(value).encode("ascii", "backslashreplace").decode()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} must be text")  # noqa: TRY004 - one class for all faults
    return value


def as_boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError(f"{shown(value)} is neither true nor false")


def as_on_or_off(value: object) -> str:
    """``on`` or ``off``, as ethtool(8) and ip(8) have it; YAML makes booleans of them."""
    if isinstance(value, str) and value.lower() in ("on", "off"):
        return value.lower()
    try:
        return "on" if as_boolean(value) else "off"
    except ValueError:
        raise ValueError(f"{shown(value)} is neither on nor off") from None


def as_ebpf(value: object) -> str:
    if value != "detach":
        raise ValueError(f"{shown(value)} must be detach")
    return "detach"


def _number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _is_decimal(value):
        return int(value)
    raise ValueError(f"{shown(value)} is no whole number")


def _is_decimal(text: str) -> bool:
    short = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return short and (text == "0" or text[0] != "0")


def between(least: int, most: int) -> Callable[[object], int]:
    def convert(value: object) -> int:
        number = _number(value)
        if number < least:
            raise ValueError(f"{shown(number)} is below {least}")
        if number > most:
            raise ValueError(f"{shown(number)} is above {most}")
        return number

    return convert


def as_scope(value: object) -> int:
    if isinstance(value, str) and value in _SCOPES:
        return _SCOPES[value]
    try:
        return between(0, 255)(value)
    except ValueError:
        known = ", ".join(_SCOPES)
        raise ValueError(f"{shown(value)} is no scope: a number up to 255, or {known}") from None


def _link_name(value: object, most: int) -> str:
    name = _text(value)
    if not name or len(name.encode(errors="surrogateescape")) > most:
        raise ValueError(f"{shown(name)} must have 1 to {most} bytes")
    if name in (".", "..") or any(
        each in "/:" or each.isspace() or not each.isprintable() for each in name
    ):
        raise ValueError(f"{shown(name)} is no name of a link: no /, :, space or control character")
    return name


def as_name(value: object) -> str:
    return _link_name(value, _ALTNAME_BYTES)


def as_new_name(value: object) -> str:
    return _name_in_pod(value, _NAME_BYTES)


def as_new_altname(value: object) -> str:
    return _name_in_pod(value, _ALTNAME_BYTES)


def _name_in_pod(value: object, most: int) -> str:
    name = _link_name(value, most)
    if "%" in name:
        raise ValueError(f"{shown(name)} has a %, which the kernel would replace by a number")
    if name in ("lo", "all", "default"):
        raise ValueError(f"{shown(name)} means something else in every namespace")
    return name


def _lower(value: object) -> str:
    return _text(value).lower().replace("-", ":")


def as_mac(value: object) -> str:
    mac = _lower(value)
    if not _fits(mac, _MAC):
        raise ValueError(f"{shown(value)} is no MAC: six bytes as 02:00:5e:10:00:01")
    if int(mac[:2], 16) & 1:
        raise ValueError(f"{mac} is a multicast address; the first byte must be even")
    if not mac.strip("0:"):
        raise ValueError(f"{mac} is no address of a link")
    return mac


def as_hwaddr(value: object) -> str:
    mac = _lower(value)
    if not _fits(mac, _MAC, _LONG_MAC):
        raise ValueError(f"{shown(value)} is no hardware address: 6 or 20 bytes with colons")
    return mac


def as_pci(value: object) -> str:
    given = _text(value).lower()
    address = f"0000:{given}" if _fits(given, _SLOT) else given
    if not is_pci(address):
        raise ValueError(f"{shown(value)} is no PCI address, as 0000:3b:02.1")
    return address


def as_path(value: object) -> str:
    path = _text(value)
    parts = path.split("/")
    inside = path.startswith("/sys/devices/") and not {".", ".."} & set(parts)
    if not inside or not path.isprintable() or len(path.encode(errors="surrogateescape")) > 1024:  # noqa: PLR2004 - enough for any bus
        raise ValueError(f"{shown(path)} is no plain path below /sys/devices/")
    return "/" + "/".join(filter(None, parts))


def _interface(text: str) -> Interface:
    from cni_netdev.core.ip import interface

    if "%" in text or not text.isascii():
        raise ValueError(f"{shown(text)} is no plain address")
    try:
        return interface(text)
    except ValueError:
        raise ValueError(
            f"{shown(text)} is no IP address, as 192.168.2.2/24 or fd00::2/64"
        ) from None


def _usable(address: Interface) -> str:
    if not address.of_a_link:
        raise ValueError(f"{address.address} cannot be the address of a link")
    return str(address)


def as_cidr(value: object) -> str:
    text = _text(value)
    _, slash, bits = text.partition("/")
    if slash and not bits.isdecimal():
        raise ValueError(f"{shown(text)} must have its prefix length after the /")
    return _usable(_interface(text))


def as_address(value: object, prefix: int | None) -> str:
    """The original's form: a bare address and its prefix; CIDR is taken too."""
    text = _text(value)
    if prefix is None:
        return as_cidr(text)
    bare, slash, bits = text.partition("/")
    if slash and bits != str(prefix):
        raise ValueError(f"{shown(text)} contradicts prefix {prefix}")
    try:
        return as_cidr(f"{bare}/{prefix}")
    except ValueError:
        _interface(bare)
        raise ValueError(f"prefix {prefix} is too long for {shown(bare)}") from None


def as_destination(value: object) -> str:
    text = _text(value)
    if text == "default":
        return text
    interface = _interface(text)
    if interface != interface.network:
        raise ValueError(
            f"{shown(text)} has bits behind its prefix; did you mean {interface.network}?"
        )
    return str(interface)


def as_plain_address(value: object) -> str:
    text = _text(value)
    if "/" in text:
        raise ValueError(f"{shown(text)} must be an address without prefix")
    return _interface(text).address


def as_host(value: object) -> str:
    """An address without prefix that somebody on the link may have."""
    text = as_plain_address(value)
    _usable(_interface(text))
    return text


def as_network(value: object) -> str:
    """As as_destination, but not everything."""
    network = as_destination(value)
    if network == "default" or network.endswith("/0"):
        raise ValueError(f"{shown(value)} is everything: leave it out")
    return network


def one_of(*known: str) -> Callable[[object], str]:
    def convert(value: object) -> str:
        if isinstance(value, str) and value in known:
            return value
        raise ValueError(f"{shown(value)} is none of {', '.join(known)}")

    return convert
