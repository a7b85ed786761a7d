"""Kubernetes manifests: the pods in a file, as an operator would apply it; pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_netdev.core.annotations import find_annotation, parse_annotation
from cni_netdev.core.devices import merge_requests
from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.values import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_netdev.core.model import DeviceRequest

_DEEPEST = 64


class PodManifest(NamedTuple):
    """A pod, or the template of one.

    path: of its metadata in the document, as ``spec.template.metadata``.
    namespace: None when the manifest leaves it to whoever applies it.
    annotations: as decoded, whether that is right or not.
    """

    path: str
    name: str
    namespace: str | None
    labels: tuple[tuple[str, str], ...]
    annotations: dict[str, Any]


def documents(text: str) -> list[Any]:
    """Every JSON or YAML document in a text; nothing when it cannot be read as such.

    YAML's aliases are followed, since people write them; so whoever walks through a document
    goes by known keys only.
    """
    try:
        return [json.loads(text)]
    except RecursionError:
        return []
    except ValueError:
        pass  # then it may be YAML
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if _is_deep(yaml, text):
            return []
        return list(yaml.load_all(text, Loader=loader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return []


def is_manifest(document: Any) -> bool:
    if not isinstance(document, dict) or "kind" not in document:
        return False
    return "metadata" in document or isinstance(document.get("items"), list)


def pods_in(document: dict[str, Any]) -> tuple[PodManifest, ...]:
    """The pod that a manifest is, or those that it has templates of; of a list, each one's.

    Raises RequestError for names and labels that are no text.
    """
    faults: list[Fault] = []
    pods = []
    for at, each in _manifests(document):
        for path, holder in _holders(each):
            try:
                pods.append(_pod(holder, f"{at}{path}", _object(each, "metadata")))
            except RequestError as error:
                faults += error.faults
    if faults:
        raise RequestError(tuple(faults))
    return tuple(pods)


def requests_of(pod: PodManifest) -> tuple[DeviceRequest, ...]:
    """What its annotation asks for; nothing when it has none.  Raises RequestError."""
    found = find_annotation(pod.annotations)
    if found is None:
        return ()
    where = f"{pod.path}.annotations[{found[0]!r}]"
    return merge_requests(parse_annotation(found[1], where))


def _is_deep(yaml: Any, text: str) -> bool:
    """The C library's composer recurses without a limit."""
    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            return True
    return False


def _manifests(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, manifest) of what is in a list (``kind: List``), which is in no other; or itself."""
    items = document.get("items")
    if not isinstance(items, list):
        yield "", document
        return
    for number, each in enumerate(items):
        if isinstance(each, dict):
            yield f"items[{number}].", each


def _holders(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, object) of whatever has a pod's metadata: itself, its template, that of its jobs."""
    job = _object(_object(document, "spec"), "jobTemplate")
    templates = (
        ("spec.template.", _object(document, "spec").get("template")),
        ("spec.jobTemplate.spec.template.", _object(job, "spec").get("template")),
    )
    found = [(path, each) for path, each in templates if isinstance(each, dict)]
    return iter(found or [("", document)])


def _pod(holder: dict[str, Any], path: str, outer: dict[str, Any]) -> PodManifest:
    metadata = _object(holder, "metadata")
    where = f"{path}metadata"
    name = metadata.get("name", outer.get("name")) or ""
    namespace = metadata.get("namespace", outer.get("namespace"))
    labels = {str(key): value for key, value in _object(metadata, "labels").items()}
    texts = {"name": name, "namespace": namespace or "", **_below("labels", labels)}
    faults = [
        Fault(f"{where}.{key}", f"must be text, not {shown(value)}")
        for key, value in texts.items()
        if not isinstance(value, str)
    ]
    if faults:
        raise RequestError(tuple(faults))
    annotations = _object(metadata, "annotations")
    return PodManifest(where, name, namespace or None, tuple(sorted(labels.items())), annotations)


def _below(key: str, value: dict[str, Any]) -> dict[str, Any]:
    return {f"{key}.{shown(each)[1:-1]}": found for each, found in value.items()}


def _object(value: dict[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}
