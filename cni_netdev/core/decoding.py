"""Text that others write, JSON or YAML, to plain values: lists, objects, text, None.

No YAML tag makes an object, no alias repeats a part, no key is given twice, nothing is nested
deeper than a request, policy or configuration can be.  JSON is tried first, since it needs no other
library, and keeps its numbers and booleans.  YAML's scalars are all read as text, to be typed by
whoever knows what they mean: YAML's own rules turn ``0000:03:00.0`` into 180.0 and a MAC into a
number.
"""

from __future__ import annotations

from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.quickjson import NotJson, parse
from cni_netdev.core.values import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

DEEPEST = 8


def decode(text: str, where: str) -> object:
    """The value of a text; None when it is empty or null.

    where: put before every message.  Raises RequestError.
    """
    try:
        return _decode(text)
    except RecursionError:
        fault = Fault(where, f"is nested deeper than {DEEPEST} levels")
    except _Refused as error:
        fault = Fault(where, str(error))
    raise RequestError((fault,))


class _Refused(Exception):
    """The text is no plain value; the message says why."""


def _decode(text: str) -> object:
    try:
        value = parse(text, _without_duplicates)
    except NotJson:
        return _from_yaml(text)  # whose flow style looks like JSON
    except ValueError as error:
        raise _Refused(f"cannot be read: {shown(str(error))[1:-1]}") from None
    _refuse_deep(value)
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise _Refused(f"key {shown(key)} is given twice in one object")
        found[key] = value
    return found


def _refuse_deep(value: object) -> None:
    level = _collections((value,))
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in _collections(each)]
    if level:
        raise RecursionError


def _collections(values: Any) -> list[Any]:
    each_of = values.values() if isinstance(values, dict) else values
    return [each for each in each_of if isinstance(each, dict | list)]


def _from_yaml(text: str) -> object:
    from cni_netdev.core import _yaml

    try:
        events = list(_plain(_yaml.parse(text)))
    except _yaml.Unreadable as error:
        raise _Refused(f"is neither JSON nor YAML: {shown(str(error))[1:-1]}") from None
    rest = iter(events)
    for event in rest:
        if _kind(event) == "DocumentStart":
            return _value(next(rest), rest)
    return None


def _kind(event: Any) -> str:
    return type(event).__name__.removesuffix("Event")


def _plain(events: Iterable[Any]) -> Iterator[Any]:
    """The same events, as long as they make nothing but plain values."""
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
        if depth > DEEPEST:
            raise RecursionError
        yield event


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
