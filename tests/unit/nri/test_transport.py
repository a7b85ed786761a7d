"""A connection over a real socket, with a scripted runtime at its other end.

No test measures time: a limit that is not kept makes the test wait for what never comes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.errors import Fault, RequestError
from nri_plugin import messages, mux, transport
from nri_plugin.errors import Code
from nri_plugin.limits import Limit
from nri_plugin.session import Session
from nri_plugin.transport import Connection, adopt
from tests import wire
from tests.unit.nri.bench import KEY, NET1, POD, Nri, pod
from tests.unit.nri.peer import Gate, Peer, socketpair, too_long
from tests.workbench import OTHER_PATH, new_bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from concurrent.futures import Executor

    from pytest_mock import MockerFixture

    from nri_plugin.handlers import Handlers
    from nri_plugin.messages import PodSandbox

PLAIN = pod(id_="plain")
OTHER = pod({"name": "eth2"}, id_="c2", netns=OTHER_PATH)
SOON = 20_000_000  # nanoseconds that a caller waits who is to be told that time ran out
RUN, STOP, REMOVE, CREATE = "RunPodSandbox", "StopPodSandbox", "RemovePodSandbox", "CreateContainer"


class Wire:
    """A connection that is served, and its peer."""

    def __init__(
        self, peer: Peer, connection: Connection, serving: asyncio.Task[str], readied: list[bool]
    ) -> None:
        self.peer = peer
        self.connection = connection
        self.serving = serving
        self.readied = readied


@asynccontextmanager
async def connected(
    nri: Nri,
    worker: Executor,
    *,
    configure: Callable[[str], Handlers] | None = None,
    registration_seconds: float = 60,
    launched: bool = False,
) -> AsyncIterator[Wire]:
    readied: list[bool] = []
    session = Session("injector", "10")
    connection = Connection(
        session,
        worker,
        configure or (lambda _: nri.handlers),
        nri.log,
        lambda: readied.append(True),
        launched=launched,
    )
    async with socketpair() as (peer, ours):
        streams = await asyncio.open_unix_connection(sock=ours)
        serving = asyncio.create_task(connection.run(*streams, registration_seconds))
        try:
            yield Wire(peer, connection, serving, readied)
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving


async def idle(worker: Executor) -> None:
    """Until all that was given to the worker is done."""
    await asyncio.get_running_loop().run_in_executor(worker, lambda: None)


def changes_of_an_attach() -> list[str]:
    """All of them, in their order, by a trial on a bench of its own."""
    trial = Nri(new_bench())
    trial.run()
    return trial.bench.world.events


def begin_in_time(gate: Gate, mocker: MockerFixture) -> None:
    """However slow this machine is, what is to stand at the gate gets there."""

    class Patient(Limit):
        def __init__(self, seconds: float) -> None:
            super().__init__(seconds, lambda: 0.0)

        def check(self) -> None:
            if gate.reached:
                super().check()

    mocker.patch.object(transport, "Limit", Patient)


# --- a pod's life ----------------------------------------------------------------------------


async def test_from_registration_to_the_pods_end(nri: Nri, worker: Executor) -> None:
    before = nri.bench.at_home()
    async with connected(nri, worker) as line:
        peer = line.peer
        registration = await peer.accept()
        assert registration.text == "nri.pkg.api.v1alpha1.Runtime/RegisterPlugin"
        assert registration.payload == messages.register("injector", "10")
        answer = await peer.ask("Configure", wire.configure())
        assert (answer.code, answer.payload) == (0, messages.configured())
        assert line.readied == []
        first = await peer.ask("Synchronize", wire.synchronize(PLAIN, more=True))
        last = await peer.ask("Synchronize", wire.synchronize())
        assert [first.payload, last.payload] == [
            messages.synchronized(more=True),
            messages.synchronized(more=False),
        ]
        assert line.readied == [True]
        assert (await peer.ask(RUN, wire.pod_request(POD))).code == 0
        assert nri.in_pod() == ["net1"]
        assert (await peer.ask(CREATE, wire.pod_request(POD, "main"))).code == 0
        assert (await peer.ask("StateChange", wire.state_change(2, POD))).code == 0
        assert nri.bench.at_home() == before
        assert (await peer.ask(REMOVE, wire.pod_request(POD))).code == 0
        assert (await peer.ask("Shutdown")).code == 0
        peer.close()
        assert await line.serving == "the runtime closed the connection"
    nri.bench.nothing_left()


async def test_what_is_refused_and_why(nri: Nri, worker: Executor) -> None:
    async with connected(nri, worker) as line:
        await line.peer.ready()
        for method, payload, code, text in (
            (RUN, wire.pod_request(pod(NET1, netns="")), 3, "host's network"),
            (RUN, wire.pod_request(pod({"nam": "eth1"})), 3, "did you mean name?"),
            (RUN, wire.pod_request(pod({"name": "none"})), 5, "none"),
            (CREATE, wire.pod_request(POD, "main"), 9, "must not run without"),
            ("UpdatePodSandbox", wire.pod_request(), 12, "not implemented"),
            (RUN, b"\xff", 3, "cannot be decoded"),
        ):
            answer = await line.peer.ask(method, payload)
            assert (answer.code, answer.payload) == (code, b"")
            assert text in answer.text
    assert nri.bench.world.events == []
    assert "a call failed" not in nri.log.told()


async def test_a_fault_of_ours_is_told_and_logged(
    nri: Nri, worker: Executor, mocker: MockerFixture
) -> None:
    mocker.patch.object(nri.handlers, "run", side_effect=ZeroDivisionError("by zero"))
    async with connected(nri, worker) as line:
        await line.peer.ready()
        answer = await line.peer.ask(RUN, wire.pod_request(POD))
        assert answer.code == Code.INTERNAL
        assert "ZeroDivisionError: by zero; a fault of ours" in answer.text
        assert (await line.peer.ask("Shutdown")).code == 0
    (line_,) = [each for each in nri.log.lines if each.message == "a call failed"]
    assert "Traceback" in line_.fields["error"]


async def test_what_is_nothing_to_us_is_told_without_what_tenants_wrote(
    nri: Nri, worker: Executor
) -> None:
    async with connected(nri, worker) as line:
        await line.peer.ready()
        secret = PLAIN._replace(annotations={"password": "secret"})
        await line.peer.ask(RUN, wire.pod_request(secret))
    told = [each.fields for each in nri.log.lines if each.message == "nothing to do"]
    assert told == [{"call": "run", "sandbox": "plain"}]


# --- its configuration -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestError((Fault("Configure: adpot", "unknown key"),)), Code.INVALID_ARGUMENT),
        (OSError(98, "Address already in use"), Code.INTERNAL),
    ],
)
async def test_a_bad_configuration_is_refused_and_the_process_lives(
    nri: Nri, worker: Executor, error: Exception, code: Code
) -> None:
    def configure(text: str) -> Handlers:
        assert text == "adpot: true"
        raise error

    async with connected(nri, worker, configure=configure) as line:
        await line.peer.accept()
        answer = await line.peer.ask("Configure", wire.configure("adpot: true"))
        assert answer.code == code
        assert str(error) in answer.text
        answer = await line.peer.ask("Synchronize", wire.synchronize())
        assert answer.code == Code.UNAVAILABLE
        assert (await line.peer.ask("Shutdown")).code == 0
        assert not line.serving.done()
        assert line.readied == []


# --- its time --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, len(changes_of_an_attach()) + 1))
async def test_an_attach_that_takes_too_long_is_answered_and_then_taken_back(
    nri: Nri, worker: Executor, gate: Gate, mocker: MockerFixture, number: int
) -> None:
    """Whether it stops before its next step, or finds at its end that nobody waits."""
    begin_in_time(gate, mocker)
    before = nri.bench.at_home()
    nri.bench.world.interrupt(number, gate)
    async with connected(nri, worker) as line:
        peer = line.peer
        await peer.ready()
        answer = await peer.ask(RUN, wire.pod_request(POD), SOON)
        assert answer.code == Code.DEADLINE_EXCEEDED
        await gate.arrived()
        # While the worker stands there:
        assert (await peer.ask(RUN, wire.pod_request(PLAIN))).code == 0
        assert (await peer.ask(CREATE, wire.pod_request(PLAIN, "main"))).code == 0
        assert (await peer.ask(STOP, wire.pod_request(PLAIN))).code == 0
        assert (await peer.ask(STOP, wire.pod_request(POD), SOON)).code == 0
        late = await peer.ask(RUN, wire.pod_request(OTHER), SOON)
        assert late.code == Code.DEADLINE_EXCEEDED
        gate.open()
        await idle(worker)
        assert nri.bench.at_home() == before
        nri.bench.nothing_left()
        assert (await peer.ask(RUN, wire.pod_request(OTHER))).code == 0
        assert nri.in_pod(OTHER_PATH) == ["eth2"]


async def test_the_time_that_configure_told_counts_where_a_call_tells_none(
    nri: Nri, worker: Executor, gate: Gate
) -> None:
    nri.bench.world.interrupt(1, gate)
    async with connected(nri, worker) as line:
        await line.peer.ready(request_timeout=20)
        answer = await line.peer.ask(RUN, wire.pod_request(POD))
        assert answer.code == Code.DEADLINE_EXCEEDED
        assert "0.02 s did not suffice" in answer.text


@pytest.mark.parametrize("method", [STOP, REMOVE])
async def test_an_end_that_takes_too_long_goes_on_behind_the_answer(
    nri: Nri, worker: Executor, gate: Gate, method: str
) -> None:
    before = nri.bench.at_home()
    async with connected(nri, worker) as line:
        await line.peer.ready()
        await line.peer.ask(RUN, wire.pod_request(POD))
        nri.bench.world.interrupt(1, gate)
        assert (await line.peer.ask(method, wire.pod_request(POD), SOON)).code == 0
        await gate.arrived()
        assert KEY in nri.bench.journal.kept
        gate.open()
        await idle(worker)
        assert nri.bench.at_home() == before


async def test_a_slow_synchronization_is_answered_and_finished(
    nri: Nri, worker: Executor, gate: Gate, mocker: MockerFixture
) -> None:
    real = nri.handlers.synchronize

    def slowly(pods: tuple[PodSandbox, ...]) -> None:
        gate()
        real(pods)

    done = mocker.patch.object(nri.handlers, "synchronize", side_effect=slowly)
    async with connected(nri, worker) as line:
        await line.peer.ready(POD, request_timeout=20)
        assert line.readied == [True]
        assert nri.metrics.gauges == {}
        gate.open()
        await idle(worker)
        assert nri.metrics.gauges["without"] == 1
    done.assert_called_once_with((POD,))
    assert any("finished in the background" in each for each in nri.log.told("warn"))


async def test_what_fails_behind_an_answer_is_no_news_of_asyncios(
    nri: Nri, worker: Executor, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be told when the future is collected: ``exception was never retrieved``."""
    nri.bench.world.interrupt(1, gate)
    with caplog.at_level(logging.ERROR, "asyncio"):
        async with connected(nri, worker) as line:
            await line.peer.ready()
            await line.peer.ask(RUN, wire.pod_request(POD), SOON)
            gate.open()
            await idle(worker)
    assert [each.message for each in caplog.records] == []


