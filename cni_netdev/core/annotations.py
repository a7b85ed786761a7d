"""A pod's annotation to requests: tenants write it, so everything in it is limited.

JSON is tried first, since it needs no other library.  YAML's scalars are all read as text and
typed by ``devices``: YAML's own rules turn ``0000:03:00.0`` into 180.0 and a MAC into a number.
"""

from __future__ import annotations

from cni_netdev.core.devices import parse_devices
from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.quickjson import loads
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
_DEEPEST = 8


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
    return parse_devices(_decode(text, where), "annotation", where)


def _decode(text: str, where: str) -> object:
    try:
        if text.lstrip()[:1] in ("[", "{"):
            try:
                return loads(text, object_pairs_hook=_without_duplicates)
            except ValueError as error:
                from json import JSONDecodeError

                if not isinstance(error, JSONDecodeError):  # else it is YAML's flow style
                    raise _Refused(f"cannot be read: {shown(str(error))[1:-1]}") from None
        return _from_yaml(text)
    except RecursionError:
        raise RequestError((Fault(where, f"is nested deeper than {_DEEPEST} levels"),)) from None
    except _Refused as error:
        raise RequestError((Fault(where, str(error)),)) from None


class _Refused(Exception):
    """The text is no plain list; the message says why."""


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise _Refused(f"key {shown(key)} is given twice in one object")
        found[key] = value
    return found


def _from_yaml(text: str) -> object:
    import yaml

    loader = yaml.CBaseLoader if hasattr(yaml, "CBaseLoader") else yaml.BaseLoader
    try:
        # Looked at before composing: an alias could repeat without end, and the C parser recurses.
        _refuse_by_events(yaml, yaml.parse(text, Loader=loader))
        node = yaml.compose(text, Loader=loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        problem = getattr(error, "problem", None) or str(error)
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise _Refused(f"is neither JSON nor YAML: {shown(problem)[1:-1]}{line}") from None
    return None if node is None else _plain(yaml, node)


def _refuse_by_events(yaml: Any, events: Any) -> None:
    depth = documents = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refused("YAML anchors and aliases are not taken; write the value out")
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!":
            raise _Refused(f"YAML tag {shown(tag)} is not taken")
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if documents > 1:
            raise _Refused("has more than one YAML document")
        if depth > _DEEPEST:
            raise _Refused(f"is nested deeper than {_DEEPEST} levels")


def _plain(yaml: Any, node: Any) -> object:
    """Lists, objects and text; a plain empty scalar or null is None."""
    if isinstance(node, yaml.SequenceNode):
        return [_plain(yaml, each) for each in node.value]
    if isinstance(node, yaml.MappingNode):
        return _without_duplicates(
            [(_key(yaml, key), _plain(yaml, each)) for key, each in node.value]
        )
    quoted = node.style in ("'", '"', "|", ">")
    return None if not quoted and node.value in ("", "~", "null", "Null", "NULL") else node.value


def _key(yaml: Any, node: Any) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _Refused("a key must be plain text")
    return str(node.value)
