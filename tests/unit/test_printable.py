from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ü and 链路", "plain, ü and 链路"),
        ("a\nb\r\t\0", r"a\nb\r\t\x00"),
        ("\x1b[31m\x7f\x9b", r"\x1b[31m\x7f\x9b"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\u2028\u2029\xa0", r"\u2028\u2029\xa0"),
        ("\ud800\udcff", r"\ud800\udcff"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_it_is_one_line_that_can_be_encoded(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text).encode().decode() == printable(text)
    assert printable(printable(text)) == printable(text)
