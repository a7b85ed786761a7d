"""The policy in a file that an operator names: a policy, a conflist, our entry of one, or the NRI
plugin's configuration.  What is wrong with the rest of such a file is `netdevctl validate`'s and
the NRI plugin's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cni_netdev.core.decoding import decode
from cni_netdev.core.devices import merge_requests, parse_devices
from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.policy import Policy, parse_policy
from cni_netdev.core.policyfile import load

if TYPE_CHECKING:
    from cni_netdev.core.model import DeviceRequest

TYPE = "cni-netdev"
_CONFIGURATION = ("policy", "policyFile", "stateDir", "log", "metrics", "adopt")


class PolicySource(NamedTuple):
    """front: which front end reads such a file; None for a policy, which both may.

    devices: those that the file itself has every pod given.
    """

    policy: Policy
    devices: tuple[DeviceRequest, ...] = ()
    front: Literal["cni", "nri"] | None = None


def read_policy(text: str, name: str) -> PolicySource:
    """name: of the file.  Raises RequestError with every fault, also of a policyFile."""
    document = decode(text, name)
    if not isinstance(document, dict):
        return PolicySource(parse_policy(document))
    if "plugins" in document or "type" in document:
        entry = _entry(document)
        devices = parse_devices(entry.get("devices"), "config", "devices")
        return PolicySource(_of(entry), merge_requests(devices), "cni")
    if document.keys() & set(_CONFIGURATION):
        return PolicySource(_of(document), (), "nri")
    return PolicySource(parse_policy(document))


def entries(document: Any) -> list[dict[str, Any]]:
    """Ours among a conflist's, or the one that the document is itself."""
    if not isinstance(document, dict):
        return []
    plugins = document.get("plugins", [document])
    found = plugins if isinstance(plugins, list) else []
    return [each for each in found if isinstance(each, dict) and each.get("type") == TYPE]


def no_entry() -> Fault:
    return Fault("plugins", f"there is no entry of type {TYPE}")


def _entry(document: dict[str, Any]) -> dict[str, Any]:
    found = entries(document)
    if not found:
        raise RequestError((no_entry(),))
    return found[0]


def _of(holder: dict[str, Any]) -> Policy:
    path, inline = holder.get("policyFile"), holder.get("policy")
    if path is not None:
        return load(str(path))
    return Policy() if inline is None else parse_policy(inline)
