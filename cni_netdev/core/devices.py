"""Decoded device objects to requests; pure.  Every fault is found before any is reported.

The same rules hold for the conflist, the capability and the annotation.  In an annotation every
scalar arrives as text, so numbers and booleans are taken as decimal text and true or false too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.model import DeviceRequest, RouteRequest, Selector

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Callable

    from cni_netdev.core.model import SelectorKind, Source

MOST_DEVICES = 64
MOST_ADDRESSES = 64
MOST_ROUTES = 256
_MOST_SHOWN = 64
_NAME_BYTES, _ALTNAME_BYTES = 15, 127  # IFNAMSIZ and ALTIFNAMSIZ less the closing zero
_MTU = (68, 65535)  # RFC 791's smallest, and the largest that Linux's own links take
_U32 = (0, 2**32 - 1)
_SCOPES = {"global": 0, "universe": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
_SELECTORS: tuple[SelectorKind, ...] = ("name", "hwaddr", "pci_address", "kernel_path")
_KEYS = (
    *_SELECTORS,
    "new_name",
    "address",
    "prefix",
    "addresses",
    "mtu",
    "mac",
    "routes",
    "up",
    "keep_addresses",
)
_ROUTE_KEYS = ("dst", "gw", "src", "priority", "table", "scope", "mtu", "advmss")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,11}")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_LONG_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){19}")
_PCI = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")


def parse_devices(value: object, source: Source, where: str) -> tuple[DeviceRequest, ...]:
    """A decoded list of devices; None is an empty one.  Raises RequestError with all faults."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RequestError((Fault(where, "must be a list of devices"),))
    if len(value) > MOST_DEVICES:
        raise RequestError((Fault(where, f"{len(value)} devices are more than {MOST_DEVICES}"),))
    faults: list[Fault] = []
    requests = [
        _Device(each, source, f"{where}[{number}]", faults).request()
        for number, each in enumerate(value)
    ]
    if faults:
        raise RequestError(tuple(faults))
    return tuple(requests)


def merge_requests(*groups: tuple[DeviceRequest, ...]) -> tuple[DeviceRequest, ...]:
    """All groups together.  Raises RequestError for a link, or a name in the pod, given twice."""
    together = tuple(request for group in groups for request in group)
    faults: list[Fault] = []
    links: dict[Selector, str] = {}
    names: dict[str, str] = {}
    for request in together:
        earlier = links.setdefault(request.selector, request.where)
        if earlier != request.where:
            faults.append(
                Fault(request.where, f"{request.selector} is asked for by {earlier} already")
            )
        by_name = request.selector.kind == "name"
        name = request.new_name or (request.selector.value if by_name else None)
        if name is not None and names.setdefault(name, request.where) != request.where:
            fault = f"{name!r} is the name in the pod of {names[name]} already"
            faults.append(Fault(f"{request.where}.new_name", fault))
    if faults:
        raise RequestError(tuple(faults))
    return together


def name_in_pod(name: str, where: str) -> str:
    """The name if a link in a pod may have it.  Raises RequestError."""
    try:
        return _new_name(name)
    except ValueError as error:
        raise RequestError((Fault(where, str(error)),)) from None


