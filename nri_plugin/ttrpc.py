"""ttrpc, unary calls only: messages out of a byte stream, a server's and a client's side; pure.

A message is a header of 10 bytes (u32 length, u32 stream id, u8 type, u8 flags; big-endian) and
its body (containerd/ttrpc, PROTOCOL.md).  Wherever that leaves a choice the answers are those of
the Go implementation.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from google.protobuf.message import DecodeError

from nri_plugin.errors import Code, PeerError, Refusal
from nri_plugin.proto import ttrpc_pb2

LONGEST = 4 << 20  # both ways
# Before ttrpc 1.2.6 the Go side sends more, and NRI before 0.7 all pods at once: a node that is
# full can only be synchronized by taking that.
LONGEST_OF_OLD = 16 << 20
REQUEST, RESPONSE, DATA = 1, 2, 3

_HEADER = struct.Struct(">IIBB")
_LONGEST_STATUS = 16 << 10  # characters


class Message(NamedTuple):
    """One message.  body is None when it was longer than allowed and was thrown away."""

    stream: int
    type: int
    body: bytes | None
    length: int


class Call(NamedTuple):
    """A request to us.  timeout: seconds that its caller waits, or None when it did not say."""

    stream: int
    service: str
    method: str
    payload: bytes
    timeout: float | None


class Refused(NamedTuple):
    """A request that is answered with this status before anybody looked at it."""

    stream: int
    code: int
    message: str


class Reply(NamedTuple):
    """The answer to our call.  code 0 is success."""

    stream: int
    code: int
    message: str
    payload: bytes


class Decoder:
    """Cuts a byte stream into messages.  Keeps one message at the most."""

    def __init__(self) -> None:
        self.longest = LONGEST
        self._header: tuple[int, int, int] | None = None
        self._buffer = bytearray()
        self._skips = False
        self._to_skip = 0

    def receive(self, data: bytes) -> list[Message]:
        messages = []
        self._buffer += data
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    @property
    def between_messages(self) -> bool:
        return self._header is None and not self._buffer

    def _next(self) -> Message | None:
        if self._header is None:
            if len(self._buffer) < _HEADER.size:
                return None
            length, stream, kind, _ = _HEADER.unpack(self._buffer[: _HEADER.size])
            del self._buffer[: _HEADER.size]
            self._header = (length, stream, kind)
            self._skips = length > self.longest
            self._to_skip = length
        return self._skipped() if self._skips else self._whole(*self._header)

    def _whole(self, length: int, stream: int, kind: int) -> Message | None:
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._header = None
        return Message(stream, kind, body, length)

    def _skipped(self) -> Message | None:
        skipped = min(self._to_skip, len(self._buffer))
        del self._buffer[:skipped]
        self._to_skip -= skipped
        if self._to_skip or self._header is None:
            return None
        length, stream, kind = self._header
        self._header = None
        return Message(stream, kind, None, length)


class Server:
    """Which requests are to be served: stream ids are odd and rise."""

    def __init__(self) -> None:
        self._last = 0

    def receive(self, message: Message) -> Call | Refused | None:
        """None: to be left alone, as types that are not known yet."""
        stream, kind, body, length = message
        if body is None:
            return Refused(
                stream,
                Code.RESOURCE_EXHAUSTED,
                f"message length {length} exceeds the largest that is taken",
            )
        if stream % 2 == 0:
            return Refused(stream, Code.INVALID_ARGUMENT, "a client's stream ids are odd")
        if kind == DATA:
            return Refused(stream, Code.INVALID_ARGUMENT, "no stream of this id is open")
        if kind != REQUEST:
            return None
        if stream <= self._last:
            return Refused(stream, Code.INVALID_ARGUMENT, "stream ids rise and are used once")
        self._last = stream
        return _call(stream, body)


def _call(stream: int, body: bytes) -> Call | Refused:
    try:
        request = ttrpc_pb2.Request.FromString(body)
    except DecodeError as error:
        return Refused(stream, Code.INVALID_ARGUMENT, f"the request cannot be decoded: {error}")
    timeout = request.timeout_nano / 1e9 if request.timeout_nano > 0 else None
    return Call(stream, request.service, request.method, request.payload, timeout)


class Client:
    """Our own calls, and their answers."""

    def __init__(self) -> None:
        self._next = 1
        self._waiting: set[int] = set()

    def call(self, service: str, method: str, payload: bytes) -> tuple[int, bytes]:
        """The stream id and the bytes to send.  Raises Refusal when the payload is too large."""
        stream = self._next
        request = ttrpc_pb2.Request(service=service, method=method, payload=payload)
        message = _message(stream, REQUEST, request.SerializeToString())
        self._next += 2
        self._waiting.add(stream)
        return stream, message

    def receive(self, message: Message) -> Reply:
        """Raises PeerError for an answer to nothing, and for one that cannot be decoded."""
        if message.type != RESPONSE or message.stream not in self._waiting:
            raise PeerError(
                f"message of type {message.type} on stream {message.stream} answers no call of ours"
            )
        self._waiting.discard(message.stream)
        if message.body is None:
            raise PeerError(f"an answer of {message.length} bytes is longer than is taken")
        try:
            response = ttrpc_pb2.Response.FromString(message.body)
        except DecodeError as error:
            raise PeerError(f"an answer that cannot be decoded: {error}") from error
        status = response.status
        return Reply(message.stream, status.code, status.message, response.payload)


def success(stream: int, payload: bytes) -> bytes:
    """The answer that a call was served; one that is too large becomes a failure that says so."""
    try:
        return _message(stream, RESPONSE, ttrpc_pb2.Response(payload=payload).SerializeToString())
    except Refusal as error:
        return failure(stream, error.code, error.message)


def failure(stream: int, code: int, message: str) -> bytes:
    """The answer that a call was not served.  The message is cut where it is endless."""
    text = message[:_LONGEST_STATUS].encode(errors="backslashreplace").decode()
    status = ttrpc_pb2.Status(code=code, message=text)
    return _message(stream, RESPONSE, ttrpc_pb2.Response(status=status).SerializeToString())


def _message(stream: int, kind: int, body: bytes) -> bytes:
    if len(body) > LONGEST:
        raise Refusal(
            Code.RESOURCE_EXHAUSTED, f"a message of {len(body)} bytes is longer than {LONGEST}"
        )
    return _HEADER.pack(len(body), stream, kind, 0) + body
