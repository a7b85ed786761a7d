"""A pod's annotation to requests: tenants write it, so everything in it is limited."""

from __future__ import annotations

from cni_netdev.core.decoding import decode
from cni_netdev.core.devices import parse_devices
from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.values import shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cni_netdev.core.model import DeviceRequest

# The first that is present wins; the order of the Go injector, then what its README writes.
KEYS = (
    "netdevice.noderesource.dev/pod",
    "netdevices.nri.containerd.io/pod",
    "netdevice.noderesource.dev",
    "netdevices.nri.containerd.io",
    "netdevices.noderesource.dev/pod",
    "netdevices.noderesource.dev",
)
MOST_BYTES = 64 * 1024


def find_annotation(annotations: Mapping[str, Any] | None) -> tuple[str, Any] | None:
    """(key, text) of the first of our keys; None when the pod has none of them."""
    for key in KEYS:
        if annotations and key in annotations:
            return key, annotations[key]
    return None


def parse_annotation(text: str, where: str = "") -> tuple[DeviceRequest, ...]:
    """The devices that the text asks for; none when it is empty or null.

    where: put before every path in a message.  Raises RequestError with all faults.
    """
    if not isinstance(text, str):
        raise RequestError((Fault(where, f"the annotation must be text, not {shown(text)}"),))
    size = len(text.encode(errors="surrogatepass"))
    if size > MOST_BYTES:
        raise RequestError((Fault(where, f"{size} bytes are more than {MOST_BYTES}"),))
    return parse_devices(decode(text, where), "annotation", where)
