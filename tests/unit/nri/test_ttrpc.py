"""ttrpc: the decoder cut anywhere and at its limits; the server's and the client's rules."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_plugin.errors import Code, PeerError, Refusal
from nri_plugin.proto import ttrpc_pb2
from nri_plugin.ttrpc import (
    DATA,
    LONGEST,
    LONGEST_OF_OLD,
    REQUEST,
    RESPONSE,
    Call,
    Client,
    Decoder,
    Message,
    Refused,
    Reply,
    Server,
    failure,
    success,
)
from tests.wire import call, field, message, partition

U32 = st.integers(0, 2**32 - 1)
MESSAGES = st.lists(
    st.builds(
        lambda stream, kind, body: Message(stream, kind, body, len(body)),
        U32,
        st.integers(0, 255),
        st.binary(max_size=40),
    ),
    max_size=5,
)
ODD = st.integers(0, 2**31 - 1).map(lambda number: 2 * number + 1)
# What a tenant can get into a message: control characters, lone surrogates, anything.
TEXTS = st.text(st.characters(), max_size=50)


def written(each: Message) -> bytes:
    return message(each.stream, each.body or b"", each.type)


def only(data: bytes) -> Message:
    (found,) = Decoder().receive(data)
    return found


def served(body: bytes, stream: int = 1, kind: int = REQUEST) -> Call | Refused | None:
    return Server().receive(Message(stream, kind, body, len(body)))


# --- the decoder -----------------------------------------------------------------------------


@given(MESSAGES, st.lists(st.integers(0, 300), max_size=12))
def test_any_partition_gives_the_same_messages(sent: list[Message], cuts: list[int]) -> None:
    decoder = Decoder()
    data = b"".join(map(written, sent))
    found = [each for portion in partition(data, cuts) for each in decoder.receive(portion)]
    assert found == sent
    assert decoder.between_messages


def test_byte_by_byte_and_with_trailing_data() -> None:
    decoder = Decoder()
    data = message(1, b"abc") + message(3, b"") + message(5, b"z")[:-1]
    found = [each for byte in data for each in decoder.receive(bytes([byte]))]
    assert found == [Message(1, REQUEST, b"abc", 3), Message(3, REQUEST, b"", 0)]
    assert not decoder.between_messages
    assert decoder.receive(b"z") == [Message(5, REQUEST, b"z", 1)]
    assert decoder.between_messages
    decoder.receive(b"\0")
    assert not decoder.between_messages, "a byte of a header is here"


def test_the_longest_message_is_taken() -> None:
    assert LONGEST == 4 * 1024 * 1024
    assert only(message(1, bytes(LONGEST))) == Message(1, REQUEST, bytes(LONGEST), LONGEST)


def test_an_old_runtimes_longer_message_is_taken_when_told_so() -> None:
    decoder = Decoder()
    decoder.longest = LONGEST_OF_OLD
    (found,) = decoder.receive(message(1, bytes(LONGEST + 1)))
    assert found.body == bytes(LONGEST + 1)


@pytest.mark.parametrize("portion", [1 << 16, 4096, LONGEST + 100])
def test_a_longer_message_is_thrown_away_and_the_next_one_taken(portion: int) -> None:
    decoder = Decoder()
    data = message(7, bytes(LONGEST + 1)) + message(9, b"next")
    found = []
    for start in range(0, len(data), portion):
        found += decoder.receive(data[start : start + portion])
        assert len(decoder._buffer) < 10, "nothing of it is kept"
    assert found == [Message(7, REQUEST, None, LONGEST + 1), Message(9, REQUEST, b"next", 4)]
    assert decoder.between_messages


def test_the_longest_length_of_all_keeps_no_memory() -> None:
    decoder = Decoder()
    assert decoder.receive(message(7, b"", length=2**32 - 1)) == []
    assert decoder.receive(bytes(1 << 20)) == []
    assert not decoder._buffer
    assert not decoder.between_messages


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_the_decoder_takes_arbitrary_bytes(portions: list[bytes]) -> None:
    decoder = Decoder()
    for portion in portions:
        decoder.receive(portion)
        assert len(decoder._buffer) < LONGEST + 10


# --- the server ------------------------------------------------------------------------------


@given(ODD, st.text(max_size=20), st.text(max_size=20), st.binary(max_size=40))
def test_a_request_is_a_call(stream: int, service: str, method: str, payload: bytes) -> None:
    body = ttrpc_pb2.Request(service=service, method=method, payload=payload).SerializeToString()
    assert served(body, stream) == Call(stream, service, method, payload, None)


@pytest.mark.parametrize(
    ("nano", "seconds"),
    [(0, None), (-1, None), (1_500_000_000, 1.5), (1, 1e-9), (2**63 - 1, (2**63 - 1) / 1e9)],
)
def test_the_callers_patience(nano: int, seconds: float | None) -> None:
    found = served(call("Run", timeout_nano=nano))
    assert isinstance(found, Call)
    assert found.timeout == seconds


def test_metadata_and_unknown_fields_are_tolerated() -> None:
    metadata = field(5, field(1, "traceparent") + field(2, "00-1"))
    body = call("Run", b"p", "s") + metadata + field(9, "new") + field(1000, 7)
    assert served(body) == Call(1, "s", "Run", b"p", None)


def test_an_empty_body_is_a_request_of_nothing() -> None:
    assert served(b"") == Call(1, "", "", b"", None)


@pytest.mark.parametrize(
    ("given_", "code", "text"),
    [
        (Message(1, REQUEST, None, LONGEST + 1), Code.RESOURCE_EXHAUSTED, "4194305 exceed"),
        (Message(2, REQUEST, b"", 0), Code.INVALID_ARGUMENT, "odd"),
        (Message(0, REQUEST, b"", 0), Code.INVALID_ARGUMENT, "odd"),
        (Message(2, DATA, b"", 0), Code.INVALID_ARGUMENT, "odd"),
        (Message(1, DATA, b"", 0), Code.INVALID_ARGUMENT, "no stream"),
        (Message(1, REQUEST, b"\xff", 1), Code.INVALID_ARGUMENT, "cannot be decoded"),
        (Message(1, REQUEST, field(1, b"\xff"), 3), Code.INVALID_ARGUMENT, "cannot be decoded"),
    ],
)
def test_what_is_refused_on_its_own_stream(given_: Message, code: Code, text: str) -> None:
    found = Server().receive(given_)
    assert isinstance(found, Refused)
    assert (found.stream, found.code) == (given_.stream, code)
    assert text in found.message


@pytest.mark.parametrize("kind", [0, RESPONSE, 4, 255])
def test_types_that_are_not_known_yet_are_left_alone(kind: int) -> None:
    assert served(b"x", kind=kind) is None


def test_stream_ids_rise_and_are_used_once() -> None:
    server = Server()
    told = [
        server.receive(Message(stream, REQUEST, b"", 0)) for stream in (1, 1, 7, 5, 9, 2**32 - 1)
    ]
    kinds = [type(each) for each in told]
    assert kinds == [Call, Refused, Call, Refused, Call, Call]


def test_a_refused_stream_id_is_not_used_up() -> None:
    server = Server()
    server.receive(Message(9, REQUEST, None, LONGEST + 1))
    server.receive(Message(8, REQUEST, b"", 0))
    assert isinstance(server.receive(Message(1, REQUEST, b"", 0)), Call)


# --- the client ------------------------------------------------------------------------------


def asked(client: Client, payload: bytes = b"p") -> int:
    stream, data = client.call("service", "Method", payload)
    body = only(data).body
    assert body is not None
    request = ttrpc_pb2.Request.FromString(body)
    assert (request.service, request.method, request.payload) == ("service", "Method", payload)
    return stream


def test_our_calls_have_ids_of_their_own_and_answers_in_any_order() -> None:
    client = Client()
    assert [asked(client) for _ in range(3)] == [1, 3, 5]
    for stream in (5, 1, 3):
        answer = only(success(stream, b"yes"))
        assert client.receive(answer) == Reply(stream, 0, "", b"yes")
    answer = only(success(5, b"yes"))
    with pytest.raises(PeerError, match="answers no call"):
        client.receive(answer)


def test_an_empty_answer_is_success() -> None:
    client = Client()
    asked(client)
    assert client.receive(Message(1, RESPONSE, b"", 0)) == Reply(1, 0, "", b"")


def test_a_refusal_of_our_call() -> None:
    client = Client()
    asked(client)
    assert client.receive(only(failure(1, 5, "no"))) == Reply(1, 5, "no", b"")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Message(3, RESPONSE, b"", 0), "type 2 on stream 3"),
        (Message(1, REQUEST, b"", 0), "type 1 on stream 1"),
        (Message(1, DATA, b"", 0), "type 3 on stream 1"),
        (Message(1, RESPONSE, None, LONGEST + 1), "of 4194305 bytes"),
        (Message(1, RESPONSE, b"\xff", 1), "cannot be decoded"),
    ],
)
def test_answers_that_end_the_connection(answer: Message, why: str) -> None:
    client = Client()
    asked(client)
    with pytest.raises(PeerError, match=why):
        client.receive(answer)


def test_a_call_that_is_too_large_is_not_made() -> None:
    client = Client()
    with pytest.raises(Refusal) as caught:
        client.call("service", "Method", bytes(LONGEST))
    assert caught.value.code == Code.RESOURCE_EXHAUSTED
    assert asked(client) == 1


# --- answers ---------------------------------------------------------------------------------


def told(data: bytes) -> tuple[int, int, str, bytes]:
    found = only(data)
    assert found.type == RESPONSE
    assert found.body is not None
    answer = ttrpc_pb2.Response.FromString(found.body)
    return found.stream, answer.status.code, answer.status.message, answer.payload


@given(U32, st.binary(max_size=40))
def test_success_round_trip(stream: int, payload: bytes) -> None:
    assert told(success(stream, payload)) == (stream, 0, "", payload)


@given(U32, st.integers(1, 16), TEXTS)
def test_failure_round_trip(stream: int, code: int, text: str) -> None:
    """Whatever can be written as UTF-8 arrives as it is, and the rest as escapes."""
    found = told(failure(stream, code, text))
    assert found == (stream, code, text.encode(errors="backslashreplace").decode(), b"")


def test_awkward_messages() -> None:
    assert told(failure(1, 3, "a\0\n\x1b\x7f\udcff\U0001f600")) == (
        1,
        3,
        "a\0\n\x1b\x7f\\udcff\U0001f600",
        b"",
    )


def test_an_endless_message_is_cut() -> None:
    _, code, text, _ = told(failure(1, 3, "\udcff" * LONGEST))
    assert code == 3
    assert text == "\\udcff" * (16 << 10)


def test_an_answer_that_is_too_large_becomes_a_failure() -> None:
    payload = bytes(LONGEST - 5)  # a tag and four bytes of length: 4 MiB to the byte
    assert told(success(1, payload)) == (1, 0, "", payload)
    stream, code, text, none = told(success(1, payload + b"\0"))
    assert (stream, code, none) == (1, Code.RESOURCE_EXHAUSTED, b"")
    assert "4194305 bytes" in text


def test_the_header_is_as_the_protocol_says() -> None:
    assert success(3, b"") == struct.pack(">IIBB", 0, 3, 2, 0)