async def test_calls_at_once_are_each_answered(nri: Nri, worker: Executor, gate: Gate) -> None:
    nri.bench.world.interrupt(1, gate)
    async with connected(nri, worker) as line:
        await line.peer.ready()
        slow = line.peer.call(RUN, wire.pod_request(POD))
        behind = line.peer.call(RUN, wire.pod_request(OTHER))
        assert (await line.peer.ask(RUN, wire.pod_request(PLAIN))).code == 0
        gate.open()
        for stream in (behind, slow):
            assert (await line.peer.answer(stream)).code == 0
    assert nri.in_pod() + nri.in_pod(OTHER_PATH) == ["net1", "eth2"]


# --- its end ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (wire.frame(0, b""), "a frame for connection 0, which is reserved"),
        (b"\xff" * 8, "a frame of 4294967295 bytes"),
        (wire.response(3), "answers no call of ours"),
    ],
)
async def test_malformed_bytes_end_the_connection(
    nri: Nri, worker: Executor, data: bytes, why: str
) -> None:
    async with connected(nri, worker) as line:
        await line.peer.ready()
        line.peer.send(data)
        assert why in await line.serving
        assert await line.peer.at_end()


async def test_what_was_refused_before_the_end_is_told(nri: Nri, worker: Executor) -> None:
    async with connected(nri, worker) as line:
        await line.peer.ready()
        even = wire.frame(mux.PLUGIN_SERVICE, wire.message(8))
        line.peer.send(even + wire.response(3))
        assert (await line.peer.answer(8)).code == Code.INVALID_ARGUMENT
        assert await line.peer.at_end()


