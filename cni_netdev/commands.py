"""The verbs of CNI over the engine.

Each takes a Request and a way to the engine, and returns the document to print or None.  A
success of DEL, CHECK, GC and STATUS prints nothing, as the spec says and the reference plugins
do.  The core is imported only when something has to be done: most pods ask for nothing.
"""

from __future__ import annotations

from cni_netdev import request as codes
from cni_netdev import result
from cni_netdev.request import ANNOTATIONS, CniError, Request

TYPE_CHECKING = False  # see request
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    from cni_netdev.core.engine import Attachment
    from cni_netdev.core.model import DeviceRequest
    from cni_netdev.core.policy import Pod, Policy
    from cni_netdev.core.ports import Key
    from cni_netdev.core.restore import Release
    from cni_netdev.leasing import Leasing

    class Engine(Protocol):
        """What the verbs need of core.engine.Injector."""

        def attach(
            self, owner: Any, netns_path: str, requests: Any, policy: Any, pod: Any, *, leases: Any
        ) -> Attachment: ...
        def detach(self, key: Key, leases: Any) -> Release | None: ...
        def has(self, key: Key) -> bool: ...
        def check(self, key: Key, netns_path: str, told: Any) -> tuple[str, ...]: ...
        def reap(
            self, *, front: str, network: str, valid: Any, leases: Any
        ) -> Iterator[Release]: ...
        def names(self, requests: Any) -> tuple[str, ...]: ...
        def leases(self, key: Key) -> tuple[str, tuple[str, ...]]: ...
        def leased(self, front: str, network: str) -> tuple[tuple[str, str, bool], ...]: ...
        def unreadable(self) -> tuple[str, ...]: ...
        def unrecorded(self, sandbox: str, netns_path: str, requests: Any) -> tuple[str, ...]: ...
        def find(self, request: Any) -> str: ...
        def probe(self) -> None: ...

    Engines = Callable[[str], Engine]
    Delegate = Callable[[Request], Leasing]
    Log = Callable[[str, str], None]


def run(request: Request, engines: Engines, delegate: Delegate, log: Log) -> dict[str, Any] | None:
    """Carry out one call.  engines: from a state directory to its engine.  log: (level, line).

    delegate: from a call to its IPAM plugin; only called if that is to be run, and then before
    anything is changed.
    Raises CniError, and whatever the core raises.
    """
    verbs = {"ADD": add, "DEL": delete, "CHECK": check, "GC": gc, "STATUS": status}
    return verbs[request.command](request, engines, delegate, log)


def add(request: Request, engines: Engines, delegate: Delegate, log: Log) -> dict[str, Any] | None:
    wanted = _requests(request) if request.asks_for_something else ()
    if not wanted:
        return result.passed_through(request.version, request.prev_result)
    if request.config.ipam:
        wanted = tuple(each._replace(ipam=_needs_address(each)) for each in wanted)
    attachment = engines(request.config.state_dir).attach(
        _owner(request),
        request.netns,
        wanted,
        _policy(request),
        _pod(request),
        leases=lambda: delegate(request),
    )
    names = [f"{each.home.link.name} as {each.expected.name}" for each in attachment.record.devices]
    log("info", f"ADD {_who(request)}: attached {', '.join(names) or 'nothing'}")
    for note in attachment.notes:
        log("warn", f"ADD {_who(request)}: {note}")
    first = _is_first_plugin(request)
    return result.with_devices(
        request.version,
        request.prev_result,
        attachment.record,
        request.netns,
        report_addresses=first or request.config.report_addresses,
    )


def delete(request: Request, engines: Engines, delegate: Delegate, log: Log) -> None:
    """Never blocks a pod: what cannot come home now is logged, kept on record and retried.

    But for an address that an IPAM plugin does not take back: only a runtime can retry that.
    """
    engine = engines(request.config.state_dir)
    names = _maybe_leased(request, engine)
    leasing = delegate(request) if names else None
    release = engine.detach(_key(request), lambda: delegate(request))
    if release is not None:
        _tell(f"DEL {_who(request)}", release, log)
    elif request.asks_for_something and request.netns:
        for note in _unrecorded(request, engine):
            log("warn", f"DEL {_who(request)}: {note}")
    if leasing is not None:
        _refuse_if_leased(leasing.release_by_name(names))
    elif release is not None and release.leases:
        _refuse_if_leased(release.notes)


