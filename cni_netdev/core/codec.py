"""A record as versioned JSON and back; pure.

    {"version": 1, "record": {"owner": {...}, "devices": [...], ...}}

Objects carry the model's field names, so that `jq` tells what a record says.  A field that a
later version adds gets a default in the model and is then missing from older texts; anything else
that does not fit raises RecordUnreadable, never a record that is half right.
"""

from __future__ import annotations

from cni_netdev.core import model
from cni_netdev.core.errors import RecordUnreadable
from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple
from cni_netdev.core.quickjson import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

VERSION = 1


class _Shape(NamedTuple):
    """How to read one class: a converter for each field that is more than text or number."""

    made: Any
    plain: dict[str, tuple[type, ...]]
    nested: dict[str, Callable[[Any], Any]]


def encode(record: model.Record) -> str:
    """The record's text, on one line: with an indent json would not use its C encoder."""
    return dumps({"version": VERSION, "record": _object(record)}) + "\n"


def decode(text: str) -> model.Record:
    """The record of a text.  Raises RecordUnreadable with what is wrong."""
    try:
        document = loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordUnreadable(f"the record is no JSON: {error}") from None
    if not isinstance(document, dict) or "version" not in document:
        raise RecordUnreadable("the record is not one of ours: it has no version")
    if document["version"] != VERSION:
        raise RecordUnreadable(
            f"the record has version {document['version']!r}, this plugin reads {VERSION}",
            "use the plugin that wrote it to bring its devices home",
        )
    try:
        record: model.Record = _RECORD(document.get("record"))
    except (TypeError, ValueError, KeyError) as error:
        raise RecordUnreadable(f"the record does not fit: {error}") from None
    return record


def _object(value: Any) -> Any:
    """Tuples of anything but the model's classes are written as lists without a look into them."""
    if hasattr(value, "_fields"):
        pairs = zip(value._fields, value, strict=True)
        return {key: _object(each) for key, each in pairs}
    if isinstance(value, tuple) and value and hasattr(value[0], "_fields"):
        return [_object(each) for each in value]
    return value


# --- reading ---------------------------------------------------------------------------------


def _shape(made: Any, **nested: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A reader of ``made``; fields without a reader of their own are text or numbers."""
    plain = {
        key: _plain_types(annotation)
        for key, annotation in made.__annotations__.items()
        if key not in nested
    }
    shape = _Shape(made, plain, nested)
    return lambda value: _read(shape, value)


def _plain_types(annotation: str) -> tuple[type, ...]:
    """From the text of an annotation as the model writes them: ``str | None``, ``Literal``."""
    if annotation == "int":
        return (int,)
    if annotation == "bool":
        return (bool,)
    if annotation == "bool | None":
        return (bool, type(None))
    if annotation == "int | None":
        return (int, type(None))
    if annotation == "str | None":
        return (str, type(None))
    return (str,)


def _read(shape: _Shape, value: Any) -> Any:
    name = shape.made.__name__
    if not isinstance(value, dict):
        raise TypeError(f"{name} is no object")
    unknown = value.keys() - shape.made.__annotations__.keys()
    if unknown:
        raise ValueError(f"{name} has unknown {', '.join(sorted(unknown))}")
    given = {}
    for key, types in shape.plain.items():
        if key in value:
            if type(value[key]) not in types:
                raise TypeError(f"{name}.{key} is {value[key]!r}")
            given[key] = value[key]
    for key, convert in shape.nested.items():
        if key in value:
            given[key] = convert(value[key])
    return shape.made(**given)


def _list(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is no list")
        return tuple(convert(each) for each in value)

    return read


def _optional(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else convert(value)


def _pair(second: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, list) or [type(each) for each in value] != [str, second]:
            raise TypeError(f"{value!r} is no pair of text and {second.__name__}")
        return tuple(value)

    return read


def _one_of(*allowed: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if value not in allowed or not isinstance(value, str):
            raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
        return value

    return read


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


_NUMBERS, _TEXTS = _list(_pair(int)), _list(_pair(str))
_NEIGHBOURS = _list(_shape(model.Neighbour))
_EXTRAS = _shape(
    model.Extras,
    sizes=_NUMBERS,
    altnames=_list(_text),
    neighbours=_NEIGHBOURS,
    rules=_list(_shape(model.Rule)),
    sysctls=_TEXTS,
    vrf=_optional(_shape(model.Vrf)),
)
_SELECTOR = _shape(model.Selector, kind=_one_of("name", "hwaddr", "pci_address", "kernel_path"))
_REQUEST = _shape(
    model.DeviceRequest,
    selector=_SELECTOR,
    addresses=_list(_text),
    routes=_list(_shape(model.RouteRequest)),
    extras=_optional(_EXTRAS),
    source=_one_of("config", "capability", "annotation"),
    ethtool=_TEXTS,
    vf=_TEXTS,
)
_SETTINGS = _shape(model.LinkSettings, sizes=_NUMBERS)
_ROUTE = _shape(model.Route, metrics=_NUMBERS, nexthops=_list(_shape(model.NextHop)))
_ADDRESSES, _ROUTES = _list(_shape(model.Address)), _list(_ROUTE)
_LINK = _shape(
    model.Link,
    identity=_shape(model.Identity),
    settings=_SETTINGS,
    altnames=_list(_text),
    xdp=_NUMBERS,
    uppers=_list(_text),
    phy=_optional(_shape(model.Phy, mates=_list(_text))),
)
_SNAPSHOT = _shape(
    model.Snapshot,
    link=_LINK,
    addresses=_ADDRESSES,
    routes=_ROUTES,
    neighbours=_NEIGHBOURS,
    sysctls=_TEXTS,
    ethtool=_TEXTS,
    rdma=_list(_shape(model.Rdma)),
    tcx=_NUMBERS,
    qdiscs=_list(_shape(model.Qdisc)),
    forwarding=_optional(_list(_shape(model.Forwarding, attributes=_TEXTS))),
    filters=_optional(_list(_shape(model.Filter))),
    vf=_optional(_shape(model.VirtualFunction, settings=_TEXTS)),
)
_LENT = _shape(
    model.Lent,
    request=_REQUEST,
    home=_SNAPSHOT,
    expected=_SETTINGS,
    addresses=_ADDRESSES,
    routes=_ROUTES,
)
_RECORD = _shape(
    model.Record,
    owner=_shape(model.Owner, front=_one_of("cni", "nri")),
    netns=_shape(model.NetnsRef),
    devices=_list(_LENT),
    leases=_list(_shape(model.Lease, gateways=_TEXTS)),
)
