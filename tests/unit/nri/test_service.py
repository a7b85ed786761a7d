"""The plugin's life, with scripted runtimes and a clock that the tests hold."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import pytest

from cni_netdev.core.errors import StateError
from nri_plugin import service
from nri_plugin.errors import Code
from nri_plugin.identity import Identity
from nri_plugin.service import Service
from nri_plugin.worker import Worker
from tests import wire
from tests.unit.nri.bench import KEY, POD, Nri
from tests.unit.nri.peer import Gate, Peer, socketpair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pytest_mock import MockerFixture

    from nri_plugin.handlers import Handlers
    from nri_plugin.metrics import Metrics

WHO = Identity("injector", "10")


class Assembled:
    """assembly.Assembly over a bench."""

    def __init__(self, nri: Nri) -> None:
        self.handlers = nri.handlers
        self.metrics: Metrics = nri.metrics
        self.warmed = 0

    def configure(self, text: str) -> Handlers:
        assert text == ""
        return self.handlers

    def warm(self) -> None:
        self.warmed += 1


class Pauses:
    """The module's asyncio with a sleep that takes no time, but for the looks in between.

    ``then`` is done in the pause of that number.
    """

    def __init__(self, mocker: MockerFixture) -> None:
        self.seconds: list[float] = []
        self.then: dict[int, Any] = {}
        mocker.patch.object(service, "asyncio", self)
        mocker.patch("random.uniform", return_value=1.0)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        if seconds == service._LOOK_SECONDS:
            await asyncio.Event().wait()
        self.seconds.append(seconds)
        todo = self.then.get(len(self.seconds))
        if todo is not None:
            await todo()
        await asyncio.sleep(0)


class Runtime:
    """A socket that is there or not, and the peers that a plugin makes by dialling it.

    All is closed at the end of the block.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._all: list[Peer] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for peer in self._all:
            await peer.closed()

    async def start(self) -> None:
        async def dialled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._all.append(Peer(reader, writer))
            await self.peers.put(self._all[-1])

        self._server = await asyncio.start_unix_server(dialled, self.path)

    async def stop(self) -> None:
        """The path is gone too."""
        assert self._server is not None
        self._server.close()
        self.path.unlink()


@asynccontextmanager
async def started(directory: Path) -> AsyncIterator[Runtime]:
    async with Runtime(directory / "nri.sock") as runtime:
        await runtime.start()
        yield runtime


@asynccontextmanager
async def running(
    nri: Nri, path: Path, who: Identity = WHO, assembled: Assembled | None = None
) -> AsyncIterator[asyncio.Task[bool]]:
    made: Any = assembled or Assembled(nri)
    log: Any = nri.log
    task = asyncio.create_task(Service(who, str(path), made, log).run())
    try:
        yield task
    finally:
        task.cancel()
        await task


async def until(condition: Any) -> None:
    """Until what other tasks bring about is so."""
    while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0)


# --- one connection after the other ----------------------------------------------------------


async def test_it_dials_again_with_growing_pauses(
    nri: Nri, tmp_path: Path, mocker: MockerFixture
) -> None:
    pauses = Pauses(mocker)
    async with Runtime(tmp_path / "nri.sock") as runtime, running(nri, runtime.path):
        pauses.then[7] = runtime.start
        peer = await runtime.peers.get()
        assert pauses.seconds == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
        await peer.ready()
        assert nri.metrics.gauges["ready"] is True
        await runtime.stop()
        pauses.seconds.clear()
        pauses.then[3] = runtime.start
        del pauses.then[7]
        peer.close()
        again = await runtime.peers.get()
        assert nri.metrics.gauges["ready"] is False
        assert nri.metrics.counted == [("reconnected",)]
        assert pauses.seconds == [0.1, 0.2, 0.4], "from the first again"
        await again.ready(POD)
        assert nri.metrics.gauges == {"alive": True, "lent": 0, "ready": True, "without": 1}


async def test_a_connection_of_no_use_does_not_shorten_the_pauses(
    nri: Nri, tmp_path: Path, mocker: MockerFixture
) -> None:
    pauses = Pauses(mocker)
    async with started(tmp_path) as runtime, running(nri, runtime.path):
        for _ in range(4):
            (await runtime.peers.get()).close()
        await runtime.peers.get()
        assert pauses.seconds == [0.1, 0.2, 0.4, 0.8]
        assert "ready" not in nri.metrics.gauges or nri.metrics.gauges["ready"] is False


