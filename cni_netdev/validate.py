"""Whether an annotation, a pod manifest or a conflist is right, without using it; pure."""

from __future__ import annotations

import json
from typing import Any

from cni_netdev.core.annotations import find_annotation, parse_annotation
from cni_netdev.core.devices import merge_requests, parse_devices
from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.policy import Policy, parse_policy
from cni_netdev.core.policyfile import decode, load
from cni_netdev.request import CniError, read_config

_TYPE = "cni-netdev"


def validate_text(text: str) -> tuple[str, tuple[Fault, ...]]:
    """What the text is (``annotation``, ``pod manifest``, ``conflist``, ``policy``), its faults."""
    documents = _decode(text)
    found = [(kind, faults) for each in documents for kind, faults in [_document(each)] if kind]
    if not found:
        return "annotation", _faults(lambda: parse_annotation(text))
    return found[0][0], tuple(fault for _, faults in found for fault in faults)


def policy_from(text: str) -> Policy:
    """The policy of a policy file or of a conflist's entry.  Raises RequestError."""
    document = decode(text, "policy")
    for entry in _entries(document):
        if entry.get("policyFile"):
            return load(str(entry["policyFile"]))
        return parse_policy(entry.get("policy") or {})
    return parse_policy(document)


def _decode(text: str) -> list[Any]:
    """Every document in the text; nothing when it cannot be read as JSON or YAML."""
    try:
        return [json.loads(text)]
    except ValueError:
        pass  # then it may be YAML
    import yaml

    try:
        return list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (yaml.YAMLError, ValueError):
        return []


def _document(document: Any) -> tuple[str, tuple[Fault, ...]]:
    if not isinstance(document, dict):
        return "", ()
    if "plugins" in document or "type" in document:
        entries = _entries(document)
        if not entries:
            return "conflist", (Fault("plugins", f"there is no entry of type {_TYPE}"),)
        return "conflist", tuple(fault for entry in entries for fault in _entry_faults(entry))
    if "kind" in document and "metadata" in document:
        return "pod manifest", _manifest_faults(document)
    if "rules" in document or "default" in document:
        return "policy", _faults(lambda: parse_policy(document))
    return "", ()


def _entries(document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, dict):
        return []
    plugins = document.get("plugins", [document])
    found = plugins if isinstance(plugins, list) else []
    return [each for each in found if isinstance(each, dict) and each.get("type") == _TYPE]


def _entry_faults(entry: dict[str, Any]) -> tuple[Fault, ...]:
    try:
        config = read_config(entry)
    except CniError as error:
        return (Fault("", error.message),)
    return (
        *_faults(lambda: merge_requests(parse_devices(config.devices, "config", "devices"))),
        *(_faults(lambda: parse_policy(config.policy)) if config.policy is not None else ()),
    )


def _manifest_faults(document: dict[str, Any]) -> tuple[Fault, ...]:
    """Of a pod, or of whatever has a pod's template."""
    holders = [("", document)]
    template = (document.get("spec") or {}).get("template")
    if isinstance(template, dict):
        holders.append(("spec.template.", template))
    faults: list[Fault] = []
    for path, holder in holders:
        annotations = (holder.get("metadata") or {}).get("annotations")
        found = find_annotation(annotations if isinstance(annotations, dict) else None)
        if found is not None:
            where = f"{path}metadata.annotations[{found[0]!r}]"
            faults += _faults(
                lambda text=found[1], at=where: merge_requests(parse_annotation(text, at))
            )
    return tuple(faults)


def _faults(parse: Any) -> tuple[Fault, ...]:
    try:
        parse()
    except RequestError as error:
        return error.faults
    return ()
