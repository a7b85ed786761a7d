"""Decoded device objects to requests; pure.  Every fault is found before any is reported.

The same rules hold for the conflist, the capability and the annotation; ``values`` has those for
single values.
"""

from __future__ import annotations

from cni_netdev.core import values
from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import DeviceRequest, RouteRequest, Selector
from cni_netdev.core.objects import Object

if TYPE_CHECKING:
    from cni_netdev.core.model import Extras, SelectorKind, Source

MOST_DEVICES = 64
MOST_ADDRESSES = 64
MOST_ROUTES = 256
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
    "ethtool",
    "rdma",
    "vf",
    "ebpf",
)
# What few requests have; extras reads it.
EXTRA_KEYS = (
    "txqlen",
    "gso_max_size",
    "gro_max_size",
    "gso_ipv4_max_size",
    "gro_ipv4_max_size",
    "altnames",
    "neighbors",
    "rules",
    "sysctls",
    "dad",
    "announce",
    "vrf",
)
_NO_DHCP = (
    "is no key of a device: give the network's conflist entry an IPAM plugin, "
    '"ipam": {"type": "dhcp"}, and the device no address'
)
_ROUTE_KEYS = ("dst", "gw", "src", "priority", "table", "scope", "mtu", "advmss")


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
        for key, name in _names_in_pod(request):
            if name in names:
                fault = f"{name!r} is the name in the pod of {names[name]} already"
                faults.append(Fault(f"{request.where}.{key}", fault))
            names.setdefault(name, request.where)
    if faults:
        raise RequestError(tuple(faults))
    return together


def _names_in_pod(request: DeviceRequest) -> list[tuple[str, str]]:
    """(key, name) of each that is known beforehand."""
    altnames = request.extras.altnames if request.extras else ()
    name = request.new_name or (request.selector.value if request.selector.kind == "name" else "")
    return [*([("new_name", name)] if name else []), *(("altnames", each) for each in altnames)]


def name_in_pod(name: str, where: str) -> str:
    """The name if a link in a pod may have it.  Raises RequestError."""
    try:
        return values.as_new_name(name)
    except ValueError as error:
        raise RequestError((Fault(where, str(error)),)) from None


class _Device(Object):
    def __init__(self, value: object, source: Source, where: str, faults: list[Fault]) -> None:
        super().__init__(value, where, faults)
        if self.has("dhcp"):
            self.fault(".dhcp", _NO_DHCP)
        known = (*_KEYS, *EXTRA_KEYS)
        self.refuse_unknown((*known, "dhcp") if self.has("dhcp") else known)
        self._source = source

    def request(self) -> DeviceRequest:
        up = self.take("up", values.as_boolean)
        routes = tuple(
            _route(each, f"{self.where}.routes[{number}]", self.faults)
            for number, each in enumerate(self.take_list("routes", MOST_ROUTES))
        )
        if up is False and routes:
            self.fault(".routes", "cannot be set on a link that stays down (up is false)")
        request = DeviceRequest(
            selector=self._selector(),
            new_name=self.take("new_name", values.as_new_name),
            addresses=self._addresses(),
            mtu=self.take("mtu", values.between(*values.MTU)),
            mac=self.take("mac", values.as_mac),
            routes=routes,
            up=up is not False,
            keep_addresses=bool(self.take("keep_addresses", values.as_boolean)),
            extras=self._extras(),
            rdma=self.take("rdma", values.as_boolean),
            source=self._source,
            where=self.where,
            ethtool=self._ethtool(),
            vf=self._vf(),
            ebpf=self.take("ebpf", values.as_ebpf) or "",
        )
        if up is False and request.extras and request.extras.dad == "wait":
            self.fault(".dad", "cannot be waited for on a link that stays down (up is false)")
        return request

    def _extras(self) -> Extras | None:
        if not any(map(self.has, EXTRA_KEYS)):
            return None
        from cni_netdev.core.extras import parse_extras

        return parse_extras(self)

    def _ethtool(self) -> tuple[tuple[str, str], ...]:
        if not self.has("ethtool"):
            return ()
        from cni_netdev.core import tuning  # most devices ask for none

        return tuning.parse(self.nested("ethtool"))

    def _vf(self) -> tuple[tuple[str, str], ...]:
        if not self.has("vf"):
            return ()
        from cni_netdev.core import vf

        return vf.parse(self.nested("vf"))

    def _selector(self) -> Selector:
        given = [key for key in _SELECTORS if self.has(key)]
        if not self.readable:
            return Selector("name", "")
        if len(given) != 1:
            many = f"{' and '.join(given)} are given" if given else "none is given"
            self.fault("", f"exactly one of {', '.join(_SELECTORS)} must name the link; {many}")
            return Selector("name", "")
        convert = {
            "name": values.as_name,
            "hwaddr": values.as_hwaddr,
            "pci_address": values.as_pci,
            "kernel_path": values.as_path,
        }
        return Selector(given[0], self.take(given[0], convert[given[0]]) or "")

    def _addresses(self) -> tuple[str, ...]:
        found = []
        prefix = self.take("prefix", values.between(0, 128))
        if self.has("address"):
            found.append(self.take("address", lambda value: values.as_address(value, prefix)))
        elif self.has("prefix"):
            self.fault(".prefix", "belongs to an address, and there is none")
        for number, each in enumerate(self.take_list("addresses", MOST_ADDRESSES - len(found))):
            found.append(self.convert(f".addresses[{number}]", each, values.as_cidr))
        addresses = [each for each in found if each is not None]
        for each in dict.fromkeys(each for each in addresses if addresses.count(each) > 1):
            self.fault(".addresses", f"{each} is given more than once")
        return tuple(addresses)


def _route(value: object, where: str, faults: list[Fault]) -> RouteRequest:
    given = Object(value, where, faults)
    given.refuse_unknown(_ROUTE_KEYS)
    dst = given.take("dst", values.as_destination)
    if not given.has("dst"):
        given.fault(".dst", "is needed: a network as CIDR, or default")
    gw, src = given.take("gw", values.as_plain_address), given.take("src", values.as_plain_address)
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
        priority=given.take("priority", values.between(*values.U32)),
        table=given.take("table", values.between(1, values.U32[1])),
        scope=given.take("scope", values.as_scope),
        mtu=given.take("mtu", values.between(*values.MTU)),
        advmss=given.take("advmss", values.between(1, values.MTU[1])),
    )
