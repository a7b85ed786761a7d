"""From a request to its link on the host, and whether that may go.

Looking a link up by name, altname, PCI address or path costs the same on a host of any size; only
``hwaddr`` has to look at every link.
"""

from __future__ import annotations

from cni_netdev.core import policy as rules
from cni_netdev.core.errors import DeviceNotFound, Fault, PolicyRefused, RequestError
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import Snapshot

if TYPE_CHECKING:
    from cni_netdev.core.model import DeviceRequest, Link, Selector, Source
    from cni_netdev.core.policy import Pod, Policy, Verdict
    from cni_netdev.core.ports import Netns


def resolve(host: Netns, request: DeviceRequest) -> Link:
    """The one link on the host that the request names.  Raises DeviceNotFound."""
    kind, value = request.selector
    names: tuple[str, ...]
    if kind == "name":
        names = (value,)
    elif kind == "hwaddr":
        names = tuple(each.name for each in host.links() if value in _macs(each))
    elif kind == "pci_address":
        names = host.by_bus(value)
    else:
        names = host.by_kernel_path(value)
    if len(names) > 1:
        raise DeviceNotFound(
            f"{request.where}: {request.selector} is more than one link: {', '.join(names)}",
            "select it by name",
        )
    link = host.link(name=names[0]) if names else None
    if link is None and kind == "pci_address":
        link = host.user_space(value)
    if link is None:
        raise DeviceNotFound(
            f"{request.where}: no link on the host has {request.selector}", _hint(host, kind, value)
        )
    return link


def _hint(host: Netns, kind: str, value: str) -> str:
    if kind == "pci_address":
        driver = host.driver_of_bus(value)
        if driver is not None:
            return f"the device is there, bound to driver {driver!r}, which makes no link"
    return "see `netdevctl devices` for what could be lent"


def selects(selector: Selector, link: Link) -> bool:
    """Whether the selector would have found this link when it was still on the host."""
    if selector.kind == "name":
        return selector.value in link.names
    if selector.kind == "hwaddr":
        return selector.value in _macs(link)
    if selector.kind == "pci_address":
        return selector.value == link.identity.bus
    parts = selector.value.split("/")
    return link.name in parts or link.identity.bus in parts


def _macs(link: Link) -> tuple[str | None, str | None]:
    return (link.settings.mac, link.identity.perm_mac)


def refuse_same_link_twice(requests: tuple[DeviceRequest, ...], links: tuple[Link, ...]) -> None:
    """Raises RequestError with every request whose link another one names already."""
    first: dict[int, DeviceRequest] = {}  # by inode
    faults = []
    for request, link in zip(requests, links, strict=True):
        earlier = first.setdefault(link.identity.inode, request)
        if earlier is not request:
            faults.append(Fault(request.where, f"is the same link as {earlier.where}: {link.name}"))
    if faults:
        raise RequestError(tuple(faults))


def admit_all(
    requests: tuple[DeviceRequest, ...],
    snapshots: tuple[Snapshot, ...],
    policy: Policy,
    pod: Pod,
) -> None:
    """Raises PolicyRefused, which names every link that may not go and why."""
    refused = []
    for request, snapshot in zip(requests, snapshots, strict=True):
        verdict = rules.admit(
            snapshot,
            request.source,
            pod,
            policy,
            overheard=not snapshot.quiet,
            privileges=request.privileges,
        )
        refused += _refusal(request, snapshot.link, verdict)
    if refused:
        raise PolicyRefused("; ".join(refused))


def admit_away(request: DeviceRequest, snapshot: Snapshot, policy: Policy, pod: Pod) -> None:
    """The same for a link that is in its pod already, where what others need of it is not told."""
    refused = _refusal(request, snapshot.link, rules.admit(snapshot, request.source, pod, policy))
    if refused:
        raise PolicyRefused(*refused)


def _refusal(request: DeviceRequest, link: Link, verdict: Verdict) -> list[str]:
    if verdict.allowed:
        return []
    return [f"{request.where}: link {link.name} stays on the host: {verdict.reason}"]


def look(
    host: Netns,
    link: Link,
    source: Source,
    pod: Pod,
    policy: Policy,
    privileges: tuple[str, ...] = (),
) -> Verdict:
    """Whether the link may go, beforehand: what `netdevctl` shows."""
    ifindex = link.identity.ifindex
    if not ifindex:
        return rules.admit(Snapshot(link), source, pod, policy, privileges=privileges)
    seen = Snapshot(
        link,
        routes=host.routes(ifindex),
        qdiscs=host.qdiscs(ifindex),
        forwarding=host.forwarding(ifindex),
    )
    overheard = host.overheard(link)
    return rules.admit(seen, source, pod, policy, overheard=overheard, privileges=privileges)
