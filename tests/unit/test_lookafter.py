"""When the records are looked at, and what is told of it."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev import lookafter
from cni_netdev.core.errors import StateError
from cni_netdev.core.model import Owner
from cni_netdev.core.restore import Release
from cni_netdev.lookafter import LookAfter
from tests.unit.nri.recorders import RecordingLog
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER = Owner("cni", "net", "c1", "eth0", "hpc/solver")


class Engine:
    """Tells what it is told, once."""

    def __init__(self) -> None:
        self.looks = 0
        self.repinned: list[str] = []
        self.next: list[Release | Exception] = []

    def recoveries(self, _ended: frozenset[str]) -> Iterator[Release]:
        self.looks += 1
        found, self.next = self.next, []
        for each in found:
            if isinstance(each, Exception):
                raise each
            yield each

    def repin(self, front: str) -> tuple[str, ...]:
        self.repinned.append(front)
        return ("c9 is not pinned here",)


class Events:
    """watch.LinkWatch, whose events a test makes."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self.fileno = self._theirs.fileno

    def happen(self) -> None:
        self.ours.send(b"!")

    def drain(self) -> None:
        try:
            self._theirs.recv(100)
        except BlockingIOError:
            return

    def close(self) -> None:
        self.ours.close()
        self._theirs.close()


@pytest.fixture(autouse=True)
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    made = Events()
    monkeypatch.setattr(lookafter, "LinkWatch", lambda: made)
    monkeypatch.setattr(lookafter, "_SETTLE_SECONDS", 0.0)
    return made


def looking(engine: Engine, worker: ThreadPoolExecutor) -> tuple[LookAfter, RecordingLog]:
    recording = RecordingLog()
    log: Any = recording
    return LookAfter(engine, worker, log), recording


def test_at_once_and_at_each_event(events: Events) -> None:
    engine = Engine()
    with ThreadPoolExecutor(1) as worker, looking(engine, worker)[0]:
        until(lambda: engine.looks == 1, lambda: engine.looks)
        events.happen()
        until(lambda: engine.looks == 2, lambda: engine.looks)


def test_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookafter, "_LOOK_SECONDS", 0.01)
    engine = Engine()
    with ThreadPoolExecutor(1) as worker, looking(engine, worker)[0]:
        until(lambda: engine.looks > 3, lambda: engine.looks)


def test_also_without_events(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(lookafter, "LinkWatch", refused)
    monkeypatch.setattr(lookafter, "_LOOK_SECONDS", 0.01)
    engine = Engine()
    with ThreadPoolExecutor(1) as worker:
        looks, log = looking(engine, worker)
        with looks:
            until(lambda: engine.looks > 3, lambda: engine.looks)
    assert log.told() == ["link events cannot be had; dead pods are noticed later"]


def test_what_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookafter, "_LOOK_SECONDS", 0.01)
    engine = Engine()
    engine.next = [
        Release(OWNER, ("eth1",), ("eth1 is called eth1_0",), complete=True),
        Release(OWNER._replace(sandbox="c2"), (), ("eth2 is busy",), complete=False),
        OSError("?"),
    ]
    with ThreadPoolExecutor(1) as worker:
        looks, log = looking(engine, worker)
        with looks:
            until(lambda: engine.looks > 1, lambda: engine.looks)
    assert log.told() == [
        "detached",
        "eth1 is called eth1_0",
        "something is still away, to be tried again",
        "eth2 is busy",
        "cannot look after the records",
    ]
    assert log.lines[0].fields["pod"] == "hpc/solver"
    assert log.lines[0].fields["devices"] == ("eth1",)


def test_an_accident_to_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal has put the records back; their pins may be gone too."""
    monkeypatch.setattr(lookafter, "_LOOK_SECONDS", 0.01)
    engine = Engine()
    engine.next = [StateError("records were put back from memory")]
    with ThreadPoolExecutor(1) as worker:
        looks, log = looking(engine, worker)
        with looks:
            until(lambda: engine.looks > 1, lambda: engine.looks)
    assert engine.repinned == ["cni"]
    assert log.told("warn") == ["cannot look after the records", "c9 is not pinned here"]
