"""A session: the table of transitions, what is refused, limits, and that no bytes can break it."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nri_plugin import messages, mux, ttrpc
from nri_plugin.errors import Code, PeerError, Refusal
from nri_plugin.messages import Configure, CreateContainer, Ignored, PodEvent, Shutdown, Synchronize
from nri_plugin.session import TRANSITIONS, Event, Session, State
from tests import wire
from tests.wire import POD, Sent, frame, message, new_session, partition, pod_request, request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nri_plugin.session import Wanted

REGISTER = Sent(
    mux.RUNTIME_SERVICE,
    1,
    0,
    "nri.pkg.api.v1alpha1.Runtime/RegisterPlugin",
    messages.register("injector", "10"),
)
REQUESTS = {
    Event.CONFIGURE: ("Configure", wire.configure()),
    Event.SYNCHRONIZE: ("Synchronize", wire.synchronize()),
    Event.POD: ("RunPodSandbox", pod_request()),
}
# How each state is come to, by what happens from the beginning on.
WAYS: dict[State, tuple[Event, ...]] = {
    State.CONNECTED: (),
    State.REGISTERING: (Event.REGISTER,),
    State.REGISTERED: (Event.REGISTER, Event.ACCEPTED),
    State.CONFIGURED: (Event.REGISTER, Event.CONFIGURE),
    State.READY: (Event.REGISTER, Event.CONFIGURE, Event.SYNCHRONIZE),
}


def happen(session: Session, event: Event, stream: int) -> list[Wanted]:
    if event is Event.REGISTER:
        session.register()
        return []
    if event is Event.ACCEPTED:
        return session.receive(wire.response())
    return session.receive(request(stream, *REQUESTS[event]))


def brought_to(state: State) -> Session:
    session = Session("injector", "10")
    for number, event in enumerate(WAYS[state]):
        happen(session, event, 2 * number + 1)
    assert session.state is state
    session.data_to_send()
    return session


def sent(session: Session) -> list[Sent]:
    return wire.read(session.data_to_send())


def refusals(session: Session) -> list[tuple[int, int]]:
    """(stream, code) of what was sent."""
    return [(each.stream, each.code) for each in sent(session)]


# --- the table -------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "event"), TRANSITIONS)
def test_what_the_table_allows(state: State, event: Event) -> None:
    session = brought_to(state)
    wanted = happen(session, event, 101)
    assert session.state is TRANSITIONS[state, event]
    assert [each.stream for each in wanted] == ([101] if event in REQUESTS else [])
    assert sent(session) == ([REGISTER] if event is Event.REGISTER else [])


@pytest.mark.parametrize(
    ("state", "event"), [pair for pair in product(State, REQUESTS) if pair not in TRANSITIONS]
)
def test_a_call_that_the_table_does_not_have_is_refused(state: State, event: Event) -> None:
    session = brought_to(state)
    assert happen(session, event, 101) == []
    assert session.state is state
    (refusal,) = sent(session)
    assert (refusal.stream, refusal.code) == (101, Code.FAILED_PRECONDITION)
    assert refusal.text == f"{event.name.lower()} does not follow in state {state.name.lower()}"


@pytest.mark.parametrize("state", set(State) - {State.CONNECTED})
def test_we_register_once(state: State) -> None:
    session = brought_to(state)
    with pytest.raises(Refusal):
        session.register()
    assert sent(session) == []


@pytest.mark.parametrize("state", [State.CONNECTED, State.REGISTERED])
def test_an_answer_to_no_registration_ends_the_connection(state: State) -> None:
    with pytest.raises(PeerError, match="answers no call"):
        brought_to(state).receive(wire.response())


def test_the_table_has_every_pair_that_containerd_makes() -> None:
    """Every state is come to, and only registering leaves the first one."""
    assert set(TRANSITIONS.values()) == set(State) - {State.CONNECTED}
    assert {state for state, _ in TRANSITIONS} == set(State)


# --- from registration to the end ------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_whole_conversation(size: int) -> None:
    session = Session("injector", "10")
    session.register()
    data = wire.conversation()
    portions = [data[start : start + size] for start in range(0, len(data), size)]
    wanted = [each for portion in portions for each in session.receive(portion)]
    assert [(each.stream, each.request) for each in wanted] == [
        (1, Configure("", "containerd", "v2.4.2", 5.0, 2.0, "0.12.0")),
        (5, Synchronize((POD,), more=False)),
        (7, PodEvent("run", POD)),
        (9, CreateContainer(POD, "main")),
        (11, PodEvent("stop", POD)),
        (13, PodEvent("remove", POD)),
        (15, Shutdown()),
    ]
    assert [each.pods for each in wanted] == [(), (POD, POD), (), (), (), (), ()]
    more = Sent(mux.PLUGIN_SERVICE, 3, 0, "", messages.synchronized(more=True))
    assert sorted(sent(session)) == sorted([REGISTER, more])
    assert session.end() == ""


@given(st.lists(st.integers(0, 1200), max_size=12))
def test_any_partition_gives_the_same_calls(cuts: list[int]) -> None:
    whole, cut = new_session(), new_session()
    data = wire.conversation()
    wanted = [each for portion in partition(data, cuts) for each in cut.receive(portion)]
    assert wanted == whole.receive(data)
    assert cut.data_to_send() == whole.data_to_send()


@pytest.mark.parametrize(
    "order", [(0, 1, 2), (1, 0, 2), (1, 2, 0)], ids=["before", "between", "after"]
)
def test_the_registrations_answer_may_come_late(order: tuple[int, ...]) -> None:
    """containerd sends it and Configure by different goroutines."""
    session = new_session()
    calls = [
        wire.response(),
        request(1, "Configure", wire.configure()),
        request(3, "Synchronize", wire.synchronize()),
    ]
    wanted = session.receive(b"".join(calls[number] for number in order))
    assert [each.stream for each in wanted] == [1, 3]
    assert session.state is State.READY
    assert sent(session) == []


def test_a_refused_registration_ends_the_connection() -> None:
    with pytest.raises(PeerError, match=r"refused: no such index \(code 3\)"):
        new_session().receive(wire.response(code=3, text="no such index"))


def test_the_callers_patience_is_handed_on() -> None:
    session = new_session(ready=True)
    data = request(5, "RunPodSandbox", pod_request(), timeout_nano=1_500_000_000)
    assert [each.timeout for each in session.receive(data)] == [1.5]
    assert session.receive(request(7, "StopPodSandbox", pod_request()))[0].timeout is None


def test_synchronize_again() -> None:
    """Pods of an earlier one, and of one that was broken off, are not counted twice."""
    session = new_session(ready=True)
    other = POD._replace(id="c2")
    parts = [
        request(5, "Synchronize", wire.synchronize(POD, more=True)),
        request(7, "Synchronize", wire.synchronize(other)),
        request(9, "Synchronize", wire.synchronize(other)),
    ]
    wanted = session.receive(b"".join(parts))
    assert [each.pods for each in wanted] == [(POD, other), (other,)]


def test_pods_events_may_come_before_the_last_part_or_without_any() -> None:
    """As from NRI before 0.7, for plugins that it launches."""
    session = brought_to(State.CONFIGURED)
    assert session.receive(request(5, "Synchronize", wire.synchronize(POD, more=True))) == []
    assert session.state is State.CONFIGURED
    (run,) = session.receive(request(7, "RunPodSandbox", pod_request()))
    assert run.request == PodEvent("run", POD)
    assert session.state is State.CONFIGURED
    (last,) = session.receive(request(9, "Synchronize", wire.synchronize(POD)))
    assert last.pods == (POD, POD)


@pytest.mark.parametrize("event", range(16))
def test_state_changes(event: int) -> None:
    session = new_session(ready=True)
    (wanted,) = session.receive(request(5, "StateChange", wire.state_change(event)))
    what = {1: "run", 2: "stop", 3: "remove"}.get(event)
    expected = PodEvent(what, POD) if what else Ignored(f"state change {event}")  # type: ignore[arg-type]
    assert wanted.request == expected


def test_other_state_changes_and_shutdown_are_taken_in_every_state() -> None:
    for state in State:
        data = request(101, "StateChange", wire.state_change(7)) + request(103, "Shutdown")
        assert [each.stream for each in brought_to(state).receive(data)] == [101, 103]


def test_concurrent_calls_are_answered_in_any_order() -> None:
    session = new_session(ready=True)
    pods = [POD._replace(id=f"c{number}") for number in range(3)]
    data = [request(5 + 2 * n, "RunPodSandbox", pod_request(pod)) for n, pod in enumerate(pods)]
    wanted = session.receive(b"".join(data))
    assert [each.request for each in wanted] == [PodEvent("run", pod) for pod in pods]
    session.answer(9, b"last")
    session.refuse(5, Refusal(Code.NOT_FOUND, "no link"))
    session.answer(7, b"")
    one = mux.PLUGIN_SERVICE
    assert sent(session) == [
        Sent(one, 9, 0, "", b"last"),
        Sent(one, 5, Code.NOT_FOUND, "no link", b""),
        Sent(one, 7, 0, "", b""),
    ]
    assert session.data_to_send() == b"", "each byte is given once"


def test_frames_of_the_two_streams_may_alternate() -> None:
    session = new_session()
    call = message(1, wire.call("Configure", wire.configure()))
    answer = wire.response()[8:]
    data = b"".join(
        frame(connection, bytes([byte]))
        for pair in zip(call, answer, strict=False)
        for connection, byte in zip((1, 2), pair, strict=True)
    )
    rest = frame(1, call[len(answer) :]) + frame(2, answer[len(call) :])
    assert [each.stream for each in session.receive(data + rest)] == [1]
    assert session.state is State.CONFIGURED


# --- what is refused, and what ends the connection -------------------------------------------


@pytest.mark.parametrize(
    ("data", "stream", "code"),
    [
        (message(4, wire.call("Shutdown")), 4, Code.INVALID_ARGUMENT),
        (message(0, b""), 0, Code.INVALID_ARGUMENT),
        (message(3, wire.call("Shutdown")), 3, Code.INVALID_ARGUMENT),
        (message(5, b"x", ttrpc.DATA), 5, Code.INVALID_ARGUMENT),
        (message(5, b"\xff"), 5, Code.INVALID_ARGUMENT),
        (message(5, wire.call("RunPodSandbox", b"\xff")), 5, Code.INVALID_ARGUMENT),
        (message(5, wire.call("RunPodSandbox")), 5, Code.INVALID_ARGUMENT),
        (message(5, wire.call("Bogus")), 5, Code.UNIMPLEMENTED),
        (message(5, wire.call("RunPodSandbox", service="x.Other")), 5, Code.UNIMPLEMENTED),
        (message(5, bytes(ttrpc.LONGEST + 1)), 5, Code.RESOURCE_EXHAUSTED),
    ],
    ids=[
        "even id",
        "id 0",
        "reused id",
        "data",
        "no request",
        "no payload of the method",
        "no pod",
        "unknown method",
        "unknown service",
        "oversized",
    ],
)
def test_a_bad_call_is_refused_on_its_stream_and_the_next_is_served(
    data: bytes, stream: int, code: Code
) -> None:
    session = new_session(ready=True)
    for start in range(0, len(data), 1 << 16):
        assert session.receive(frame(mux.PLUGIN_SERVICE, data[start:][: 1 << 16])) == []
    assert refusals(session) == [(stream, code)]
    wanted = session.receive(request(101, "RunPodSandbox", pod_request()))
    assert [each.stream for each in wanted] == [101]
    assert session.end() == ""


def test_an_answer_of_ours_that_is_too_large_becomes_a_refusal() -> None:
    session = new_session(ready=True)
    session.answer(5, bytes(ttrpc.LONGEST))
    assert refusals(session) == [(5, Code.RESOURCE_EXHAUSTED)]


def test_a_long_answer_goes_in_frames_that_go_can_read() -> None:
    session = new_session(ready=True)
    payload = bytes(range(256)) * 100
    session.answer(5, payload)
    assert [each.payload for each in sent(session)] == [payload], "Reader looks at each frame"


def test_other_connections_are_nobodys() -> None:
    session = new_session(ready=True)
    assert session.receive(frame(3, message(5, wire.call("Shutdown")))) == []
    assert sent(session) == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (frame(0, b""), "reserved"),
        (frame(1, bytes(mux.LONGEST_FRAME + 1)), "a frame of"),
        (frame(2, message(1, b"", ttrpc.RESPONSE)), "answers no call"),
        (frame(2, message(1, b"", ttrpc.REQUEST)), "answers no call"),
    ],
)
def test_what_ends_the_connection(data: bytes, why: str) -> None:
    with pytest.raises(PeerError, match=why):
        new_session(ready=True).receive(data)


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 17, 18, 30])
def test_an_end_within_a_message_is_told(cut: int) -> None:
    session = new_session(ready=True)
    data = request(5, "RunPodSandbox", pod_request())
    session.receive(data[:cut])
    assert session.end() == "the connection ended within a message"
    session.receive(data[cut:])
    assert session.end() == ""


# --- fuzzing ---------------------------------------------------------------------------------

READY = st.booleans().map(lambda ready: lambda: new_session(ready=ready))


@given(READY, st.lists(st.binary(max_size=80), max_size=6))
def test_arbitrary_bytes(session: Callable[[], Session], portions: list[bytes]) -> None:
    wire.survive(session(), portions)


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=6),
    st.lists(st.integers(0, 1500), max_size=6),
)
def test_a_conversation_with_mutated_bytes(
    mutations: Sequence[tuple[int, int]], cuts: list[int]
) -> None:
    data = bytearray(wire.conversation())
    for place, byte in mutations:
        data[place % len(data)] = byte
    wire.survive(new_session(), partition(bytes(data), cuts))


@settings(max_examples=400)
@given(
    READY,
    st.lists(
        st.builds(
            lambda connection, stream, kind, body, claimed: frame(
                connection, message(stream, body, kind, claimed)
            ),
            st.integers(1, 3),
            st.integers(0, 9),
            st.integers(0, 4),
            st.binary(max_size=40)
            | st.builds(
                wire.call, st.sampled_from(sorted(messages._METHODS)), st.binary(max_size=40)
            ),
            st.none() | st.none() | st.integers(0, 60) | st.integers(0, 2**32 - 1),
        ),
        max_size=8,
    ),
)
def test_messages_with_wrong_lengths_types_and_payloads(
    session: Callable[[], Session], frames: list[bytes]
) -> None:
    wire.survive(session(), frames)


@given(st.binary(max_size=200))
def test_the_fuzzers_own_target(data: bytes) -> None:
    """As tests/fuzz_wire runs it for longer, by coverage."""
    wire.survive_anything(data)


def test_no_more_is_kept_than_one_message() -> None:
    session = new_session(ready=True)
    whole = message(5, wire.call("Bogus", bytes(ttrpc.LONGEST - 200)))
    data = mux.frames(mux.PLUGIN_SERVICE, whole)
    for start in range(0, len(data), 1 << 16):
        session.receive(data[start:][: 1 << 16])
        assert wire.buffered(session) < len(whole)
    assert wire.buffered(session) == 0
    assert refusals(session) == [(5, Code.UNIMPLEMENTED)]


def test_a_runtime_that_tells_no_timeouts_may_send_more() -> None:
    """NRI before 0.7 sends all pods at once, and its ttrpc does not stop it."""
    session = brought_to(State.REGISTERED)
    session.receive(request(1, "Configure", wire.configure(request_timeout=0)))
    session.data_to_send()
    payload = wire.synchronize() + bytes((0x7A, 0x80, 0x80, 0x80, 0x03)) + bytes(6 << 20)
    data = message(3, wire.call("Synchronize", payload))
    wanted = [
        call
        for start in range(0, len(data), 1 << 20)
        for call in session.receive(frame(mux.PLUGIN_SERVICE, data[start:][: 1 << 20]))
    ]
    assert [call.stream for call in wanted] == [3]
    assert session.state is State.READY
