"""The runtime's side of the wire without a runtime: bytes as it writes and reads them.

``survive`` is what every fuzzer calls: the hypothesis tests of tests/unit/nri and tests/fuzz_wire.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from nri_plugin import messages, mux, ttrpc
from nri_plugin.errors import Code, PeerError, Refusal
from nri_plugin.messages import PodSandbox
from nri_plugin.proto import nri_pb2, ttrpc_pb2
from nri_plugin.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EVENTS = {"run": "RunPodSandbox", "stop": "StopPodSandbox", "remove": "RemovePodSandbox"}
POD = PodSandbox("c1", "solver", "u1", "hpc", {"app": "x"}, {"note": "y"}, "/run/netns/pod", 7)
_MUX_HEADER, _TTRPC_HEADER = 8, 10


# --- what a runtime writes -------------------------------------------------------------------


def frame(connection: int, data: bytes) -> bytes:
    """As one frame, however long."""
    return struct.pack(">II", connection, len(data)) + data


def message(
    stream: int, body: bytes = b"", kind: int = ttrpc.REQUEST, length: int | None = None
) -> bytes:
    """A ttrpc message.  length: what its header claims."""
    claimed = len(body) if length is None else length
    return struct.pack(">IIBB", claimed, stream, kind, 0) + body


def call(
    method: str, payload: bytes = b"", service: str = messages.PLUGIN_SERVICE, timeout_nano: int = 0
) -> bytes:
    """The body of a request."""
    return ttrpc_pb2.Request(
        service=service, method=method, payload=payload, timeout_nano=timeout_nano
    ).SerializeToString()


def request(stream: int, method: str, payload: bytes = b"", timeout_nano: int = 0) -> bytes:
    """A call to the plugin, as frames."""
    body = call(method, payload, timeout_nano=timeout_nano)
    return frame(mux.PLUGIN_SERVICE, message(stream, body))


def response(stream: int = 1, payload: bytes = b"", code: int = 0, text: str = "") -> bytes:
    """An answer to the plugin; as it stands, to its registration."""
    answer = ttrpc_pb2.Response(payload=payload)
    if code:
        answer.status.CopyFrom(ttrpc_pb2.Status(code=code, message=text))
    body = answer.SerializeToString()
    return frame(mux.RUNTIME_SERVICE, message(stream, body, ttrpc.RESPONSE))


def field(number: int, value: int | bytes | str) -> bytes:
    """One protobuf field, encoded by hand."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _pod(pod: PodSandbox) -> nri_pb2.PodSandbox:
    paths = [nri_pb2.LinuxNamespace(type="network", path=pod.netns)] if pod.netns else []
    return nri_pb2.PodSandbox(
        id=pod.id,
        name=pod.name,
        uid=pod.uid,
        namespace=pod.namespace,
        labels=pod.labels,
        annotations=pod.annotations,
        linux=nri_pb2.LinuxPodSandbox(namespaces=paths),
        pid=pod.pid,
    )


def pod_request(pod: PodSandbox = POD, container: str = "") -> bytes:
    """The payload of RunPodSandbox and its like, and with a container of CreateContainer."""
    named = nri_pb2.Container(id="k1", name=container) if container else None
    return nri_pb2.PodRequest(pod=_pod(pod), container=named).SerializeToString()


def state_change(event: int, pod: PodSandbox = POD) -> bytes:
    return nri_pb2.StateChangeEvent(event=event, pod=_pod(pod)).SerializeToString()


def synchronize(*pods: PodSandbox, more: bool = False) -> bytes:
    return nri_pb2.SynchronizeRequest(pods=map(_pod, pods), more=more).SerializeToString()


def configure(config: str = "", request_timeout: int = 2000) -> bytes:
    return nri_pb2.ConfigureRequest(
        config=config,
        runtime_name="containerd",
        runtime_version="v2.4.2",
        registration_timeout=5000,
        request_timeout=request_timeout,
        nri_version="0.12.0",
    ).SerializeToString()


def conversation() -> bytes:
    """All that a runtime writes from our registration to a pod's end; ids 1 to 15."""
    calls = (
        ("Configure", configure()),
        ("Synchronize", synchronize(POD, more=True)),
        ("Synchronize", synchronize(POD)),
        ("RunPodSandbox", pod_request()),
        ("CreateContainer", pod_request(container="main")),
        ("StateChange", state_change(2)),
        ("RemovePodSandbox", pod_request()),
        ("Shutdown", b""),
    )
    requests = [request(2 * number + 1, *each) for number, each in enumerate(calls)]
    return response() + b"".join(requests)


