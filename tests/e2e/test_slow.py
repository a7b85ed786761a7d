"""Calls of the kernel and of files that take their time, or more of it than there is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cni_netdev import main
from cni_netdev.core.engine import Injector
from cni_netdev.core.journal import FileJournal
from cni_netdev.core.kernel import SystemKernel
from tests import children, seams
from tests.children import answer, with_faults
from tests.faults import CONF, Case, Trial
from tests.host import STATE_DIR
from tests.nri_faults import NriTrial
from tests.nri_runtime import GoRuntime
from tests.seams import Event, Fault
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host

pytestmark = pytest.mark.e2e

_LIMIT = 2.0  # the runtime's, seconds
_TOO_LONG = 2.2


@pytest.fixture
def trial(host: Host) -> Trial:
    return Trial(host)


def test_every_call_slow(trial: Trial) -> None:
    """A machine under load: nothing depends on being quick."""

    def slowly(verb: str) -> int:
        seams.install().others = Fault(0, seconds=0.0005)
        return trial.cni(verb)

    for verb in ("ADD", "CHECK", "DEL"):
        assert answer(lambda verb=verb: slowly(verb)).ok() or verb != "ADD"  # type: ignore[misc]
    assert trial.watched.violations("pod") == []


STUCK = {
    "netlink": "move link nic1 as nic2",
    "disk": "write",
    "mount": "mount",
}


@pytest.mark.parametrize("what", STUCK)
def test_who_waits_in_vain_for_one_that_is_stuck_is_told_to_try_again(
    trial: Trial, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code 11.  The one that was stuck ends as if nothing had been."""
    _, events = with_faults(lambda: trial.cni("ADD"), {})
    assert trial.end(told=True) == []
    stuck = next(
        event
        for event in events
        if STUCK[what] in (event.text, event.what)
        and event.where not in ("locks._acquire", "sysctl.write")
    )
    monkeypatch.setattr(main, "_engine", impatient)
    other = trial.host.pod("other")
    holder = os.fork()
    if holder == 0:
        said, _ = with_faults(lambda: trial.cni("ADD"), {stuck.place: Fault(0, seconds=1.5)})
        os._exit(said.code)
    until(lambda: any((STATE_DIR / "locks").glob("link-*")), lambda: "no lock")
    for container in ("c1", "c2"):  # its attachment, and its links
        netns = trial.pod.path if container == "c1" else other.path
        said = answer(
            lambda container=container, netns=netns: children.cni(  # type: ignore[misc]
                "ADD", CONF, netns=netns, container=container
            )
        )
        code, words = said.error()
        assert code == 11
        assert "is being worked on by process" in words
    assert os.waitstatus_to_exitcode(os.waitpid(holder, 0)[1]) == 0
    assert set(trial.inside()) == {"nic1", "nic2"}
    assert trial.end(told=True) == []


def impatient(state_dir: str) -> Injector:
    return Injector(SystemKernel(), FileJournal(state_dir, lock_timeout=0.2))


@pytest.fixture
def node(cni: Host) -> Iterator[NriTrial]:
    with GoRuntime(cni.directory, request_timeout=f"{_LIMIT:g}s") as runtime:
        tried = NriTrial(cni, runtime)
        tried.start()
        with tried.plugin:
            yield tried


def first(events: list[Event], what: str, where: str) -> Event:
    return next(
        event for event in events if what in event.text + event.what and where in event.where
    )


# A move: tests/e2e/test_nri_runtime.
LATE = (
    ("look for link", "looks"),
    ("add address", "changes"),
    ("flock", "locks"),
    ("rename", "recordfiles"),
    ("mount", "pins"),
)


def test_a_pod_whose_device_takes_too_long_does_not_start(node: NriTrial) -> None:
    """It is refused in time, and when the call is done at last, what came of it is undone."""
    assert node.run(None).wrong == []
    events = node.events()
    for count, (what, where) in enumerate(LATE, 1):
        inside, pod = node.new_pod()
        case = Case(first(events, what, where), Fault(0, seconds=_TOO_LONG))
        node.plan(case, "run")
        assert "did not suffice" in node.refusal(pod), case
        node.forgive()
        assert node.wrong(inside.name) == [], case
        assert len(node.plugin.lines("not attached")) == count
        assert node.run(None).wrong == [], case
        inside.delete()


def test_a_pod_whose_device_takes_too_long_to_come_home_ends_all_the_same(node: NriTrial) -> None:
    assert node.stop(None).wrong == []
    event = first(node.events(), "move link", "changes")
    assert node.stop(Case(event, Fault(0, seconds=_TOO_LONG))).wrong == []
    assert node.plugin.lines("the time limit ran out; it is finished in the background")
