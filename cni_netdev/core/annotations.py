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
    from collections.abc import Iterable, Iterator, Mapping
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
    from cni_netdev.core._yaml import Unreadable, parse

    try:
        events = parse(text)
    except Unreadable as error:
        raise _Refused(f"is neither JSON nor YAML: {shown(str(error))[1:-1]}") from None
    _refuse_by_events(events)
    rest = iter(events)
    for event in rest:
        if _kind(event) == "DocumentStart":
            return _value(next(rest), rest)
    return None


def _kind(event: Any) -> str:
    return type(event).__name__.removesuffix("Event")


def _refuse_by_events(events: Iterable[Any]) -> None:
    depth = documents = 0
    for event in events:
        if getattr(event, "anchor", None):  # an alias has one too
            raise _Refused("YAML anchors and aliases are not taken; write the value out")
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!":
            raise _Refused(f"YAML tag {shown(tag)} is not taken")
        documents += _kind(event) == "DocumentStart"
        depth += _kind(event) in ("SequenceStart", "MappingStart")
        depth -= _kind(event) in ("SequenceEnd", "MappingEnd")
        if documents > 1:
            raise _Refused("has more than one YAML document")
        if depth > _DEEPEST:
            raise _Refused(f"is nested deeper than {_DEEPEST} levels")


def _value(event: Any, rest: Iterator[Any]) -> object:
    """A list, an object or text; a plain empty scalar or null is None."""
    match _kind(event):
        case "SequenceStart":
            return [_value(each, rest) for each in _until("SequenceEnd", rest)]
        case "MappingStart":
            keys = _until("MappingEnd", rest)
            return _without_duplicates([(_key(key), _value(next(rest), rest)) for key in keys])
    quoted = event.style in ("'", '"', "|", ">")
    return None if not quoted and event.value in ("", "~", "null", "Null", "NULL") else event.value


def _until(end: str, events: Iterator[Any]) -> Iterator[Any]:
    for event in events:
        if _kind(event) == end:
            return
        yield event


def _key(event: Any) -> str:
    if _kind(event) != "Scalar":
        raise _Refused("a key must be plain text")
    return str(event.value)
