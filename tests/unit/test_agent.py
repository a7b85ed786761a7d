"""The agent between shims and its worker: orders, limits, and clients of every kind."""

from __future__ import annotations

import errno
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import pytest

from cni_netdev import agent as module
from cni_netdev.agent import Agent, Limits
from cni_netdev.calls import Call
from cni_netdev.listener import Listener
from cni_netdev.main import Elsewhere
from cni_netdev.wire import LONGEST, Answer, Request
from tests.unit.nri.recorders import RecordingLog
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DONE = Answer(0, b"out", b"err")
NS = ("/proc/self/ns/net", "/proc/self/ns/mnt", "/")
SECONDS = 20


class Answers:
    """Looks when it may, and answers when the gate of that container is open."""

    def __init__(self) -> None:
        self.looks = False
        self.gates: dict[str, threading.Event] = {}
        self.begun: list[str] = []
        self.wanted: list[bool] = []
        self.result: Answer | Exception = DONE

    def look(self, _request: Request) -> Answer | None:
        if isinstance(self.result, Exception) and self.looks:
            raise self.result
        return DONE if self.looks else None

    def answer(self, request: Request, is_wanted: Callable[[], bool]) -> Answer:
        name = request.environ.get("CNI_CONTAINERID", "")
        self.begun.append(name)
        if name in self.gates:
            assert self.gates[name].wait(SECONDS)
        self.wanted.append(is_wanted())
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def close_gate(self, name: str) -> threading.Event:
        self.gates[name] = threading.Event()
        return self.gates[name]