# --- how it reads us -------------------------------------------------------------------------


class Sent(NamedTuple):
    """One ttrpc message of ours.  Of a request code and text are 0 and the method."""

    connection: int
    stream: int
    code: int
    text: str
    payload: bytes


class Reader:
    """Reads our bytes as the Go side does, and insists on what it insists on."""

    def __init__(self) -> None:
        self._buffer = b""
        self._streams = {mux.PLUGIN_SERVICE: b"", mux.RUNTIME_SERVICE: b""}

    def receive(self, data: bytes) -> list[Sent]:
        self._buffer += data
        while len(self._buffer) >= _MUX_HEADER:
            connection, length = struct.unpack(">II", self._buffer[:_MUX_HEADER])
            assert 0 < length <= mux.LONGEST_SENT, "a frame that Go cannot read"
            rest = self._buffer[_MUX_HEADER:]
            if len(rest) < length:
                break
            self._streams[connection] += rest[:length]
            self._buffer = rest[length:]
        return [sent for connection in self._streams for sent in self._messages(connection)]

    def _messages(self, connection: int) -> Iterable[Sent]:
        while len(stream := self._streams[connection]) >= _TTRPC_HEADER:
            length, number, kind, flags = struct.unpack(">IIBB", stream[:_TTRPC_HEADER])
            assert length <= ttrpc.LONGEST, "a message that Go throws away"
            assert flags == 0
            body, rest = stream[_TTRPC_HEADER:][:length], stream[_TTRPC_HEADER + length :]
            if len(body) < length:
                return
            self._streams[connection] = rest
            yield _sent(connection, number, kind, body)


def _sent(connection: int, stream: int, kind: int, body: bytes) -> Sent:
    if connection == mux.RUNTIME_SERVICE:
        assert kind == ttrpc.REQUEST
        ours = ttrpc_pb2.Request.FromString(body)
        return Sent(connection, stream, 0, f"{ours.service}/{ours.method}", ours.payload)
    assert kind == ttrpc.RESPONSE
    answer = ttrpc_pb2.Response.FromString(body)
    return Sent(connection, stream, answer.status.code, answer.status.message, answer.payload)


def read(data: bytes) -> list[Sent]:
    """All of it, and nothing may be left."""
    reader = Reader()
    found = reader.receive(data)
    assert not reader._buffer
    assert not any(reader._streams.values())
    return found


# --- what no bytes may break -----------------------------------------------------------------


def partition(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The data cut at these places, which may be anywhere."""
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def new_session(*, ready: bool = False) -> Session:
    """Registering; or, if ``ready``, registered and synchronized with ids up to 3 used."""
    session = Session("injector", "10")
    session.register()
    if ready:
        session.receive(
            response() + request(1, "Configure", configure()) + request(3, "Synchronize")
        )
        session.answer(1, messages.configured())
        session.answer(3, messages.synchronized(more=False))
    session.data_to_send()
    return session


def buffered(session: Session) -> int:
    """Bytes that are kept of what was received."""
    decoders = session._decoders.values()
    return len(session._frames._header) + sum(len(decoder._buffer) for decoder in decoders)


def survive(session: Session, portions: Sequence[bytes]) -> str:
    """What a connection does with these bytes; why it ended.

    Only PeerError may be raised, what is sent must be readable, and what is kept is bounded.
    """
    reader = Reader()
    for portion in portions:
        try:
            wanted = session.receive(portion)
        except PeerError as error:
            reader.receive(session.data_to_send())
            return str(error)
        for each in reversed(wanted):
            if each.stream % 4 == 1:
                session.answer(each.stream, repr(each.request).encode(errors="replace"))
            else:
                session.refuse(each.stream, Refusal(Code.INTERNAL, repr(each)))
        reader.receive(session.data_to_send())
        assert buffered(session) < 2 * (ttrpc.LONGEST_OF_OLD + _TTRPC_HEADER) + _MUX_HEADER
    return session.end()


def survive_anything(data: bytes) -> None:
    """A fuzzer's bytes: the first says how the others are used, the second how they are cut."""
    how, size, rest = data[:1], data[1:2], data[2:]
    mode, step = (how or b"\0")[0], (size or b"\0")[0] + 1
    session = new_session(ready=bool(mode & 1))
    if mode & 2:  # whole messages, so that the payloads are reached
        methods = list(messages._METHODS)
        rest = request(5, methods[mode >> 2 & 7], rest)
    elif mode & 4:
        rest = frame(mode >> 3 & 3, rest)
    survive(session, [rest[start : start + step] for start in range(0, len(rest), step)])