async def test_a_refused_registration(nri: Nri, worker: Executor) -> None:
    async with connected(nri, worker) as line:
        await line.peer.read(mux.RUNTIME_SERVICE, 1)
        line.peer.send(wire.response(code=3, text="index 10 is taken"))
        assert "index 10 is taken" in await line.serving


async def test_an_end_within_a_message(nri: Nri, worker: Executor) -> None:
    async with connected(nri, worker) as line:
        await line.peer.ready()
        line.peer.send(too_long())
        line.peer.close()
        assert await line.serving == "the connection ended within a message"


async def test_a_registration_that_never_completes_ends(nri: Nri, worker: Executor) -> None:
    async with connected(nri, worker, registration_seconds=0.01) as line:
        await line.serving
    assert nri.log.told("error") == ["the runtime did not register and synchronize us in time"]


@pytest.mark.parametrize("calls", [[], ["Configure"]])
async def test_half_a_registration_is_none(nri: Nri, worker: Executor, calls: list[str]) -> None:
    async with connected(nri, worker) as line:
        await line.peer.accept()
        for method in calls:
            await line.peer.ask(method)
        line.connection._not_ready()
        await line.serving


async def test_a_launched_plugin_is_ready_when_configured(nri: Nri, worker: Executor) -> None:
    """NRI before 0.7 goes on to pods' events then."""
    async with connected(nri, worker, launched=True) as line:
        await line.peer.accept()
        await line.peer.ask("Configure")
        assert line.readied == [True]
        line.connection._not_ready()
        assert (await line.peer.ask("RunPodSandbox", wire.pod_request(PLAIN))).code == 0


