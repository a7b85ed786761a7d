"""What shim and agent say to each other: whole, byte by byte, with more behind it, and garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev import wire
from cni_netdev.wire import Answer, Incoming, Refused, Request, refusal

ENVIRON = b"CNI_COMMAND=ADD\0CNI_ARGS=A=1;B=\xff\0"
STDIN = b'{"cniVersion": "1.1.0"}\n\0'


def message(version: str = "v1", environ: bytes = ENVIRON, stdin: bytes = STDIN) -> bytes:
    head = f"netdev-agent 1 {version} {len(environ)} {len(stdin)}\n"
    return head.encode() + environ + stdin


WHOLE = Request({"CNI_COMMAND": "ADD", "CNI_ARGS": "A=1;B=\udcff"}, STDIN)


def test_whole() -> None:
    incoming = Incoming("v1")
    assert incoming.size == 0
    assert incoming.receive(message()) == WHOLE
    assert incoming.size == len(ENVIRON) + len(STDIN)


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_in_pieces(size: int) -> None:
    incoming, data = Incoming("v1"), message()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert [incoming.receive(each) for each in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert incoming.receive(pieces[-1]) == WHOLE


def test_nothing_but_a_header() -> None:
    assert Incoming("v1").receive(message(environ=b"", stdin=b"")) == Request({}, b"")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (message() + b"x", "more than one request"),
        (message("v2"), "another version: run netdevctl install, restart the agent"),
        (message(""), "another version"),
        (b"GET / HTTP/1.1\r\n\r\n", "no request"),
        (b"netdev-agent 2 v1 1 1\n", "no request"),
        (b"netdev-agent 1 v1 1\n", "no request"),
        (b"netdev-agent 1 v1 1 1 1\n", "no request"),
        (b"netdev-agent 1 v1 1 -1\n", "no request"),
        (b"netdev-agent 1 v1 1 \n", "no request"),
        (b"netdev-agent 1 v1 1 \xb2\n", "no request"),
        (b"netdev-agent 1 v1 0 99999999\n", "no request"),
        (b"netdev-agent 1 v1 0 1048577\n", "too long"),
        (b"netdev-agent 1 v1 1048577 0\n", "too long"),
        (b"x" * 200, "no request"),
        (b"\n", "no request"),
    ],
)
def test_what_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(Refused, match=said):
        Incoming("v1").receive(data)


@given(st.binary(max_size=300), st.booleans())
def test_whatever_comes_it_is_a_request_or_refused(data: bytes, begins_well: bool) -> None:
    incoming = Incoming("v1")
    try:
        for each in (b"netdev-agent 1 v1 " if begins_well else b"") + data:
            if incoming.receive(bytes([each])) is not None:
                break
    except Refused:
        return


@given(st.integers(0, 255), st.binary(max_size=50), st.binary(max_size=50))
def test_an_answer_says_how_long_it_is(code: int, out: bytes, err: bytes) -> None:
    head, _, rest = Answer(code, out, err).encode().partition(b"\n")
    assert head == f"done {code} {len(out)} {len(err)}".encode()
    assert rest == out + err


def test_a_refusal_is_one_line() -> None:
    assert refusal("busy") == b"no busy\n"
    assert wire.TAKEN == b"taken\n"
