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

    class Engine(Protocol):
        """What the verbs need of core.engine.Injector."""

        def attach(
            self, owner: Any, netns_path: str, requests: Any, policy: Any, pod: Any
        ) -> Attachment: ...
        def detach(self, key: Key) -> Release | None: ...
        def check(self, key: Key, netns_path: str, told: Any) -> tuple[str, ...]: ...
        def reap(self, *, front: str, network: str, valid: Any) -> Iterator[Release]: ...
        def unreadable(self) -> tuple[str, ...]: ...
        def unrecorded(self, sandbox: str, netns_path: str, requests: Any) -> tuple[str, ...]: ...
        def find(self, request: Any) -> str: ...
        def probe(self) -> None: ...

    Engines = Callable[[str], Engine]
    Log = Callable[[str, str], None]


def run(request: Request, engines: Engines, log: Log) -> dict[str, Any] | None:
    """Carry out one call.  engines: from a state directory to its engine.  log: (level, line).

    Raises CniError, and whatever the core raises.
    """
    verbs = {"ADD": add, "DEL": delete, "CHECK": check, "GC": gc, "STATUS": status}
    return verbs[request.command](request, engines, log)


def add(request: Request, engines: Engines, log: Log) -> dict[str, Any] | None:
    wanted = _requests(request) if request.asks_for_something else ()
    if not wanted:
        return result.passed_through(request.version, request.prev_result)
    attachment = engines(request.config.state_dir).attach(
        _owner(request), request.netns, wanted, _policy(request), _pod(request)
    )
    names = [f"{each.home.link.name} as {each.expected.name}" for each in attachment.record.devices]
    log("info", f"ADD {_who(request)}: attached {', '.join(names) or 'nothing'}")
    for note in attachment.notes:
        log("warn", f"ADD {_who(request)}: {note}")
    first = request.prev_result is None
    return result.with_devices(
        request.version,
        request.prev_result,
        attachment.record,
        request.netns,
        report_addresses=first or request.config.report_addresses,
    )


def delete(request: Request, engines: Engines, log: Log) -> None:
    """Never blocks a pod: what cannot come home now is logged, kept on record and retried."""
    engine = engines(request.config.state_dir)
    release = engine.detach(_key(request))
    if release is not None:
        _tell(f"DEL {_who(request)}", release, log)
    elif request.asks_for_something and request.netns:
        for note in _unrecorded(request, engine):
            log("warn", f"DEL {_who(request)}: {note}")


def _unrecorded(request: Request, engine: Engine) -> tuple[str, ...]:
    from cni_netdev.core.errors import NetdevError

    try:
        return engine.unrecorded(request.container_id, request.netns, _requests(request))
    except NetdevError:
        return ()  # devices that have become invalid, a namespace that is gone


def check(request: Request, engines: Engines, _log: Log) -> None:
    from cni_netdev.core.errors import DeviceNotFound

    wanted = _requests(request) if request.asks_for_something else ()
    try:
        found = engines(request.config.state_dir).check(
            _key(request), request.netns, _told(request)
        )
    except DeviceNotFound as error:
        if not wanted:
            return  # nothing asked for, nothing on record
        raise CniError(codes.UNKNOWN_CONTAINER, error.message, error.details) from error
    if found:
        raise CniError(
            result.DIFFERS, "the pod's devices are not as they were attached", "; ".join(found)
        )


def gc(request: Request, engines: Engines, log: Log) -> None:
    engine = engines(request.config.state_dir)
    valid = _valid(request.valid_attachments)
    away: list[str] = []
    for each in engine.unreadable():
        log("warn", f"GC: {each}")
    for release in engine.reap(front="cni", network=request.network, valid=valid):
        _tell(f"GC {release.owner}", release, log)
        away += () if release.complete else release.notes
    if away:
        raise CniError(codes.TRY_AGAIN, "not every device could be brought home", "; ".join(away))


def status(request: Request, engines: Engines, log: Log) -> None:
    from cni_netdev.core.devices import parse_devices
    from cni_netdev.core.errors import DeviceNotFound, StateError

    engine = engines(request.config.state_dir)
    wanted = parse_devices(request.config.devices, "config", "devices")
    _policy(request)
    try:
        engine.probe()
        for unreadable in engine.unreadable():
            log("warn", f"STATUS: {unreadable}")
        for each in wanted:
            engine.find(each)
    except (DeviceNotFound, StateError) as error:
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
    first_plugin = request.prev_result is None
    if first_plugin and len(together) == 1 and together[0].new_name is None:
        together = (together[0]._replace(new_name=name_in_pod(request.ifname, "CNI_IFNAME")),)
    return together


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