def nearest(key: str, known: tuple[str, ...]) -> str:
    """``; did you mean mtu?`` or the list of keys, for the end of a message."""
    from difflib import get_close_matches

    close = get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def shown(value: object) -> str:
    """A caller's value for a message: escaped, and no longer than a line can bear."""
    text = ascii(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


class _Object:
    """One decoded object whose keys are read one by one; what is wrong goes to ``faults``."""

    def __init__(
        self, value: object, where: str, faults: list[Fault], known: tuple[str, ...]
    ) -> None:
        self._where = where
        self._faults = faults
        self._value: dict[str, object] = {}
        self.readable = isinstance(value, dict)
        if not isinstance(value, dict):
            faults.append(Fault(where, f"must be an object, not {shown(value)}"))
            return
        self._value = value
        for key in value:
            if key not in known:
                self.fault(f".{shown(str(key))[1:-1]}", f"unknown key{nearest(str(key), known)}")

    def fault(self, key: str, message: str) -> None:
        self._faults.append(Fault(self._where + key, message))

    def has(self, key: str) -> bool:
        return self._value.get(key) is not None

    def take(self, key: str, convert: Callable[[object], Any]) -> Any:
        """The converted value; None when absent, null or wrong."""
        if not self.has(key):
            return None
        return self.convert(f".{key}", self._value[key], convert)

    def convert(self, path: str, value: object, convert: Callable[[object], Any]) -> Any:
        try:
            return convert(value)
        except ValueError as error:
            self.fault(path, str(error))
            return None

    def take_list(self, key: str, most: int) -> list[Any]:
        if not self.has(key):
            return []
        value = self._value[key]
        if not isinstance(value, list):
            self.fault(f".{key}", f"must be a list, not {shown(value)}")
            return []
        if len(value) > most:
            self.fault(f".{key}", f"{len(value)} entries are more than {most}")
            return []
        return value


class _Device(_Object):
    def __init__(self, value: object, source: Source, where: str, faults: list[Fault]) -> None:
        super().__init__(value, where, faults, _KEYS)
        self._source = source

    def request(self) -> DeviceRequest:
        up = self.take("up", _boolean)
        routes = tuple(
            _route(each, f"{self._where}.routes[{number}]", self._faults)
            for number, each in enumerate(self.take_list("routes", MOST_ROUTES))
        )
        if up is False and routes:
            self.fault(".routes", "cannot be set on a link that stays down (up is false)")
        return DeviceRequest(
            selector=self._selector(),
            new_name=self.take("new_name", _new_name),
            addresses=self._addresses(),
            mtu=self.take("mtu", _between(*_MTU)),
            mac=self.take("mac", _mac),
            routes=routes,
            up=up is not False,
            keep_addresses=bool(self.take("keep_addresses", _boolean)),
            source=self._source,
            where=self._where,
        )

    def _selector(self) -> Selector:
        given = [key for key in _SELECTORS if self.has(key)]
        if not self.readable:
            return Selector("name", "")
        if len(given) != 1:
            many = f"{' and '.join(given)} are given" if given else "none is given"
            self.fault("", f"exactly one of {', '.join(_SELECTORS)} must name the link; {many}")
            return Selector("name", "")
        convert = {"name": _name, "hwaddr": _hwaddr, "pci_address": _pci, "kernel_path": _path}
        return Selector(given[0], self.take(given[0], convert[given[0]]) or "")

    def _addresses(self) -> tuple[str, ...]:
        found = []
        prefix = self.take("prefix", _between(0, 128))
        if self.has("address"):
            found.append(self.take("address", lambda value: _address(value, prefix)))
        elif self.has("prefix"):
            self.fault(".prefix", "belongs to an address, and there is none")
        for number, each in enumerate(self.take_list("addresses", MOST_ADDRESSES)):
            found.append(self.convert(f".addresses[{number}]", each, _cidr))
        addresses = [each for each in found if each is not None]
        for each in dict.fromkeys(each for each in addresses if addresses.count(each) > 1):
            self.fault(".addresses", f"{each} is given more than once")
        return tuple(addresses)


def _route(value: object, where: str, faults: list[Fault]) -> RouteRequest:
    given = _Object(value, where, faults, _ROUTE_KEYS)
    dst = given.take("dst", _destination)
    if not given.has("dst"):
        given.fault(".dst", "is needed: a network as CIDR, or default")
    gw, src = given.take("gw", _plain_address), given.take("src", _plain_address)
    if dst == "default":
        dst = "::/0" if ":" in (gw or src or "") else "0.0.0.0/0"
    if dst and gw and ":" in dst and ":" not in gw:
        given.fault(".gw", f"{gw} is no IPv6 address, but {dst} is an IPv6 network")
    if dst and src and (":" in dst) != (":" in src):
        given.fault(".src", f"{src} is of another family than {dst}")
    return RouteRequest(
        dst=dst or "",
        gw=gw,
        src=src,
        priority=given.take("priority", _between(*_U32)),
        table=given.take("table", _between(1, _U32[1])),
        scope=given.take("scope", _scope),
        mtu=given.take("mtu", _between(*_MTU)),
        advmss=given.take("advmss", _between(1, _MTU[1])),
    )


# --- single values; each raises ValueError with what is wrong ----------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} must be text")  # noqa: TRY004 - one class for all faults
    return value


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError(f"{shown(value)} is neither true nor false")


def _number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return int(value)
    raise ValueError(f"{shown(value)} is no whole number")


def _between(least: int, most: int) -> Callable[[object], int]:
    def convert(value: object) -> int:
        number = _number(value)
        if number < least:
            raise ValueError(f"{shown(number)} is below {least}")
        if number > most:
            raise ValueError(f"{shown(number)} is above {most}")
        return number

    return convert


def _scope(value: object) -> int:
    if isinstance(value, str) and value in _SCOPES:
        return _SCOPES[value]
    try:
        return _between(0, 255)(value)
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


def _name(value: object) -> str:
    return _link_name(value, _ALTNAME_BYTES)


def _new_name(value: object) -> str:
    name = _link_name(value, _NAME_BYTES)
    if "%" in name:
        raise ValueError(f"{shown(name)} has a %, which the kernel would replace by a number")
    if name in ("lo", "all", "default"):
        raise ValueError(f"{shown(name)} means something else in every namespace")
    return name


def _lower(value: object) -> str:
    return _text(value).lower().replace("-", ":")


def _mac(value: object) -> str:
    mac = _lower(value)
    if not _MAC.fullmatch(mac):
        raise ValueError(f"{shown(value)} is no MAC: six bytes as 02:00:5e:10:00:01")
    if int(mac[:2], 16) & 1:
        raise ValueError(f"{mac} is a multicast address; the first byte must be even")
    if not mac.strip("0:"):
        raise ValueError(f"{mac} is no address of a link")
    return mac


def _hwaddr(value: object) -> str:
    mac = _lower(value)
    if not (_MAC.fullmatch(mac) or _LONG_MAC.fullmatch(mac)):
        raise ValueError(f"{shown(value)} is no hardware address: 6 or 20 bytes with colons")
    return mac


def _pci(value: object) -> str:
    found = _PCI.fullmatch(_text(value).lower())
    if not found:
        raise ValueError(f"{shown(value)} is no PCI address, as 0000:3b:02.1")
    return f"{found[1] or '0000'}:{found[2]}"


def _path(value: object) -> str:
    path = _text(value)
    parts = path.split("/")
    inside = path.startswith("/sys/devices/") and not {".", ".."} & set(parts)
    if not inside or not path.isprintable() or len(path.encode(errors="surrogateescape")) > 1024:  # noqa: PLR2004 - enough for any bus
        raise ValueError(f"{shown(path)} is no plain path below /sys/devices/")
    return "/" + "/".join(filter(None, parts))


def _interface(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    import ipaddress

    if "%" in text or not text.isascii():
        raise ValueError(f"{shown(text)} is no plain address")
    try:
        return ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(
            f"{shown(text)} is no IP address, as 192.168.2.2/24 or fd00::2/64"
        ) from None


def _usable(address: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> str:
    if address.ip.is_unspecified or address.ip.is_multicast:
        raise ValueError(f"{address.ip} cannot be the address of a link")
    return f"{address.ip}/{address.network.prefixlen}"


def _cidr(value: object) -> str:
    text = _text(value)
    _, slash, bits = text.partition("/")
    if slash and not bits.isdecimal():
        raise ValueError(f"{shown(text)} must have its prefix length after the /")
    return _usable(_interface(text))


def _address(value: object, prefix: int | None) -> str:
    """The original's form: a bare address and its prefix; CIDR is taken too."""
    text = _text(value)
    if prefix is None:
        return _cidr(text)
    bare, slash, bits = text.partition("/")
    if slash and bits != str(prefix):
        raise ValueError(f"{shown(text)} contradicts prefix {prefix}")
    try:
        return _cidr(f"{bare}/{prefix}")
    except ValueError:
        _interface(bare)
        raise ValueError(f"prefix {prefix} is too long for {shown(bare)}") from None


def _destination(value: object) -> str:
    text = _text(value)
    if text == "default":
        return text
    interface = _interface(text)
    if interface.ip != interface.network.network_address:
        raise ValueError(
            f"{shown(text)} has bits behind its prefix; did you mean {interface.network}?"
        )
    return str(interface.network)


def _plain_address(value: object) -> str:
    text = _text(value)
    if "/" in text:
        raise ValueError(f"{shown(text)} must be an address without prefix")
    return str(_interface(text).ip)
