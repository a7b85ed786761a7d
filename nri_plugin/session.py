"""One connection to a runtime, from our registration to its end; pure.

Bytes in, what is to be done out; what was done in, bytes out.  The order of things is the table
below: (state, what happens) to the next state; what is not in it is refused.

The runtime may configure us before its answer to our registration is here (containerd/nri,
pkg/adaptation/plugin.go: the answer and Configure go their own ways), so that the answer changes
nothing once it has.  NRI before 0.7 never synchronizes the plugins that it launches, so that their
pods' events follow on Configure.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from nri_plugin import messages, mux, ttrpc
from nri_plugin.errors import Code, PeerError, Refusal
from nri_plugin.messages import Configure, CreateContainer, PodEvent, Synchronize


class State(Enum):
    """Where the connection is."""

    CONNECTED = auto()
    REGISTERING = auto()
    REGISTERED = auto()
    CONFIGURED = auto()
    READY = auto()


class Event(Enum):
    """What happens to it."""

    REGISTER = auto()
    ACCEPTED = auto()
    CONFIGURE = auto()
    SYNCHRONIZE = auto()
    POD = auto()


TRANSITIONS = {
    (State.CONNECTED, Event.REGISTER): State.REGISTERING,
    (State.REGISTERING, Event.ACCEPTED): State.REGISTERED,
    (State.REGISTERING, Event.CONFIGURE): State.CONFIGURED,
    (State.REGISTERED, Event.CONFIGURE): State.CONFIGURED,
    (State.CONFIGURED, Event.ACCEPTED): State.CONFIGURED,
    (State.READY, Event.ACCEPTED): State.READY,
    (State.CONFIGURED, Event.SYNCHRONIZE): State.READY,
    (State.READY, Event.SYNCHRONIZE): State.READY,
    (State.CONFIGURED, Event.POD): State.CONFIGURED,
    (State.READY, Event.POD): State.READY,
}


class Wanted(NamedTuple):
    """A call to be served; answer it with Session.answer or Session.refuse.

    pods: of all parts of a Synchronize; empty for other requests.
    """

    stream: int
    request: messages.Request
    timeout: float | None
    pods: tuple[messages.PodSandbox, ...] = ()


class Session:
    """Not for two threads at once."""

    def __init__(self, name: str, index: str) -> None:
        self.state = State.CONNECTED
        self._name, self._index = name, index
        self._frames = mux.Demultiplexer()
        self._decoders = {
            mux.PLUGIN_SERVICE: ttrpc.Decoder(),
            mux.RUNTIME_SERVICE: ttrpc.Decoder(),
        }
        self._server = ttrpc.Server()
        self._client = ttrpc.Client()
        self._pods: list[messages.PodSandbox] = []
        self._out = bytearray()

    # --- out ---------------------------------------------------------------------------------

    def register(self) -> None:
        """Begin: say who we are."""
        self._go(Event.REGISTER)
        payload = messages.register(self._name, self._index)
        _, data = self._client.call(messages.RUNTIME_SERVICE, "RegisterPlugin", payload)
        self._out += mux.frames(mux.RUNTIME_SERVICE, data)

    def answer(self, stream: int, payload: bytes) -> None:
        self._out += mux.frames(mux.PLUGIN_SERVICE, ttrpc.success(stream, payload))

    def refuse(self, stream: int, refusal: Refusal) -> None:
        data = ttrpc.failure(stream, refusal.code, refusal.message)
        self._out += mux.frames(mux.PLUGIN_SERVICE, data)

    def data_to_send(self) -> bytes:
        """What is to be written to the connection now; each byte is given once."""
        data = bytes(self._out)
        self._out.clear()
        return data

    # --- in ----------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Wanted]:
        """Calls to be served.  Raises PeerError when the connection must end."""
        wanted = []
        for connection, piece in self._frames.receive(data):
            decoder = self._decoders.get(connection)
            for message in decoder.receive(piece) if decoder else ():
                call = self._take(connection, message)
                if call is not None:
                    wanted.append(call)
        return wanted

    def end(self) -> str:
        """Why the peer's end of the connection is no proper one; empty when it is."""
        whole = self._frames.between_frames and all(
            decoder.between_messages for decoder in self._decoders.values()
        )
        return "" if whole else "the connection ended within a message"

    def _take(self, connection: int, message: ttrpc.Message) -> Wanted | None:
        if connection == mux.RUNTIME_SERVICE:
            self._accepted(self._client.receive(message))
            return None
        call = self._server.receive(message)
        if isinstance(call, ttrpc.Refused):
            self.refuse(call.stream, Refusal(call.code, call.message))
            return None
        return self._called(call) if call else None

    def _accepted(self, reply: ttrpc.Reply) -> None:
        if reply.code:
            raise PeerError(f"the registration was refused: {reply.message} (code {reply.code})")
        self._go(Event.ACCEPTED)

    def _called(self, call: ttrpc.Call) -> Wanted | None:
        try:
            request = messages.decode(call.service, call.method, call.payload)
            return self._in_order(call, request)
        except Refusal as refusal:
            self.refuse(call.stream, refusal)
            return None

    def _in_order(self, call: ttrpc.Call, request: messages.Request) -> Wanted | None:
        match request:
            case Configure():
                self._go(Event.CONFIGURE)
                if request.request_timeout is None:  # told since NRI 0.7
                    self._decoders[mux.PLUGIN_SERVICE].longest = ttrpc.LONGEST_OF_OLD
            case Synchronize():
                return self._synchronized(call, request)
            case PodEvent() | CreateContainer():
                self._go(Event.POD)
        return Wanted(call.stream, request, call.timeout)

    def _synchronized(self, call: ttrpc.Call, request: Synchronize) -> Wanted | None:
        after = self._next(Event.SYNCHRONIZE)
        self._pods += request.pods
        if request.more:
            self.answer(call.stream, messages.synchronized(more=True))
            return None
        self.state = after
        pods, self._pods = tuple(self._pods), []
        return Wanted(call.stream, request, call.timeout, pods)

    def _go(self, event: Event) -> None:
        self.state = self._next(event)

    def _next(self, event: Event) -> State:
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            raise Refusal(
                Code.FAILED_PRECONDITION,
                f"{event.name.lower()} does not follow in state {self.state.name.lower()}",
            )
        return after
