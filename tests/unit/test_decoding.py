"""Text to plain values: what is refused, and that nothing else can happen."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core.decoding import DEEPEST, decode
from cni_netdev.core.errors import RequestError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=5,
)


def complaint(text: str) -> str:
    try:
        decode(text, "here")
    except RequestError as error:
        return error.message
    return ""


def refusal(text: str) -> str:
    with pytest.raises(RequestError) as caught:
        decode(text, "here")
    (fault,) = caught.value.faults
    assert fault.path == "here"
    assert fault.message.isprintable()
    return fault.message


@given(PLAIN)
def test_json_keeps_its_types(value: Any) -> None:
    assert decode(json.dumps(value), "") == value


def test_yaml_is_text() -> None:
    text = "a: 0000:03:00.0\nb: 1_000\nc: yes\nd: 2001-01-01\ne: [1e3, ~, '~']\n"
    assert decode(text, "") == {
        "a": "0000:03:00.0",
        "b": "1_000",
        "c": "yes",
        "d": "2001-01-01",
        "e": ["1e3", None, "~"],
    }


@pytest.mark.parametrize("text", ["", " \n", "# nothing\n", "null", "~", "---\n"])
def test_nothing(text: str) -> None:
    assert decode(text, "") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x 1\n", "anchors and aliases are not taken"),
        ("a: *x\n", "anchors and aliases are not taken"),
        ("!!python/object/apply:os.system [id]", "YAML tag 'tag:yaml.org,2002:python/object/"),
        ("!!python/name:os.system", "is not taken"),
        ("!!set {a}", "YAML tag 'tag:yaml.org,2002:set' is not taken"),
        ("!!binary aGk=", "is not taken"),
        ("!<x> a", "YAML tag 'x' is not taken"),
        ("a: 1\n---\nb: 2\n", "more than one YAML document"),
        ("a: 1\na: 2\n", "key 'a' is given twice"),
        ("a: {b: 1, 'b': 2}\n", "key 'b' is given twice"),
        ('{"a": 1, "\\u0061": 2}', "key 'a' is given twice"),
        ('{"\\u001b\\n": 1, "\\u001b\\n": 2}', r"key '\x1b\n' is given twice"),
        ("? [a]\n: b\n", "a key must be plain text"),
        ("[", "is neither JSON nor YAML"),
        ("a: b: c", "in line 1"),
        ("a: \0", "is neither JSON nor YAML"),
        ('"\ud800', "is neither JSON nor YAML"),
        ("9" * 5000, "cannot be read"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    assert said in refusal(text)


@pytest.mark.parametrize("begin", ["[", '{"a":', "- ", "{a: "])
@pytest.mark.parametrize("inner", ["", "1", "[]"])
def test_depth(begin: str, inner: str) -> None:
    end = {"[": "]", "-": "", "{": "}"}[begin[0]]
    levels = DEEPEST - inner.count("[")
    assert decode(begin * levels + inner + end * levels, "")
    for many in (levels + 1, 50, 900, 100_000):
        assert f"nested deeper than {DEEPEST} levels" in refusal(begin * many + inner + end * many)


def test_a_bomb_of_aliases_never_grows() -> None:
    lines = ["a0: &a0 [lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "anchors and aliases" in refusal("\n".join(lines))


@given(st.text() | st.text("-[]{}:,&*! \n'\"#|>%?ab01~<", max_size=40))
def test_only_the_documented_error(text: str) -> None:
    assert complaint(text).isprintable()
