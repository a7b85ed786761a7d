"""Held against json itself: the same values, the same text, the same errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cni_netdev.core import quickjson

ROOT = Path(__file__).parent.parent.parent
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
texts = st.text('{}[]",:\\ \n\t0123456789.-+eEntrufalsINy\x00\ufeffé', max_size=12)


def outcome(function: Any, *given: Any, **named: Any) -> Any:
    try:
        return repr(function(*given, **named))
    except Exception as error:  # noqa: BLE001 - what it is, is compared
        return type(error), str(error)


@given(values)
def test_values_come_out_as_json_writes_them_and_back(value: Any) -> None:
    text = quickjson.dumps(value)
    assert text == json.dumps(value)
    assert quickjson.loads(text) == value
    assert quickjson.loads(f" {text}\n".encode()) == value


@given(texts)
@example("[NaN, Infinity, -Infinity]")
@example('{"a": 1} x')
@example("  ")
def test_any_text_is_read_or_refused_as_by_json(text: str) -> None:
    assert outcome(quickjson.loads, text) == outcome(json.loads, text)


@given(
    st.binary(max_size=12) | texts.map(str.encode) | texts.map(lambda text: text.encode("utf-16"))
)
@example(b"")
@example("[1]".encode("utf-16-be"))
@example('"\ud800"'.encode(errors="surrogatepass"))
def test_any_bytes_are_read_or_refused_as_by_json(data: bytes) -> None:
    assert outcome(quickjson.loads, data) == outcome(json.loads, data)


@given(texts)
@example("- a: b")
def test_what_is_no_json_is_told_from_what_is(text: str) -> None:
    found = outcome(quickjson.parse, text)
    expected = outcome(json.loads, text)
    refused = isinstance(expected, tuple) and expected[0] is json.JSONDecodeError
    assert found == ((quickjson.NotJson, "") if refused else expected)


def test_hooks_are_asked_and_their_errors_come_through() -> None:
    def refuse(what: Any) -> Any:
        raise LookupError(what)

    for named in ({"object_pairs_hook": list}, {"object_pairs_hook": refuse}):
        assert outcome(quickjson.loads, '{"a": 1}', **named) == outcome(
            json.loads, '{"a": 1}', **named
        )
    constant = outcome(quickjson.loads, "[NaN]", parse_constant=refuse)
    assert constant == outcome(json.loads, "[NaN]", parse_constant=refuse)


def test_depth_is_limited_as_by_json() -> None:
    deep = "[" * 100_000
    assert outcome(quickjson.loads, deep)[0] is outcome(json.loads, deep)[0] is RecursionError


@pytest.mark.parametrize("value", [{1: 2, None: 3}, (1, (2,)), 10**30, [{}], {"a": {1}}, b"x"])
def test_what_is_not_plain_is_written_or_refused_as_by_json(value: Any) -> None:
    assert outcome(quickjson.dumps, value)[:1] == outcome(json.dumps, value)[:1]


def run(script: str) -> str:
    """In a Python that has not loaded json."""
    start = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from cni_netdev.core.quickjson import dumps, loads\n"
    )
    command = [sys.executable, "-IS", "-c", start + script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_json_is_not_loaded_for_it() -> None:
    out = run(
        "from cni_netdev.core.quickjson import NotJson, parse\n"
        "loads(dumps({'a': [1, 2.5, None]}).encode())\n"
        "try: parse('- a')\nexcept NotJson: print('json' in sys.modules)"
    )
    assert out == "False\n"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1", '{"a"', '{"a":', '"a', '"\\x"', '"\n"', "[1,]", "{1}", "1 2", "tru", "-"],
)
def test_the_first_fault_is_told_as_by_json(text: str) -> None:
    """In a process of its own: the C half raises json's class, and json is not loaded yet."""
    out = run(
        f"try: loads({text!r})\n"
        "except ValueError as error: print((type(error).__name__, str(error)))"
    )
    with pytest.raises(json.JSONDecodeError) as raised:
        json.loads(text)
    assert out == f"{('JSONDecodeError', str(raised.value))}\n"


@pytest.mark.parametrize("missing", ["make_scanner", "make_encoder"])
def test_another_python_without_these_halves(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(f"_json.{missing}")
    assert quickjson.loads(quickjson.dumps({"a": [1]})) == {"a": [1]}
    assert quickjson.parse("[1]") == [1]
    with pytest.raises(quickjson.NotJson):
        quickjson.parse("- a")


def test_another_python_whose_scanner_asks_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("_json.make_scanner", lambda options: options.array_hook)
    assert quickjson.loads("[1]") == [1]
