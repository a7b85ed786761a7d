"""The agent inside another process: it has the socket when it can, and goes when it is told."""

from __future__ import annotations

import json
import posix
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev import hosted, shim, source
from cni_netdev.agent import Limits
from cni_netdev.hosted import Hosted
from cni_netdev.listener import Listener
from tests.bad_inputs import CONF, ENV
from tests.fakes import FakeKernel, World
from tests.unit.nri.recorders import RecordingLog
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> None:
    status = {**ENV, "CNI_COMMAND": "STATUS", "CNI_NETNS": ""}
    monkeypatch.setattr(posix, "environ", {a.encode(): b.encode() for a, b in status.items()})
    monkeypatch.setattr(hosted, "_PAUSE", 0.01)


class Here:
    """A place for it, with a worker."""

    def __init__(self, directory: Path, worker: ThreadPoolExecutor) -> None:
        self.path = directory / "agent.sock"
        self.state_dir = directory / "state"
        self.worker = worker
        self.log = RecordingLog()

    def start(self, limits: Limits | None = None) -> Hosted:
        log: Any = self.log
        kernel = FakeKernel(World())
        return Hosted(str(self.path), str(self.state_dir), kernel, self.worker, log, limits)

    def told(self, message: str) -> None:
        """Once it has said so."""
        until(lambda: message in self.log.told(), lambda: self.log.lines)

    def ask(self) -> int:
        conf = {**CONF, "stateDir": str(self.state_dir)}
        return shim._ask(str(self.path), source.version(), json.dumps(conf).encode())[0]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with ThreadPoolExecutor(1) as worker:
        yield Here(tmp_path, worker)


def test_it_answers_until_it_is_stopped(here: Here) -> None:
    agent = here.start()
    here.told("answering the CNI plugin")
    assert here.ask() == 0
    agent.stop()
    until(lambda: not here.path.exists(), lambda: here.log.lines)
    agent.stop()


def test_where_another_agent_listens_it_waits_for_its_end(here: Here) -> None:
    other = Listener(str(here.path))
    agent = here.start()
    here.told("not answering the CNI plugin")
    assert other.is_in_place
    other.close()
    here.told("answering the CNI plugin")
    assert here.ask() == 0
    agent.stop()
    assert here.log.told("warn") == ["not answering the CNI plugin"], "told once"


def test_a_socket_that_is_taken_away_is_made_anew(here: Here) -> None:
    agent = here.start(Limits(look=0.01))
    here.told("answering the CNI plugin")
    here.path.unlink()
    until(here.path.exists, lambda: here.log.lines)
    until(lambda: here.log.told("info").count("answering the CNI plugin") == 2, here.log.told)
    assert here.ask() == 0
    agent.stop()


def test_stopped_while_it_cannot_have_the_socket(here: Here) -> None:
    here.path.write_text("no socket")
    agent = here.start()
    here.told("not answering the CNI plugin")
    agent.stop()
    assert here.path.read_text() == "no socket"