async def test_the_same_trouble_is_told_once(
    nri: Nri, tmp_path: Path, mocker: MockerFixture
) -> None:
    pauses = Pauses(mocker)
    async with running(nri, tmp_path / "nri.sock"):
        await until(lambda: len(pauses.seconds) > 5)
    told = [line.level for line in nri.log.lines if line.message.startswith("no connection")]
    assert told[:3] == ["warn", "debug", "debug"]
    assert told.count("warn") == 1


async def test_records_of_the_pods_live_across_connections(
    nri: Nri, tmp_path: Path, mocker: MockerFixture
) -> None:
    Pauses(mocker)
    before = nri.bench.at_home()
    async with started(tmp_path) as runtime, running(nri, runtime.path):
        peer = await runtime.peers.get()
        await peer.ready()
        assert (await peer.ask("RunPodSandbox", wire.pod_request(POD))).code == 0
        peer.close()
        again = await runtime.peers.get()
        await again.ready(POD)
        assert nri.metrics.gauges["without"] == 0
        assert (await again.ask("StopPodSandbox", wire.pod_request(POD))).code == 0
    assert nri.bench.at_home() == before


# --- its end ---------------------------------------------------------------------------------


async def test_a_launched_plugin_ends_with_its_connection(nri: Nri, tmp_path: Path) -> None:
    async with socketpair() as (peer, ours):
        who = Identity("injector", "10", ours.detach())
        async with running(nri, tmp_path / "none", who) as task:
            await peer.ready()
            assert nri.metrics.gauges["ready"] is True
            peer.close()
            await task
    assert nri.metrics.gauges["ready"] is False