def _maybe_leased(request: Request, engine: Engine) -> tuple[str, ...]:
    """Without a record that could say so: under which names an ADD may have had leases.

    As one before the last boot, which IPAM plugins' stores outlive.
    """
    if not request.config.ipam or not request.asks_for_something:
        return ()
    from cni_netdev.core.errors import NetdevError

    if engine.has(_key(request)) and _is_readable(request, engine):
        return ()
    try:
        wanted = _requests(request)
        return engine.names(tuple(each for each in wanted if _needs_address(each)))
    except NetdevError:
        return ()  # devices that have become invalid


def _is_readable(request: Request, engine: Engine) -> bool:
    from cni_netdev.core.errors import RecordUnreadable

    try:
        engine.leases(_key(request))
    except RecordUnreadable:
        return False
    return True


def _refuse_if_leased(troubles: tuple[str, ...]) -> None:
    if troubles:
        raise CniError(
            result.CODES["LeaseRefused"],
            f"an address is still leased: {'; '.join(troubles)}",
            "what could come home is home; the next DEL tries to give the address back again",
        )


def _unrecorded(request: Request, engine: Engine) -> tuple[str, ...]:
    from cni_netdev.core.errors import NetdevError

    try:
        return engine.unrecorded(request.container_id, request.netns, _requests(request))
    except NetdevError:
        return ()  # devices that have become invalid, a namespace that is gone


def check(request: Request, engines: Engines, delegate: Delegate, _log: Log) -> None:
    from cni_netdev.core.errors import DeviceNotFound, LeaseRefused

    engine = engines(request.config.state_dir)
    wanted = _requests(request) if request.asks_for_something else ()
    try:
        found = engine.check(_key(request), request.netns, _told(request))
    except DeviceNotFound as error:
        if not wanted:
            return  # nothing asked for, nothing on record
        raise CniError(codes.UNKNOWN_CONTAINER, error.message, error.details) from error
    if found:
        raise CniError(
            result.DIFFERS, "the pod's devices are not as they were attached", "; ".join(found)
        )
    ipam, names = engine.leases(_key(request))
    if names and (troubles := delegate(request).check(ipam, names)):
        raise LeaseRefused("; ".join(troubles))


def gc(request: Request, engines: Engines, delegate: Delegate, log: Log) -> None:
    from cni_netdev.core.errors import LeaseRefused

    engine = engines(request.config.state_dir)
    valid = _valid(request.valid_attachments)
    away: list[str] = []
    runs_ipam = request.config.ipam or engine.leased("cni", request.network)
    leasing = delegate(request) if runs_ipam else None
    for each in engine.unreadable():
        log("warn", f"GC: {each}")
    for release in engine.reap(front="cni", network=request.network, valid=valid, leases=leasing):
        _tell(f"GC {release.owner}", release, log)
        owner = release.owner
        invalid = valid is not None and (owner.sandbox, owner.ifname) not in valid
        away += release.notes if not release.complete or (invalid and release.leases) else ()
    if leasing is not None and request.config.ipam:
        stands = engine.leased("cni", request.network)
        try:
            leasing.collect((sandbox, name) for sandbox, name, in_use in stands if in_use)
        except LeaseRefused as error:
            away.append(error.message)
    if away:
        what = "not every device and address could be brought home"
        raise CniError(codes.TRY_AGAIN, what, "; ".join(away))


def status(request: Request, engines: Engines, delegate: Delegate, log: Log) -> None:
    from cni_netdev.core.devices import parse_devices
    from cni_netdev.core.errors import DeviceNotFound, LeaseRefused, StateError

    leasing = delegate(request) if request.config.ipam else None
    engine = engines(request.config.state_dir)
    wanted = parse_devices(request.config.devices, "config", "devices")
    _policy(request)
    try:
        engine.probe()
        for unreadable in engine.unreadable():
            log("warn", f"STATUS: {unreadable}")
        for each in wanted:
            engine.find(each)
        if leasing is not None:
            leasing.status()
    except (DeviceNotFound, LeaseRefused, StateError) as error:
        raise CniError(codes.UNAVAILABLE, error.message, error.details) from error