class Client:
    """A connection to the agent, as a shim's."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SECONDS)
        self.socket.connect(str(path))

    def ask(
        self, container: str = "c1", stdin: bytes = b"{}", places: tuple[str, ...] = NS
    ) -> Self:
        self.send(request(container, stdin), places)
        return self

    def send(self, data: bytes, places: tuple[str, ...] = NS) -> None:
        descriptors = [os.open(each, os.O_PATH) for each in places]
        try:
            rest = data[socket.send_fds(self.socket, [data], descriptors) :]
            if rest:  # else the agent may have answered by now
                self.socket.sendall(rest)
        finally:
            for each in descriptors:
                os.close(each)

    def taken(self) -> Self:
        """Once the agent has said so."""
        assert self.socket.recv(6) == b"taken\n"
        return self

    def answer(self) -> bytes:
        """All that comes until the end."""
        data = b""
        try:
            while piece := self.socket.recv(1 << 16):
                data += piece
        except ConnectionResetError:
            data += b"(reset)"
        self.socket.close()
        return data


def request(container: str = "c1", stdin: bytes = b"{}", version: str = "v1") -> bytes:
    environ = f"CNI_COMMAND=ADD\0CNI_CONTAINERID={container}\0".encode()
    return f"netdev-agent 1 {version} {len(environ)} {len(stdin)}\n".encode() + environ + stdin


class Running:
    """An agent at work in a thread."""

    def __init__(self, path: Path, limits: Limits, door: Any = None) -> None:
        self.path = path
        self.answers = Answers()
        self.log = RecordingLog()
        self.worker = ThreadPoolExecutor(1)
        self.submitted = 0
        self.told_to_stop: bool | None = None
        log: Any = self.log
        door = door or Listener(str(path))
        self.agent = Agent(door, "v1", self.answers, self._submit, log, limits)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.told_to_stop = self.agent.run()

    def _submit(self, job: Callable[[], None]) -> None:
        self.submitted += 1
        self.worker.submit(job)

    def client(self) -> Client:
        return Client(self.path)

    def stop(self) -> None:
        for each in self.answers.gates.values():
            each.set()
        self.agent.stop()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()
        self.worker.shutdown()

    def until(self, condition: Callable[[], object]) -> None:
        until(condition, lambda: (self.log.lines, self.answers.begun))


@pytest.fixture
def limits() -> Limits:
    return Limits(seconds=SECONDS)


@pytest.fixture
def running(tmp_path: Path, limits: Limits) -> Iterator[Running]:
    made = Running(tmp_path / "agent.sock", limits)
    yield made
    made.stop()
    assert list(tmp_path.iterdir()) == []


impatient = pytest.mark.parametrize("limits", [Limits(seconds=0.2)])


# --- one call --------------------------------------------------------------------------------


def test_what_needs_work_is_taken_and_done(running: Running) -> None:
    assert running.client().ask().answer() == b"taken\ndone 0 3 3\nouterr"
    assert running.submitted == 1


def test_what_needs_only_a_look_is_done_at_once(running: Running) -> None:
    running.answers.looks = True
    assert running.client().ask().answer() == b"done 0 3 3\nouterr"
    assert running.submitted == 0


def test_a_request_in_pieces(running: Running) -> None:
    client, data = running.client(), request(stdin=b"x" * 300)
    for place in range(0, len(data), 7):
        client.send(data[place : place + 7], NS if place == 0 else ())
    assert client.answer().endswith(b"done 0 3 3\nouterr")


@pytest.mark.parametrize("looks", [False, True])
def test_what_must_be_done_elsewhere(running: Running, looks: bool) -> None:
    running.answers.looks = looks
    running.answers.result = Elsewhere("another state directory")
    assert running.client().ask().answer().endswith(b"no another state directory\n")


@pytest.mark.parametrize("looks", [False, True])
def test_a_fault_is_one_calls_own(running: Running, looks: bool) -> None:
    running.answers.looks = looks
    running.answers.result = ZeroDivisionError("?")
    assert running.client().ask().answer().endswith(b"no a fault of the agent\n")
    assert "ZeroDivisionError" in running.log.only("error").fields["error"]
    running.answers.result = DONE
    assert running.client().ask().answer().endswith(b"outerr")


@pytest.mark.parametrize(
    ("data", "places", "said"),
    [
        (request(version="v2"), NS, b"no another version"),
        (b"GET / HTTP/1.1\r\n\r\n", NS, b"no that is no request\n"),
        (b"netdev-agent 1 v1 0 9999999\n", NS, b"no too long\n"),
        (request(), (), b"no not known where"),
        (request(), (NS[1], NS[0], NS[2]), b"no called in another network namespace\n"),
        (request(), (*NS, "/", "/"), b"no too many descriptors\n"),
    ],
)
def test_what_is_refused_is_told_once(
    running: Running, data: bytes, places: tuple[str, ...], said: bytes
) -> None:
    for _ in range(3):
        client = running.client()
        client.send(data, places)
        assert client.answer().startswith(said)
    assert running.answers.begun == []
    assert len(running.log.told("warn")) == 1


def test_a_relative_path_of_the_pod_is_done_elsewhere(running: Running) -> None:
    client = running.client()
    client.send(b"netdev-agent 1 v1 14 0\nCNI_NETNS=pod\0")
    assert client.answer() == b"taken\nno CNI_NETNS is relative to a directory\n"


def test_who_is_not_root_is_not_heard(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Call, "user", 1 << 16)
    assert running.client().answer() == b""
    assert running.log.told() == ["somebody who is not root tried to connect"]


# --- many ------------------------------------------------------------------------------------


def test_one_after_the_other_reaches_the_worker(running: Running) -> None:
    """Whoever shares it waits for one call and not for all."""
    gate = running.answers.close_gate("c0")
    clients = [running.client().ask(f"c{number}").taken() for number in range(6)]
    running.until(lambda: running.answers.begun)
    assert running.submitted == 1
    turn = running.worker.submit(lambda: list(running.answers.begun))
    gate.set()
    assert turn.result(SECONDS) == ["c0"]
    assert [each.answer() for each in clients] == [b"done 0 3 3\nouterr"] * 6
    assert running.answers.begun == [f"c{number}" for number in range(6)]


def test_a_look_waits_for_nobody_but_its_own_sandbox(running: Running) -> None:
    """A DEL must not overtake the ADD that it undoes."""
    running.answers.close_gate("c1")
    first = running.client().ask("c1").taken()
    running.answers.looks = True
    assert running.client().ask("c2").answer() == DONE.encode()
    same = running.client().ask("c1").taken()
    behind = running.client().ask("c1").taken()
    running.answers.gates["c1"].set()
    assert [each.answer() for each in (first, same, behind)] == [DONE.encode()] * 3
    assert running.answers.begun == ["c1"] * 3


def test_whoever_went_away_before_their_turn_is_left_out(running: Running) -> None:
    gate = running.answers.close_gate("c0")
    first = running.client().ask("c0").taken()
    gone = running.client().ask("gone").taken()
    last = running.client().ask("c2").taken()
    gone.socket.close()
    gate.set()
    assert last.answer() == first.answer() == DONE.encode()
    assert running.answers.begun == ["c0", "c2"]


def test_whoever_goes_away_meanwhile_is_missed(running: Running) -> None:
    gate = running.answers.close_gate("c0")
    client = running.client().ask("c0").taken()
    running.until(lambda: running.answers.begun)
    client.socket.close()
    gate.set()
    assert running.client().ask("c1").answer().endswith(b"outerr")
    assert running.answers.begun == ["c0", "c1"]
    assert running.answers.wanted == [False, True]
    assert running.log.told() == []


def test_no_descriptor_is_left_behind(running: Running) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    assert running.client().ask().answer()
    before = count()
    for places in (NS, (*NS, "/proc"), (*NS, "/", "/", "/"), ()):
        client = running.client()
        client.send(request(), places)
        client.answer()
    running.client().ask().socket.close()
    half = running.client()
    half.send(request()[:20])
    half.socket.close()
    running.until(lambda: count() <= before)


@pytest.mark.parametrize("limits", [Limits(seconds=SECONDS, connections=3)])
def test_too_many_at_once_go_elsewhere(running: Running) -> None:
    running.answers.close_gate("c0")
    first = [running.client().ask(f"c{number}").taken() for number in range(3)]
    assert [running.client().answer() for _ in range(5)] == [b"no busy\n"] * 5
    running.answers.gates["c0"].set()
    assert [each.answer() for each in first] == [DONE.encode()] * 3


@pytest.mark.parametrize("limits", [Limits(seconds=SECONDS, size=LONGEST)])
def test_too_much_at_once_goes_elsewhere(running: Running) -> None:
    running.answers.close_gate("c0")
    first = running.client().ask("c0", b"x" * (LONGEST - 100)).taken()
    second = running.client()
    second.send(b"netdev-agent 1 v1 0 101\n")
    assert second.answer() == b"no busy\n"
    small = running.client().ask("c2").taken()
    running.answers.gates["c0"].set()
    assert small.answer() == first.answer() == DONE.encode()


# --- slow and silent -------------------------------------------------------------------------


@impatient
@pytest.mark.parametrize("said", [b"", b"netdev", request()[:-1]])
def test_who_does_not_finish_asking_is_dropped(running: Running, said: bytes) -> None:
    client = running.client()
    if said:
        client.send(said)
    assert client.answer() == b""
    assert running.answers.begun == []


@impatient
def test_who_waits_for_the_worker_is_not_dropped(running: Running) -> None:
    gate = running.answers.close_gate("c0")
    clients = [running.client().ask(f"c{number}").taken() for number in range(2)]
    silent = running.client()
    assert silent.answer() == b"", "as much time has gone by"
    gate.set()
    assert [each.answer() for each in clients] == [DONE.encode()] * 2


@impatient
def test_who_does_not_take_the_answer_is_dropped(running: Running) -> None:
    running.answers.result = Answer(0, b"x" * (4 << 20), b"")
    slow = running.client().ask("c0").taken()
    running.answers.result = Answer(0, b"x" * (4 << 20), b"")
    running.until(lambda: running.answers.begun)
    running.until(lambda: "a shim was too slow" in running.log.told("debug"))
    assert len(slow.answer()) < 4 << 20
    running.answers.result = DONE
    assert running.client().ask("c1").answer().endswith(b"outerr")


def test_a_long_answer_to_a_slow_reader(running: Running) -> None:
    running.answers.result = Answer(0, b"x" * (4 << 20), b"")
    slow = running.client().ask("c0").taken()
    running.until(lambda: running.answers.begun)
    assert running.client().ask("c1").answer()
    assert slow.answer() == b"done 0 4194304 0\n" + b"x" * (4 << 20)


# --- its own trouble, and its end ------------------------------------------------------------


class Exhausted:
    """A door whose accept() fails a few times, as without descriptors."""

    is_in_place = True

    def __init__(self, path: Path) -> None:
        self._listener = Listener(str(path))
        self.socket: Any = self
        self.failures = 3

    def accept(self) -> Any:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener.socket.accept()

    def setblocking(self, _yes: bool) -> None:
        self._listener.socket.setblocking(False)

    def fileno(self) -> int:
        return self._listener.socket.fileno()

    def close(self) -> None:
        self._listener.close()


def test_it_gets_over_having_no_descriptors(
    tmp_path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    path = tmp_path / "agent.sock"
    running = Running(path, limits, Exhausted(path))
    assert running.client().ask().answer().endswith(b"outerr")
    assert len(running.log.told("warn")) == 1
    running.stop()


def test_told_to_stop_it_ends_what_was_begun(running: Running) -> None:
    gate = running.answers.close_gate("c0")
    at_work = running.client().ask("c0").taken()
    queued = running.client().ask("c1").taken()
    half = running.client()
    half.send(request()[:20])
    running.until(lambda: running.answers.begun)
    running.agent.stop()
    assert queued.answer() == b"no the agent is stopping\n"
    told, reset = b"no the agent is stopping\n", b"(reset)"
    assert half.answer() in (told, told + reset, reset)
    assert not running.path.exists()
    with pytest.raises(OSError, match=r"No such file|refused"):
        running.client()
    gate.set()
    assert at_work.answer() == DONE.encode()
    running.thread.join(SECONDS)
    assert running.told_to_stop is True
    assert running.answers.begun == ["c0"]


def test_stopped_before_it_runs(tmp_path: Path, limits: Limits) -> None:
    with ThreadPoolExecutor(1) as worker:
        door = Listener(str(tmp_path / "agent.sock"))
        log: Any = RecordingLog()
        agent = Agent(door, "v1", Answers(), worker.submit, log, limits)
        agent.stop()
        client = Client(tmp_path / "agent.sock")
        agent._look_up()
        agent._accept()  # both came in one event of the selector
        assert agent.run()
        assert client.answer() == b"(reset)"
        assert log.told() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limits", [Limits(seconds=SECONDS, look=0.05)])
def test_when_nobody_can_find_it_it_ends(running: Running) -> None:
    running.path.rename(running.path.with_name("elsewhere"))
    running.thread.join(SECONDS)
    assert running.told_to_stop is False
    assert running.log.told("warn") == ["the socket was taken away"]
    running.path.with_name("elsewhere").unlink()


def test_a_worker_that_is_shut_down_takes_no_call(running: Running) -> None:
    running.worker.shutdown()
    assert running.client().ask().answer() == b"taken\nno the agent is stopping\n"
    running.answers.looks = True
    assert running.client().ask().answer() == DONE.encode()
