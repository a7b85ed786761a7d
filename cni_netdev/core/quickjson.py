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

    PairsHook = Callable[[list[tuple[str, Any]]], Any] | None

_ANOTHER_PYTHON = (ImportError, AttributeError, TypeError)


class NotJson(Exception):
    """The text is no JSON; what is wrong was not asked."""


def loads(
    text: str | bytes,
    *,
    object_pairs_hook: PairsHook = None,
    parse_constant: Callable[[str], Any] | None = None,
) -> Any:
    """As json.loads.  Raises what that raises: ValueError, RecursionError and the hooks' own."""
    try:
        return _scanned(_utf8(text), object_pairs_hook, parse_constant)
    except (NotJson, ValueError, *_ANOTHER_PYTHON):
        import json

        return json.loads(text, object_pairs_hook=object_pairs_hook, parse_constant=parse_constant)


def parse(text: str, object_pairs_hook: PairsHook = None) -> Any:
    """As json.loads, for text that may be something else.

    Raises NotJson, which costs nothing; and what json.loads raises besides its JSONDecodeError.
    """
    try:
        return _scanned(text, object_pairs_hook, None)
    except _ANOTHER_PYTHON:
        import json

        try:
            return json.loads(text, object_pairs_hook=object_pairs_hook)
        except json.JSONDecodeError:
            raise NotJson from None


def _scanned(text: str, pairs_hook: PairsHook, constant: Any) -> Any:
    from _json import make_scanner

    plain, scan = text.strip(" \t\n\r"), make_scanner
    try:
        value, end = scan(_Options(pairs_hook, constant))(plain, 0)  # type: ignore[arg-type]
    except (StopIteration, SystemError):
        raise NotJson from None  # SystemError: Python 3.11's has no class to raise without json
    except ValueError as error:
        if type(error).__name__ == "JSONDecodeError":
            raise NotJson from None
        raise
    if end != len(plain):
        raise NotJson
    return value


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