def _told(request: Request) -> dict[str, dict[str, Any]]:
    """What the final result says of each interface in the pod, ours included."""
    interfaces = (request.prev_result or {}).get("interfaces")
    return {
        each["name"]: each
        for each in (interfaces if isinstance(interfaces, list) else [])
        if isinstance(each, dict)
        and isinstance(each.get("name"), str)
        and each.get("sandbox") == request.netns
    }


# --- what is asked for, by whom ------------------------------------------------------------------


def _requests(request: Request) -> tuple[DeviceRequest, ...]:
    from cni_netdev.core.devices import merge_requests, name_in_pod, parse_devices
    from cni_netdev.core.errors import RequestError

    groups: list[tuple[DeviceRequest, ...]] = []
    faults: list[Any] = []

    def gather(parse: Callable[[], tuple[DeviceRequest, ...]]) -> None:
        try:
            groups.append(parse())
        except RequestError as error:
            faults.extend(error.faults)

    device = [{"pci_address": request.device_id}] if request.device_id else None
    gather(lambda: parse_devices(request.config.devices, "config", "devices"))
    gather(lambda: parse_devices(request.net_devices, "capability", "runtimeConfig.netDevices"))
    gather(lambda: parse_devices(device, "capability", "runtimeConfig.deviceID"))
    gather(lambda: _annotated(request.annotations))
    if faults:
        raise RequestError(tuple(faults))
    together = merge_requests(*groups)
    if _is_first_plugin(request) and len(together) == 1 and together[0].new_name is None:
        together = (together[0]._replace(new_name=name_in_pod(request.ifname, "CNI_IFNAME")),)
    return together


def _needs_address(device: DeviceRequest) -> bool:
    return not device.addresses and not device.keep_addresses


def _is_first_plugin(request: Request) -> bool:
    """DEL gets the final result even then: it is the only interface of that."""
    if request.prev_result is None:
        return True
    interfaces = request.prev_result.get("interfaces")
    only = interfaces[0] if isinstance(interfaces, list) and len(interfaces) == 1 else None
    told = only.get("name") if isinstance(only, dict) else None
    return request.command == "DEL" and told == request.ifname


def _annotated(annotations: Any) -> tuple[DeviceRequest, ...]:
    if not annotations:
        return ()
    from cni_netdev.core.annotations import find_annotation, parse_annotation

    found = find_annotation(annotations)
    if found is None:
        return ()
    return parse_annotation(found[1], f"runtimeConfig.{ANNOTATIONS}[{found[0]!r}]")


def _policy(request: Request) -> Policy:
    from cni_netdev.core.policy import Policy, parse_policy

    if request.config.policy_file:
        from cni_netdev.core.policyfile import load

        return load(request.config.policy_file)
    if request.config.policy is None:
        return Policy()
    return parse_policy(request.config.policy, "policy")


def _pod(request: Request) -> Pod:
    from cni_netdev.core.policy import Pod

    return Pod(
        request.args.get("K8S_POD_NAME") or None, request.args.get("K8S_POD_NAMESPACE") or None
    )


def _owner(request: Request) -> Any:
    from cni_netdev.core.model import Owner

    namespace, name = request.args.get("K8S_POD_NAMESPACE"), request.args.get("K8S_POD_NAME")
    pod = f"{namespace}/{name}" if namespace and name else ""
    return Owner("cni", request.network, request.container_id, request.ifname, pod)


def _key(request: Request) -> Key:
    return ("cni", request.container_id, request.ifname)


def _valid(attachments: Any) -> frozenset[tuple[str, str]] | None:
    """The list of what stands; None when there is none (Go writes a missing one as null)."""
    if attachments is None:
        return None
    if not isinstance(attachments, list):
        raise CniError(codes.CONFIG, "cni.dev/valid-attachments: must be a list")
    for number, each in enumerate(attachments):
        wanted = {"containerID", "ifname"}
        if not isinstance(each, dict) or not all(isinstance(each.get(key), str) for key in wanted):
            raise CniError(
                codes.CONFIG,
                f"cni.dev/valid-attachments[{number}]: must have containerID and ifname",
            )
    return frozenset((each["containerID"], each["ifname"]) for each in attachments)


def _who(request: Request) -> str:
    return f"{request.network} {request.container_id}/{request.ifname}"


def _tell(what: str, release: Release, log: Log) -> None:
    log("info", f"{what}: home again {', '.join(release.devices) or 'nothing'}")
    for note in release.notes:
        log("warn", f"{what}: {note}")
