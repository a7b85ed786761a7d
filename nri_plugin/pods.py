"""What a pod asks for, and who it is to the injection core; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_netdev.core.annotations import find_annotation, parse_annotation
from cni_netdev.core.devices import merge_requests
from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.model import Owner
from cni_netdev.core.policy import Pod

if TYPE_CHECKING:
    from cni_netdev.core.model import DeviceRequest
    from cni_netdev.core.ports import Key
    from nri_plugin.messages import PodSandbox


def requests(pod: PodSandbox) -> tuple[DeviceRequest, ...]:
    """The devices of its annotation; none for most pods.  Raises RequestError with all faults."""
    found = find_annotation(pod.annotations)
    if found is None:
        return ()
    key, text = found
    return merge_requests(parse_annotation(text, f"annotations[{key!r}]"))


def refuse_host_network(pod: PodSandbox) -> None:
    """Raises RequestError for a pod that is being started without a network namespace."""
    if not pod.netns:
        found = find_annotation(pod.annotations)
        where = f"annotations[{found[0]!r}]" if found else "pod"
        fault = (
            "asks for devices, but the pod uses the host's network, where it sees every link "
            "already: leave out hostNetwork or the annotation"
        )
        raise RequestError((Fault(where, fault),))


def owner(pod: PodSandbox) -> Owner:
    return Owner("nri", "", pod.id, "", f"{pod.namespace}/{pod.name}" if pod.name else "")


def key(pod: PodSandbox) -> Key:
    return ("nri", pod.id, "")


def for_policy(pod: PodSandbox) -> Pod:
    return Pod(pod.name or None, pod.namespace or None, tuple(sorted(pod.labels.items())))
