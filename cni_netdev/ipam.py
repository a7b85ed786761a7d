"""What an IPAM plugin is told and what it says; pure, and loaded only where one is configured.

CNI spec 1.1.0, section 4 (delegation) and section 5 (what IPAM plugins return); which results there
are in which version follows libcni's types.  What a plugin returns is judged as what a user asks
for: the same limits, all faults at once.
"""

from __future__ import annotations

from cni_netdev.core import values
from cni_netdev.core.devices import MOST_ADDRESSES, MOST_ROUTES
from cni_netdev.core.errors import Fault, LeaseRefused
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import Granted, Lease, RouteRequest
from cni_netdev.core.objects import Object
from cni_netdev.core.quickjson import dumps, loads
from cni_netdev.request import SUPPORTED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_OLD = ("0.1.0", "0.2.0")  # one address of each family, each with its own routes
_LISTS = ("cni.dev/valid-attachments", "cni.dev/attachments")
_MOST_TOLD = 300  # characters of what is no JSON
_DEFAULT = ("0.0.0.0/0", "::/0")


def granted(stdout: bytes, ifname: str, version: str) -> Granted:
    """The result of an ADD.  version: the configuration's, for a result that states none.

    Raises LeaseRefused with everything that is wrong.
    """
    document = _object(stdout)
    version = document.get("cniVersion") or version
    if version not in (*_OLD, *SUPPORTED):
        raise LeaseRefused(f"its result is of version {values.shown(version)}, which nobody knows")
    faults: list[Fault] = []
    result = Object(_as_lists(document) if version in _OLD else document, "", faults)
    ips = [_ip(each, f"ips[{n}]", faults) for n, each in _entries(result, "ips", MOST_ADDRESSES)]
    gateways = tuple((address, gateway) for address, gateway in ips if gateway)
    routes = [
        _route(each, f"routes[{n}]", gateways, faults)
        for n, each in _entries(result, "routes", MOST_ROUTES)
    ]
    dns = document.get("dns") or {}
    if not isinstance(dns, dict):
        faults.append(Fault("dns", f"must be an object, not {values.shown(dns)}"))
    if not ips and not faults:
        faults.append(Fault("ips", "has no address"))
    if faults:
        raise LeaseRefused("its result: " + "; ".join(map(str, faults)))
    lease = Lease(ifname, gateways, dumps(dns) if dns else "")
    return Granted(lease, tuple(dict.fromkeys(each[0] for each in ips)), tuple(routes))


def _as_lists(document: dict[str, Any]) -> dict[str, Any]:
    """The result of an old version in the form of later ones."""
    ips, routes = [], []
    for key in ("ip4", "ip6"):
        part = document.get(key)
        if isinstance(part, dict):
            ips.append({"address": part.get("ip"), "gateway": part.get("gateway")})
            listed = part.get("routes")
            routes += listed if isinstance(listed, list) else [listed] if listed else []
        elif part is not None:
            ips.append(part)
    return {"ips": ips, "routes": routes}


def _entries(result: Object, key: str, most: int) -> list[tuple[int, object]]:
    return list(enumerate(result.take_list(key, most)))


def _ip(value: object, where: str, faults: list[Fault]) -> tuple[str, str]:
    """Address as CIDR, and its gateway or ""."""
    given = Object(value, where, faults)
    if given.readable and not given.has("address"):
        given.fault(".address", "is missing")
    address = given.take("address", values.as_cidr) or ""
    gateway = _plain(given, "gateway") or ""
    if address and gateway and (":" in address) != (":" in gateway):
        given.fault(".gateway", f"{gateway} is of another family than {address}")
    return address, gateway


def _route(
    value: object, where: str, gateways: tuple[tuple[str, str], ...], faults: list[Fault]
) -> RouteRequest:
    """Without a gateway of its own it goes by that of the first address of its family."""
    given = Object(value, where, faults)
    if given.readable and not given.has("dst"):
        given.fault(".dst", "is missing")
    dst = given.take("dst", values.as_destination) or ""
    if dst == "default":
        dst = _DEFAULT[0]
    of_family = (gw for address, gw in gateways if (":" in address) == (":" in dst))
    return RouteRequest(
        dst=dst,
        gw=_plain(given, "gw") or next(of_family, None),
        priority=_number(given, "priority", values.U32),
        table=_number(given, "table", values.U32),
        scope=_number(given, "scope", (0, 255)),
        mtu=_number(given, "mtu", values.MTU),
        advmss=_number(given, "advmss", (1, values.MTU[1])),
    )


def _plain(given: Object, key: str) -> str | None:
    """An address; Go writes a missing one as an empty text, too."""
    found: str | None = given.take(key, lambda value: value and values.as_plain_address(value))
    return found or None


def _number(given: Object, key: str, limits: tuple[int, int]) -> int | None:
    """None for 0 too, which is how Go writes that there is none; of a scope it is the usual one."""
    found: int | None = given.take(key, lambda value: value and values.between(*limits)(value))
    return found or None


def _object(stdout: bytes) -> dict[str, Any]:
    try:
        document = loads(stdout)
    except (ValueError, RecursionError):
        raise LeaseRefused(f"its answer is no JSON: {_shown(stdout)}") from None
    if not isinstance(document, dict):
        raise LeaseRefused(f"its answer is no JSON object: {_shown(stdout)}")
    return document


def failure(stdout: bytes, status: int) -> tuple[int, str]:
    """Of a plugin that failed: its CNI code, 0 without one, and what it says in one sentence."""
    try:
        document = loads(stdout)
        code, message = document["code"], document["msg"]
    except (ValueError, RecursionError, LookupError, TypeError):
        code, message = 0, _shown(stdout)
    if not isinstance(code, int) or not isinstance(message, str):
        code, message = 0, _shown(stdout)
    if not message:
        return 0, f"ended with {_ending(status)} and said nothing; stderr may have more"
    details = document.get("details") if code else ""
    return code, f"{message}; {details}" if details and isinstance(details, str) else message


def _ending(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"


def _shown(stdout: bytes) -> str:
    text = stdout[: _MOST_TOLD + 1].decode(errors="replace").strip()
    return text if len(text) <= _MOST_TOLD else f"{text[:_MOST_TOLD]}..."


# --- what it is told -------------------------------------------------------------------------


def configuration(stdin: bytes, ipam: str) -> bytes:
    """Ours as we got it; with another ``ipam`` in it where that is not the one of ``ipam``."""
    conf, wanted = loads(stdin), loads(ipam)
    return stdin if conf.get("ipam") == wanted else dumps({**conf, "ipam": wanted}).encode()


def with_valid(stdin: bytes, more: Iterable[tuple[str, str]]) -> bytes:
    """GC's configuration, with our devices' own names among what still stands.

    The runtime's list names attachments by CNI_IFNAME.  A plugin that keeps leases by (container
    id, CNI_IFNAME) would take those of our devices for nobody's.  No list stays no list.
    more: (container id, name).
    """
    conf = loads(stdin)
    own = [{"containerID": container, "ifname": name} for container, name in more]
    listed = {key: conf[key] for key in _LISTS if isinstance(conf.get(key), list)}
    if not own or not listed:
        return stdin
    longer = {
        key: [*value, *(each for each in own if each not in value)] for key, value in listed.items()
    }
    return dumps({**conf, **longer}).encode()