async def test_nothing_is_said_of_a_registration_that_ended_before(
    nri: Nri, worker: Executor, mocker: MockerFixture
) -> None:
    timers = mocker.spy(asyncio.get_running_loop(), "call_later")
    async with connected(nri, worker, registration_seconds=3600) as line:
        line.peer.close()
        await line.serving
    made = zip(timers.call_args_list, timers.spy_return_list, strict=True)
    (timer,) = [timer for (args, _), timer in made if args[0] == 3600]
    assert timer.cancelled()


async def test_one_that_did_complete_does_not(nri: Nri, worker: Executor) -> None:
    async with connected(nri, worker) as line:
        await line.peer.ready()
        line.connection._not_ready()
        assert (await line.peer.ask("Shutdown")).code == 0


async def test_a_runtime_that_leaves_while_we_work(
    nri: Nri, worker: Executor, gate: Gate, mocker: MockerFixture
) -> None:
    """It goes on without us: its pod must not be given a device behind its back."""
    given_up = mocker.spy(Limit, "give_up")
    before = nri.bench.at_home()
    nri.bench.world.interrupt(1, gate)
    async with connected(nri, worker) as line:
        await line.peer.ready()
        line.peer.call(RUN, wire.pod_request(POD))
        await gate.arrived()
        line.peer.close()
        while not given_up.called:  # noqa: ASYNC110 - that the end was read tells nobody
            await asyncio.sleep(0)
        gate.open()
        assert await line.serving == "the runtime closed the connection"
    assert nri.bench.at_home() == before
    nri.bench.nothing_left()
    error = nri.log.lines[-1].fields["error"]
    assert "the runtime closed the connection: nobody waits" in str(error)


async def test_a_signal_lets_what_is_under_way_be_answered(
    nri: Nri, worker: Executor, gate: Gate
) -> None:
    nri.bench.world.interrupt(1, gate)
    async with connected(nri, worker) as line:
        await line.peer.ready()
        stream = line.peer.call(RUN, wire.pod_request(POD))
        await gate.arrived()
        line.serving.cancel()
        gate.open()
        assert (await line.peer.answer(stream)).code == 0
        assert await line.peer.at_end()
        with pytest.raises(asyncio.CancelledError):
            await line.serving


async def test_a_signal_while_idle(nri: Nri, worker: Executor) -> None:
    async with connected(nri, worker) as line:
        await line.peer.ready()
        line.serving.cancel()
        assert await line.peer.at_end()


# --- a launched plugin's socket --------------------------------------------------------------


async def test_an_inherited_descriptor_is_not_inherited_on() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        descriptor = ours.detach()
        os.set_inheritable(descriptor, True)
        _, writer = await adopt(descriptor)
        assert not os.get_inheritable(descriptor)
        writer.write(b"x")
        assert await asyncio.to_thread(theirs.recv, 1) == b"x"
        writer.close()
        await writer.wait_closed()


async def test_a_descriptor_that_is_no_socket() -> None:
    descriptor = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(OSError, match="non-socket"):
        await adopt(descriptor)
    os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        await adopt(descriptor)
