"""Names of the standard library for what ADD and DEL go through, without what they drag in.

A plugin starts for every pod, and an empty Python has run for 8 ms by then.  On top of that, in ms
of CPU: ``re`` 3.8 (with ``enum``), ``typing`` 2.8, ``contextlib`` 2.8 (with ``collections`` and
``functools``), ``socket`` 2.7, and 0.2 for each NamedTuple that ``typing`` makes.  So these modules
take the names from here, and from ``_socket``, the C half of ``socket``.  Type checkers see the
standard library's own; tests/unit/test_lean.py holds both to the same contract.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the name is what checkers go by
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack, contextmanager, suppress
    from typing import Any, NamedTuple, Self

__all__ = ["TYPE_CHECKING", "ExitStack", "NamedTuple", "contextmanager", "suppress"]


# --- contextlib ------------------------------------------------------------------------------


class _Generator:
    """A generator with one yield, as a context manager or around each call of a function."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._generator = make()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def around(*given: Any, **named: Any) -> Any:
            with _Generator(self._make):
                return function(*given, **named)

        around.__name__, around.__doc__ = function.__name__, function.__doc__
        return around

    def __enter__(self) -> Any:
        return next(self._generator)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if error is None:
            next(self._generator, None)
            return False
        try:
            self._generator.throw(error)
        except StopIteration:
            return True
        except BaseException as raised:
            if raised is not error:
                raise
        return False


def _contextmanager(function: Callable[..., Iterator[Any]]) -> Callable[..., _Generator]:
    return lambda *given, **named: _Generator(lambda: function(*given, **named))


class _Suppress:
    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: object) -> bool:
        return kind is not None and issubclass(kind, self._kinds)


class _ExitStack:
    """Of contextlib's, what is used here."""

    def __init__(self) -> None:
        self._exits: list[Callable[..., Any]] = []

    def enter_context(self, manager: Any) -> Any:
        entered = manager.__enter__()
        self._exits.append(manager.__exit__)
        return entered

    def callback(self, function: Callable[..., object], *given: Any) -> None:
        self._exits.append(lambda *_: function(*given) and None)

    def pop_all(self) -> None:
        self._exits = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, trace: object) -> bool:
        now = error
        while self._exits:
            try:
                if self._exits.pop()(now and type(now), now, trace):
                    now = None
            except BaseException as raised:  # noqa: BLE001 - the other exits come first
                now = raised
        if now is not None and now is not error:
            raise now
        return now is None


# --- typing.NamedTuple -----------------------------------------------------------------------


class _Tuple(tuple[object, ...]):
    """What all of them share; ``_fields`` and ``_field_defaults`` are each class's own."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _field_defaults: dict[str, object] = {}  # noqa: RUF012 - as typing has it

    def __new__(cls, *given: Any, **named: Any) -> Any:
        fields = cls._fields
        if not named and len(given) == len(fields):
            return tuple.__new__(cls, given)
        values = {**cls._field_defaults, **dict(zip(fields, given, strict=False)), **named}
        fits = len(given) <= len(fields) and not named.keys() & set(fields[: len(given)])
        if not fits or values.keys() != set(fields):
            raise TypeError(f"{cls.__name__} has {', '.join(fields)}")
        return tuple.__new__(cls, map(values.__getitem__, fields))

    def _replace(self, **changes: Any) -> Any:
        values = {**self._asdict(), **changes}
        if len(values) != len(self):
            raise ValueError(f"{type(self).__name__} has {', '.join(self._fields)}")
        return tuple.__new__(type(self), values.values())

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def __repr__(self) -> str:
        pairs = ", ".join(f"{key}={value!r}" for key, value in self._asdict().items())
        return f"{type(self).__name__}({pairs})"


class _Fields(type):
    """Makes the classes, and builds and compiles no source text for the ``__new__`` of each."""

    def __new__(cls, name: str, _bases: tuple[type, ...], space: dict[str, Any]) -> Any:
        from _collections import _tuplegetter  # type: ignore[import-not-found]

        fields = tuple(space.get("__annotations__", ()))
        space["_field_defaults"] = {each: space.pop(each) for each in fields if each in space}
        space["_fields"] = space["__match_args__"] = fields
        space["__slots__"] = ()
        space.update((each, _tuplegetter(at, None)) for at, each in enumerate(fields))
        return type(name, (_Tuple,), space)


if not TYPE_CHECKING:
    ExitStack, contextmanager, suppress = _ExitStack, _contextmanager, _Suppress
    NamedTuple = type.__new__(_Fields, "NamedTuple", (), {})
