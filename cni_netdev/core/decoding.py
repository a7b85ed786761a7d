"""Text that others write, JSON or YAML, to plain values: lists, objects, text, None.

No YAML tag makes an object, no alias repeats a part, no key is given twice, nothing is nested
deeper than a request, policy or configuration can be.  JSON is tried first, since it needs no other
library, and keeps its numbers and booleans.  YAML's scalars are all read as text, to be typed by
whoever knows what they mean: YAML's own rules turn ``0000:03:00.0`` into 180.0 and a MAC into a
number.
"""

from __future__ import annotations

import json
from typing import Any

from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.values import shown

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
        value = json.loads(text, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError:
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
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
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
        if depth > DEEPEST:
            raise RecursionError


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
