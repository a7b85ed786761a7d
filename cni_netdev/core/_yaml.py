"""PyYAML's C parser, without the rest of PyYAML.

``import yaml`` loads all of it, with re, datetime and base64: 19 ms of CPU on the start of every
pod whose annotation is in YAML, for a parser that loads in 2.6.  So while that is loaded bare
stand-ins take the place of the package and of those modules of which the C half wants only an
error's class; afterwards they are taken away, and ``import yaml`` elsewhere gets the real thing.
A release in which this does not work is loaded in full; ``tests/unit/test__yaml.py`` notices.
"""

from __future__ import annotations

import sys

from cni_netdev.core.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType
    from typing import Any
else:
    ModuleType = type(sys)

_loaded: list[Callable[[str], Iterable[Any]]] = []


class Unreadable(Exception):
    """The text is no YAML; the message says what is wrong, and in which line."""


def parse(text: str) -> Iterator[Any]:
    """The text's events one by one, as yaml.parse has them.  Raises Unreadable."""
    if not _loaded:
        _loaded.append(_load())
    try:
        yield from _loaded[0](text)
    except (sys.modules["yaml.error"].YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise Unreadable(f"{getattr(error, 'problem', None) or error}{line}") from None


def _load() -> Callable[[str], Iterable[Any]]:
    if "yaml" not in sys.modules:
        try:
            parser = _c_parser()
        except (ImportError, AttributeError, TypeError):
            pass  # no C half, or another release
        else:
            return lambda text: iter(parser(text).get_event, None)
    import yaml

    return lambda text: yaml.parse(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))


def _c_parser() -> Any:
    sys.modules["yaml"] = _Package("yaml")
    try:
        for name in ("error", "events", "nodes", "tokens"):
            __import__(f"yaml.{name}")
        from yaml._yaml import CParser
    finally:
        del sys.modules["yaml"]
    return CParser


# --- stand-ins -------------------------------------------------------------------------------


class _Package(ModuleType):
    """The search path; modules that were not imported have errors only."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        found = [finder.find_spec(name, None) for finder in sys.meta_path]
        self.__path__ = [
            place for spec in found if spec for place in spec.submodule_search_locations or ()
        ]

    def __getattr__(self, name: str) -> ModuleType:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Errors(f"yaml.{name}")


class _Errors(ModuleType):
    """Has any class of an error, with what PyYAML's own tell."""

    def __getattr__(self, name: str) -> Any:
        if not name.endswith("Error"):
            raise AttributeError(name)
        from yaml.error import MarkedYAMLError

        return _reader_error() if name == "ReaderError" else type(name, (MarkedYAMLError,), {})


def _reader_error() -> Any:
    from yaml.error import YAMLError

    class ReaderError(YAMLError):
        def __init__(self, _name: str, position: int, character: int, _: str, reason: str) -> None:
            super().__init__(
                f"unacceptable character #x{character:04x}: {reason} at position {position}"
            )

    return ReaderError
