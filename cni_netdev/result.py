"""CNI results and errors in the shape of each spec version; pure.

0.3.0 to 0.4.0: ips with "version", dns always.  1.0.0: no ips.version.  1.1.0: interfaces with
mtu, socketPath and pciID, routes with mtu, advmss, priority, table and scope.
"""

from __future__ import annotations

from cni_netdev import request as codes
from cni_netdev.core.quickjson import loads

TYPE_CHECKING = False  # see request
if TYPE_CHECKING:
    from typing import Any

    from cni_netdev.core.model import Lent, Record, Route

_WITH_IP_VERSION = ("0.3.0", "0.3.1", "0.4.0")
_NEW_INTERFACE_KEYS = frozenset(("mtu", "socketPath", "pciID"))
_NEW_ROUTE_KEYS = frozenset(("mtu", "advmss", "priority", "table", "scope"))
_DEFAULTS = {"priority": 0, "table": 254, "scope": 0}

# The one table from the core's errors to CNI's codes, by class name so that none is imported.
CODES = {
    "RequestError": codes.CONFIG,
    "NetnsError": codes.NETNS,
    "LeaseRefused": 107,
    "LockTimeout": codes.TRY_AGAIN,
    "LinkChanged": codes.TRY_AGAIN,
    "OutOfTime": codes.TRY_AGAIN,
    "StateError": codes.IO,
    "RecordUnreadable": codes.IO,
    "DeviceNotFound": 101,
    "PolicyRefused": 102,
    "DeviceHeld": 103,
    "CannotApply": 104,
    "KernelRefused": 105,
    "NetdevError": codes.IO,  # what has no class of its own is the system's trouble
}
DIFFERS = 106


def error_document(version: str, code: int, message: str, details: str = "") -> dict[str, Any]:
    """The error that a runtime reads (spec, section 5, Error) and logs: one line of it each."""
    from cni_netdev.core.printable import printable

    document = {"cniVersion": version, "code": code, "msg": printable(message)}
    return {**document, "details": printable(details)} if details else document


def code_of(error: BaseException) -> int:
    """The code for an exception; 999 for what nobody foresaw."""
    for kind in type(error).__mro__:
        if kind.__name__ in CODES:
            return CODES[kind.__name__]
    return codes.INTERNAL


def passed_through(version: str, prev_result: dict[str, Any] | None) -> dict[str, Any]:
    """prevResult in this version, or its empty result."""
    return convert(prev_result or {"cniVersion": version}, version)


def convert(result: dict[str, Any], version: str) -> dict[str, Any]:
    """A result of any supported version in another; keys that no version knows are kept."""
    converted = {**result, "cniVersion": version}
    for key, change in (("ips", _ip), ("interfaces", _interface), ("routes", _route)):
        if isinstance(converted.get(key), list):
            converted[key] = [
                change(each, version) if isinstance(each, dict) else each for each in converted[key]
            ]
    if version in _WITH_IP_VERSION:
        converted.setdefault("dns", {})
    return converted


def _ip(entry: dict[str, Any], version: str) -> dict[str, Any]:
    if version not in _WITH_IP_VERSION:
        return {key: value for key, value in entry.items() if key != "version"}
    family = "6" if ":" in str(entry.get("address", "")) else "4"
    return {"version": family, **entry}


def _interface(entry: dict[str, Any], version: str) -> dict[str, Any]:
    return entry if version == codes.NEWEST else _without(entry, _NEW_INTERFACE_KEYS)


def _route(entry: dict[str, Any], version: str) -> dict[str, Any]:
    return entry if version == codes.NEWEST else _without(entry, _NEW_ROUTE_KEYS)


def _without(entry: dict[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in keys}


def with_devices(
    version: str,
    prev_result: dict[str, Any] | None,
    record: Record,
    sandbox: str,
    *,
    report_addresses: bool,
) -> dict[str, Any]:
    """prevResult and the record's devices behind it; interface indices before stay valid.

    sandbox: CNI_NETNS.  report_addresses: whether their addresses and routes are in ips and routes.
    """
    before = prev_result or {}
    interfaces = list(before.get("interfaces") or [])
    ips, routes = list(before.get("ips") or []), list(before.get("routes") or [])
    gateways = {each.ifname: dict(each.gateways) for each in record.leases}
    for lent in record.devices:
        if report_addresses:
            of = gateways.get(lent.expected.name, {})
            ips += [_reported_ip(each.cidr, lent, len(interfaces), of) for each in lent.addresses]
            routes += [_reported_route(each) for each in lent.routes]
        interfaces.append(_reported_interface(lent, sandbox))
    listed = {"interfaces": interfaces, "ips": ips, "routes": routes}
    together = {**before, **{key: values for key, values in listed.items() if values}}
    if report_addresses and not before.get("dns"):
        together.update(_leased_dns(record))
    return convert(together, version)


def _leased_dns(record: Record) -> dict[str, Any]:
    """The first that came with a lease."""
    first = next((each.dns for each in record.leases if each.dns), "")
    return {"dns": loads(first)} if first else {}


def _reported_interface(lent: Lent, sandbox: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": lent.expected.name, "sandbox": sandbox}
    if lent.expected.mac:
        entry["mac"] = lent.expected.mac
    if lent.expected.mtu:
        entry["mtu"] = lent.expected.mtu
    if lent.home.link.identity.bus:
        entry["pciID"] = lent.home.link.identity.bus
    return entry


def _reported_ip(cidr: str, lent: Lent, interface: int, gateways: dict[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"address": cidr, "interface": interface}
    gateway = gateways.get(cidr) or _default_gateway(lent, ":" in cidr)
    return {**entry, "gateway": gateway} if gateway else entry


def _default_gateway(lent: Lent, ipv6: bool) -> str | None:
    default = "::/0" if ipv6 else "0.0.0.0/0"
    main = (each for each in lent.routes if each.table == _DEFAULTS["table"])
    return next((each.gateway for each in main if each.dst == default), None)


def _reported_route(route: Route) -> dict[str, Any]:
    entry: dict[str, Any] = {"dst": route.dst}
    if route.gateway:
        entry["gw"] = route.gateway
    for key, default in _DEFAULTS.items():
        value = getattr(route, key)
        if value != default:
            entry[key] = value
    entry.update((key, value) for key, value in route.metrics if key in _NEW_ROUTE_KEYS)
    return entry
