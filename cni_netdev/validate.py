"""Whether an annotation, a pod manifest or a conflist is right, without using it; pure."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cni_netdev.core.annotations import parse_annotation
from cni_netdev.core.decoding import decode
from cni_netdev.core.devices import merge_requests, parse_devices
from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.policy import parse_policy
from cni_netdev.manifests import documents, is_manifest, pods_in, requests_of
from cni_netdev.policysource import entries, no_entry
from cni_netdev.request import FIELDS, CniError, read_config

if TYPE_CHECKING:
    from collections.abc import Callable


def validate_text(text: str) -> tuple[str, tuple[Fault, ...]]:
    """What the text is (``annotation``, ``pod manifest``, ``conflist``, ``policy``), its faults."""
    together = documents(text)
    found = [
        (kind, _in_document(number, faults) if len(together) > 1 else faults)
        for number, each in enumerate(together)
        for kind, faults in [_document(each, text)]
        if kind
    ]
    if not found:
        return "annotation", _faults(lambda: parse_annotation(text))
    return found[0][0], tuple(fault for _, faults in found for fault in faults)


def _in_document(number: int, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    where = f"document {number + 1}"
    return tuple(
        Fault(f"{where}: {fault.path}" if fault.path else where, fault.message) for fault in faults
    )


def _document(document: Any, text: str) -> tuple[str, tuple[Fault, ...]]:
    if not isinstance(document, dict):
        return "", ()
    if "plugins" in document or "type" in document:
        ours = entries(document)
        if not ours:
            return "conflist", (no_entry(),)
        return "conflist", tuple(fault for entry in ours for fault in _entry_faults(entry))
    if is_manifest(document):
        return "pod manifest", _manifest_faults(document)
    if "rules" in document or "default" in document:
        return "policy", _faults(lambda: parse_policy(decode(text, "")))
    return "", ()


def _entry_faults(entry: dict[str, Any]) -> tuple[Fault, ...]:
    devices, policy = entry.get("devices"), entry.get("policy")
    return (
        *_field_faults(entry),
        *_faults(lambda: merge_requests(parse_devices(devices, "config", "devices"))),
        *(_faults(lambda: parse_policy(policy)) if policy is not None else ()),
    )


def _field_faults(entry: dict[str, Any]) -> list[Fault]:
    """Of each field by itself: to a runtime the first fault of all is told."""
    faults = []
    for keys in (*((key,) for key in FIELDS), ("policy", "policyFile")):
        part = {key: entry[key] for key in keys if key in entry}
        try:
            read_config(part)
        except CniError as error:
            faults.append(Fault("", error.message))
    return faults


def _manifest_faults(document: dict[str, Any]) -> tuple[Fault, ...]:
    try:
        pods = pods_in(document)
    except RequestError as error:
        return error.faults
    return tuple(fault for pod in pods for fault in _faults(partial(requests_of, pod)))


def _faults(parse: Callable[[], object]) -> tuple[Fault, ...]:
    try:
        parse()
    except RequestError as error:
        return error.faults
    return ()
