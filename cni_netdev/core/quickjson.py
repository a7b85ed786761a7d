"""json.loads and json.dumps by their C halves alone.

Importing ``json`` imports ``re`` and that ``enum``: 5.6 ms of CPU on every pod's start, where an
empty Python takes 8.  What is not plainly right, or another Python has otherwise, is json's own to
deal with; tests/unit/test_quickjson.py holds both against each other.
"""

from __future__ import annotations

TYPE_CHECKING = False  # see lean; a pod that asks for nothing needs only this module
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ANOTHER_PYTHON = (ImportError, AttributeError, TypeError)


def loads(
    text: str | bytes,
    *,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
    parse_constant: Callable[[str], Any] | None = None,
) -> Any:
    """As json.loads.  Raises what that raises: ValueError, RecursionError and the hooks' own."""
    try:
        from _json import make_scanner

        plain = _utf8(text).strip(" \t\n\r")
        scan: Any = make_scanner
        value, end = scan(_Options(object_pairs_hook, parse_constant))(plain, 0)
        if end == len(plain):
            return value
    except (StopIteration, ValueError, SystemError, *_ANOTHER_PYTHON):
        pass  # json says what is wrong; without it Python 3.11's C half finds no class to raise
    import json

    return json.loads(text, object_pairs_hook=object_pairs_hook, parse_constant=parse_constant)


class _Options:
    """What the scanner asks of a json.JSONDecoder."""

    strict = True
    object_hook = None
    parse_float = float
    parse_int = int

    def __init__(self, pairs_hook: Any, constant: Any) -> None:
        self.object_pairs_hook = pairs_hook
        self.parse_constant = constant or float  # which reads NaN, Infinity and -Infinity


def _utf8(text: str | bytes) -> str:
    """Raises ValueError for what json.loads would take for UTF-16 or 32, or not at all."""
    if isinstance(text, str):
        return text
    if b"\0" in text[:4] or text[:1] >= b"\x80":
        raise ValueError("wide characters or a byte order mark")
    return text.decode("utf-8", "surrogatepass")


def dumps(value: Any) -> str:
    """As json.dumps.  Raises what that raises."""
    try:
        from _json import encode_basestring_ascii, make_encoder

        layout = (None, ": ", ", ", False, False, True)
        return "".join(make_encoder({}, _refuse, encode_basestring_ascii, *layout)(value, 0))
    except _ANOTHER_PYTHON:
        import json

        return json.dumps(value)


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is no JSON")