async def test_a_launched_plugin_ends_with_a_descriptor_that_is_none(
    nri: Nri, tmp_path: Path
) -> None:
    descriptor = os.open("/dev/null", os.O_RDONLY)
    async with running(nri, tmp_path, Identity("injector", "10", descriptor)) as task:
        await task
    os.close(descriptor)
    assert any(each.startswith("no connection") for each in nri.log.told("warn"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_once_what_is_under_way_is_answered(
    nri: Nri, tmp_path: Path, number: signal.Signals
) -> None:
    gate = Gate()
    nri.bench.world.interrupt(1, gate)
    async with started(tmp_path) as runtime, running(nri, runtime.path) as task:
        peer = await runtime.peers.get()
        await peer.ready()
        stream = peer.call("RunPodSandbox", wire.pod_request(POD))
        await gate.arrived()
        os.kill(os.getpid(), number)
        gate.open()
        assert (await peer.answer(stream)).code == 0
        assert await peer.at_end()
        assert await task
    assert "stopped by a signal" in nri.log.told("info")
    assert nri.in_pod() == ["net1"], "it is the pod's for as long as that lives"


async def test_further_signals_change_nothing(
    nri: Nri, tmp_path: Path, mocker: MockerFixture
) -> None:
    signals = mocker.spy(service, "_cancel_once")
    gate = Gate()
    nri.bench.world.interrupt(1, gate)
    async with started(tmp_path) as runtime, running(nri, runtime.path) as task:
        peer = await runtime.peers.get()
        await peer.ready()
        stream = peer.call("RunPodSandbox", wire.pod_request(POD))
        await gate.arrived()
        for number in range(1, 4):
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda number=number: signals.call_count == number)
        gate.open()
        assert (await peer.answer(stream)).code == 0
        assert await peer.at_end()
        await task


async def test_a_signal_while_it_warms_up(nri: Nri, tmp_path: Path, mocker: MockerFixture) -> None:
    assembled, gate = Assembled(nri), Gate()
    mocker.patch.object(assembled, "warm", gate)
    async with running(nri, tmp_path / "none", assembled=assembled) as task:
        await gate.arrived()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(task.cancelling)
        gate.open()
        await task
    assert "stopped by a signal" in nri.log.told("info")


async def test_a_worker_that_is_stuck_is_not_waited_for(
    nri: Nri, tmp_path: Path, mocker: MockerFixture
) -> None:
    """The caller is answered, and what was begun is on record."""
    mocker.patch.object(service, "_STOP_SECONDS", 0.05)
    gate = Gate()
    nri.bench.world.interrupt(3, gate)  # the move
    async with started(tmp_path) as runtime:
        async with running(nri, runtime.path) as task:
            peer = await runtime.peers.get()
            await peer.ready()
            stream = peer.call("RunPodSandbox", wire.pod_request(POD), timeout_nano=50_000_000)
            await gate.arrived()
            os.kill(os.getpid(), signal.SIGTERM)
            assert (await peer.answer(stream)).code == Code.DEADLINE_EXCEEDED
            assert await task is False
        told = [each.message for each in nri.log.lines if each.level == "error"]
        assert "ended while the worker is stuck; its work is on record" in told
        assert not nri.bench.journal.kept[KEY].complete
    gate.open()


# --- looking after the records ---------------------------------------------------------------


class Watched:
    """watch.LinkWatch, of events that the test makes."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self.drained = 0
        self.closed = False

    def happen(self) -> None:
        self._theirs.send(b"x")

    def fileno(self) -> int:
        return self._ours.fileno()

    def drain(self) -> None:
        self._ours.recv(100)
        self.drained += 1

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()
        self.closed = True


async def test_records_are_looked_after_at_the_start_and_when_a_link_changed(
    nri: Nri, tmp_path: Path, mocker: MockerFixture
) -> None:
    watched, looks = Watched(), mocker.spy(nri.handlers, "look_after")
    mocker.patch.object(service, "LinkWatch", return_value=watched)
    mocker.patch.object(service, "_SETTLE_SECONDS", 0.0)
    nri.run()
    Pauses(mocker)
    async with running(nri, tmp_path / "none"):
        await until(lambda: looks.call_count == 1)
        assert nri.metrics.gauges["alive"] is True
        nri.bench.world.remove_path("/run/netns/pod")
        watched.happen()
        await until(lambda: not nri.bench.journal.kept)
        watched.happen()
        await until(lambda: looks.call_count == 3)
        assert watched.drained == 2
    assert watched.closed


async def test_a_stuck_worker_is_told_to_whoever_asks_for_our_health(
    nri: Nri, tmp_path: Path, mocker: MockerFixture
) -> None:
    heard = mocker.spy(nri.metrics, "alive")
    looks = asyncio.Event()
    busy_for = mocker.patch.object(
        Worker, "busy", new_callable=mocker.PropertyMock, return_value=0.0
    )

    class Looks(Pauses):
        async def sleep(self, seconds: float) -> None:
            if seconds == service._LOOK_SECONDS:
                await looks.wait()
                looks.clear()
            else:
                await asyncio.Event().wait()

    Looks(mocker)
    async with running(nri, tmp_path / "none"):
        for busy, words in (
            (30.4, ""),
            (31.0, "the worker has been at one thing for 31 s"),
            (36.0, "the worker has been at one thing for 36 s"),
            (0.0, ""),
        ):
            calls = heard.call_count
            busy_for.return_value = busy
            looks.set()
            await until(lambda calls=calls: heard.call_count > calls)
            heard.assert_called_with(words)
    assert nri.log.told("error") == ["the worker is stuck"]


async def test_without_link_events_it_works_too(
    nri: Nri, tmp_path: Path, mocker: MockerFixture
) -> None:
    mocker.patch.object(service, "LinkWatch", side_effect=OSError("not permitted"))
    async with started(tmp_path) as runtime, running(nri, runtime.path):
        await (await runtime.peers.get()).ready()
    assert any("link events cannot be had" in each for each in nri.log.told("warn"))


async def test_it_is_warm_before_it_dials(nri: Nri, tmp_path: Path, mocker: MockerFixture) -> None:
    assembled = Assembled(nri)
    async with started(tmp_path) as runtime:
        async with running(nri, runtime.path, assembled=assembled):
            await runtime.peers.get()
            assert assembled.warmed == 1
        for error in (StateError("no netlink"), OSError("no descriptor is left")):
            mocker.patch.object(assembled, "warm", side_effect=error)
            async with running(nri, runtime.path, assembled=assembled):
                await (await runtime.peers.get()).ready()
    assert nri.log.told("error") == ["links cannot be looked at"] * 2
