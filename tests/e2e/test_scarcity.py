"""No file descriptors left, at every moment at which one is needed.

The limit is lowered to each number from nothing up to what suffices.  Each call says what it
lacked, in these words, and nothing is lost; the next call, with enough, puts everything right.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.core.engine import Injector
from cni_netdev.core.errors import NetdevError
from cni_netdev.core.journal import FileJournal
from cni_netdev.core.kernel import SystemKernel
from cni_netdev.core.policy import Policy
from nri_plugin.handlers import Handlers, Settings
from nri_plugin.limits import Limit
from nri_plugin.messages import PodSandbox
from tests import children
from tests.children import answer
from tests.faults import Trial
from tests.unit.nri.recorders import RecordingLog, RecordingMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host import Answer, Host

pytestmark = pytest.mark.e2e

WORDS = "Too many open files"
_ENOUGH = 40


@pytest.fixture
def trial(host: Host) -> Trial:
    return Trial(host)


def with_to_spare(spare: int, act: Callable[[], int]) -> Answer:
    """What comes of it in a process that may open so many files more."""

    def call() -> int:
        free = os.dup(2)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, 4096))
        return act()

    return answer(call)


def until_it_suffices(
    trial: Trial, prepare: Callable[[], object], act: Callable[[], int], done: Callable[[], bool]
) -> None:
    """Try with one more each time; after each, everything must be in its place or be put there."""
    for spare in range(_ENOUGH):
        prepare()
        said = with_to_spare(spare, act)
        assert "999" not in said.stdout
        if said.code == 0 and WORDS not in said.stdout + said.stderr and done():
            break
        assert WORDS in said.stdout + said.stderr, (spare, said)
        assert trial.recover() == []
    assert 3 < spare < _ENOUGH - 1


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL", "GC", "STATUS"])
def test_of_cni(trial: Trial, verb: str) -> None:
    valid: dict[str, Any] = {"cni.dev/valid-attachments": []} if verb == "GC" else {}
    before = trial.home if verb in ("ADD", "STATUS") else trial.attached
    away = verb in ("ADD", "CHECK")
    until_it_suffices(
        trial, before, lambda: trial.cni(verb, **valid), lambda: bool(trial.inside()) == away
    )
    assert trial.end(told=True) == []


def test_of_recover(trial: Trial) -> None:
    def dead() -> None:
        trial.home()
        trial.dead()

    until_it_suffices(
        trial,
        dead,
        lambda: children.netdevctl("recover"),
        lambda: trial.watched.violations() == [],
    )


def sandbox(trial: Trial) -> PodSandbox:
    devices = [{"name": "nic1", "new_name": "net1"}, {"name": "nic2"}]
    annotations = {"netdevices.nri.containerd.io": json.dumps(devices)}
    return PodSandbox("c1", "c1", "uid", "default", {}, annotations, trial.pod.path)


def plugin(act: Callable[[Handlers], None]) -> int:
    """The NRI plugin does something; what it logs or refuses is told."""
    log = RecordingLog()
    engine = Injector(SystemKernel(), FileJournal(), resident=True)
    try:
        act(Handlers(engine, Settings(Policy), log, RecordingMetrics()))
    except NetdevError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        told = (str(line.fields.get("error", line.message)) for line in log.lines)
        print(*told, sep="\n", file=sys.stderr)
    return 0


@pytest.mark.parametrize("event", ["run", "stop", "synchronize"])
def test_of_nri(trial: Trial, event: str) -> None:
    pod = sandbox(trial)
    acts: dict[str, Callable[[Handlers], None]] = {
        "run": lambda handlers: handlers.run(pod, Limit(60)),
        "stop": lambda handlers: handlers.release(pod),
        "synchronize": lambda handlers: handlers.synchronize(()),
    }

    def running() -> None:
        if not trial.inside():
            trial.home()
            answer(lambda: plugin(acts["run"])).ok()
        if event == "synchronize" and trial.pods():
            trial.pod.delete()

    until_it_suffices(
        trial,
        trial.home if event == "run" else running,
        lambda: plugin(acts[event]),
        lambda: bool(trial.inside()) == (event == "run"),
    )
    answer(lambda: plugin(acts["stop"])).ok()
    assert trial.watched.violations(*trial.pods()) == []
