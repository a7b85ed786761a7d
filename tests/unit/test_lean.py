"""Held against the standard library: what we use of it does the same."""

from __future__ import annotations

import contextlib
import typing
from collections import namedtuple
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.core import lean, model, steps

if TYPE_CHECKING:
    from collections.abc import Iterator

BOTH = pytest.mark.parametrize("library", [contextlib, lean])


# --- context managers ------------------------------------------------------------------------


@BOTH
def test_a_generator_is_left_whatever_happens_inside(library: Any) -> None:
    told: list[str] = []

    @library.contextmanager  # type: ignore[untyped-decorator]
    def managed(name: str) -> Iterator[str]:
        try:
            yield name
        finally:
            told.append(name)

    with managed("fine") as name:
        assert name == "fine"
    with pytest.raises(KeyError), managed("bad"):
        raise KeyError
    for _ in range(2):
        with managed("left early"):
            break
    assert told == ["fine", "bad", "left early"]


@BOTH
def test_a_generator_stands_around_each_call(library: Any) -> None:
    told: list[str] = []

    @library.contextmanager  # type: ignore[untyped-decorator]
    def around(name: str) -> Iterator[None]:
        try:
            yield
        except KeyError:
            told.append(f"{name} swallowed")
        else:
            told.append(name)

    @around("a")  # type: ignore[untyped-decorator]
    def work(number: int, *, fails: bool = False) -> int:
        """What it does."""
        if fails:
            raise KeyError
        return number

    assert (work(1), work(2, fails=True), work(3)) == (1, None, 3)
    assert told == ["a", "a swallowed", "a"]
    assert (work.__name__, work.__doc__) == ("work", "What it does.")


@BOTH
def test_a_generator_may_swallow_or_change_an_error(library: Any) -> None:
    @library.contextmanager  # type: ignore[untyped-decorator]
    def swallowing() -> Iterator[None]:
        try:
            yield
        except KeyError:
            return
        except IndexError as error:
            raise ValueError("changed") from error

    with swallowing():
        raise KeyError
    with pytest.raises(ValueError, match="changed"), swallowing():
        raise IndexError
    with pytest.raises(OSError, match="other"), swallowing():
        raise OSError("other")


@BOTH
def test_only_what_is_named_is_suppressed(library: Any) -> None:
    with library.suppress(OSError, KeyError):
        raise FileNotFoundError
    with pytest.raises(IndexError), library.suppress(OSError):
        raise IndexError
    with library.suppress(OSError):
        pass


class Guard:
    def __init__(self, told: list[str], name: str, *, swallows: bool = False) -> None:
        self.told, self.name, self.swallows = told, name, swallows

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self.told.append(f"{self.name} {kind.__name__ if kind else 'well'}")
        return self.swallows


def fail() -> None:
    raise ValueError("on the way out")


@BOTH
def test_a_stack_is_left_from_its_top(library: Any) -> None:
    told: list[str] = []
    with library.ExitStack() as stack:
        assert stack.enter_context(Guard(told, "a")) == "a"
        stack.callback(told.append, "called")
        stack.enter_context(Guard(told, "b"))
    assert told == ["b well", "called", "a well"]


@BOTH
def test_a_stack_is_left_whole_whatever_fails(library: Any) -> None:
    told: list[str] = []
    stack = library.ExitStack()
    stack.enter_context(Guard(told, "a"))
    stack.callback(fail)
    with pytest.raises(ValueError, match="on the way out"), stack, Guard(told, "b"):
        raise KeyError
    assert told == ["b KeyError", "a ValueError"]


@BOTH
def test_a_stack_may_swallow_an_error(library: Any) -> None:
    told: list[str] = []
    with library.ExitStack() as stack:
        stack.enter_context(Guard(told, "outer"))
        stack.enter_context(Guard(told, "inner", swallows=True))
        raise KeyError
    assert told == ["inner KeyError", "outer well"]
    stack = library.ExitStack()
    stack.enter_context(Guard(told, "last"))
    with pytest.raises(KeyError), stack:
        raise KeyError


@BOTH
def test_a_stack_can_be_called_off(library: Any) -> None:
    told: list[str] = []
    with library.ExitStack() as stack:
        stack.callback(lambda: told.append("undone"))
        stack.pop_all()
    assert told == []


# --- NamedTuple ------------------------------------------------------------------------------


class Ours(lean.NamedTuple):
    """One."""

    name: str
    number: int = 7
    parts: tuple[str, ...] = ()

    @property
    def double(self) -> int:
        return self.number * 2

    def __str__(self) -> str:
        return f"<{self.name}>"


class Theirs(typing.NamedTuple):
    """One."""

    name: str
    number: int = 7
    parts: tuple[str, ...] = ()

    @property
    def double(self) -> int:
        return self.number * 2

    def __str__(self) -> str:
        return f"<{self.name}>"


def outcome(function: Any) -> Any:
    try:
        return tuple(function())
    except AttributeError:
        return AttributeError
    except (TypeError, ValueError):
        return TypeError  # Python 3.13 has made one of them the other


@pytest.mark.parametrize(
    "use",
    [
        lambda made: made("a"),
        lambda made: made("a", 1, ("b",)),
        lambda made: made("a", parts=("b",)),
        lambda made: made(name="a", number=1),
        lambda made: made(),
        lambda made: made("a", 1, (), 4),
        lambda made: made("a", name="b"),
        lambda made: made("a", nobody=1),
        lambda made: made(number=1),
        lambda made: made("a")._replace(number=2),
        lambda made: made("a")._replace(nobody=2),
        lambda made: made("a")._asdict().items(),
        lambda made: setattr(made("a"), "name", "b"),
        lambda made: setattr(made("a"), "other", "b"),
        lambda made: (made("a").double, str(made("a")), made.__doc__),
        lambda made: (made._fields, made._field_defaults, made.__match_args__),
        lambda made: (made("a") == ("a", 7, ()), hash(made("a")) == hash(("a", 7, ()))),
        lambda made: (made("a") < made("b"), made("a") != made("b")),
        lambda made: [repr(made("a")).partition("(")[2]],
        lambda made: [isinstance(made("a")._replace(number=2), made)],
        lambda made: made.__annotations__,
    ],
)
def test_a_named_tuple_is_like_typings(use: Any) -> None:
    assert outcome(lambda: use(Ours)) == outcome(lambda: use(Theirs))


def test_a_named_tuple_matches_by_position() -> None:
    match Ours("a", 1):
        case Ours(name, 1, parts):
            assert (name, parts) == ("a", ())
        case _:
            raise AssertionError


@pytest.mark.parametrize(
    "made",
    [
        each
        for module in (model, steps)
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == module.__name__
    ],
)
def test_the_cores_own_have_the_fields_that_typing_would_give_them(made: Any) -> None:
    fields = list(made.__annotations__)
    twin = namedtuple(made.__name__, fields)  # type: ignore[misc]  # noqa: PYI024
    assert made._fields == twin._fields
    example = made(*range(len(fields)))
    assert [getattr(example, each) for each in fields] == list(range(len(fields)))
    assert repr(example) == repr(twin(*range(len(fields))))
    assert list(made._field_defaults) == fields[len(fields) - len(made._field_defaults) :]
