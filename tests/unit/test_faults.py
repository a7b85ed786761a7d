"""Every call that the engine makes of its ports fails or dies, for every verb.

Afterwards a recovery without faults must leave each link in the pod that its record names, or at
home as it was; and when the pods have ended, at home with nothing left over.  Nor may damage be
silent: what neither an error nor a note tells of must be whole already.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cni_netdev.core.engine import Attachment, Injector
from cni_netdev.core.errors import NetdevError
from cni_netdev.core.model import IFF_UP, Owner
from cni_netdev.core.restore import Release
from tests import seams
from tests.failing import KILLED, TIMED_OUT, Calls, Fault, changes_something, failing
from tests.fakes import Killed
from tests.oracle import violations
from tests.workbench import (
    FULL,
    NO_POLICY,
    OTHER,
    OTHER_PATH,
    OWNER,
    PATH,
    POD,
    Bench,
    new_bench,
    request,
    tamper,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from tests.failing import When

ERRNOS = (*seams.ERRNOS, errno.EMFILE)
# Those after which a record stays to be tried again; what is refused for good is only told.
PASSING = (errno.EBUSY, errno.ENOMEM, errno.EINTR, errno.ENOBUFS, errno.EMFILE)
BOTH = (FULL, request("eth2", new_name="eth1"))
NRI = Owner("nri", "", "c1", "")
ADOPTED = (request("eth1", new_name="net1"), request("eth2", new_name="net2"))


def attach(engine: Injector) -> Attachment:
    return engine.attach(OWNER, PATH, BOTH, NO_POLICY, POD)


def attached(bench: Bench) -> None:
    attach(bench.engine)
    tamper(bench.first)


def held_by_the_dead(bench: Bench) -> None:
    bench.attach(request("eth1"), owner=OTHER, path=OTHER_PATH)
    bench.world.remove_path(OTHER_PATH)


def half_attached(bench: Bench) -> None:
    bench.world.kill_at(4)
    with pytest.raises(Killed):
        attach(bench.engine)
    bench.journal.locks.clear()


def one_dead_one_alive(bench: Bench) -> None:
    bench.attach(FULL)
    bench.attach(request("eth2"), owner=OTHER, path=OTHER_PATH)
    bench.world.remove_path(PATH)


def without_pins(bench: Bench) -> None:
    attach(bench.engine)
    bench.journal.enter_new_mount_namespace()


def lent_by_go(bench: Bench) -> None:
    for fake, asked in zip((bench.first, bench.second), ADOPTED, strict=True):
        home = fake.link.settings
        assert asked.new_name
        there = home._replace(name=asked.new_name, alias=home.name, flags=home.flags | IFF_UP)
        bench.world.move(bench.world.host, fake.ifindex, bench.world.paths[PATH], there)


def synchronize(engine: Injector) -> Attachment | None:
    """As the NRI plugin does when it was started anew."""
    pinned = engine.repin("nri")
    attachment = engine.adopt(NRI, PATH, ADOPTED, NO_POLICY, POD)
    return attachment._replace(notes=(*pinned, *attachment.notes)) if attachment else None


class Verb(NamedTuple):
    """A call of the engine, in a situation.  again: repeated by whoever recovers."""

    prepare: Callable[[Bench], object]
    act: Callable[[Injector], Any]
    again: bool = False


VERBS = {
    "attach": Verb(lambda bench: None, attach),
    "attach over a half": Verb(half_attached, attach),
    "attach what the dead hold": Verb(held_by_the_dead, attach),
    "attach again": Verb(lambda bench: attach(bench.engine), attach),
    "detach": Verb(attached, lambda engine: engine.detach(OWNER.key)),
    "check": Verb(
        lambda bench: attach(bench.engine), lambda engine: engine.check(OWNER.key, PATH, {})
    ),
    "reap": Verb(
        attached, lambda engine: tuple(engine.reap(front="cni", network="net", valid=frozenset()))
    ),
    "recover the dead": Verb(one_dead_one_alive, lambda engine: engine.recover()),
    "recover a half": Verb(half_attached, lambda engine: engine.recover()),
    "repin": Verb(without_pins, lambda engine: engine.repin("cni"), again=True),
    "adopt": Verb(lent_by_go, synchronize, again=True),
}


class Run:
    """One verb on a bench of its own, where calls may fail."""

    def __init__(self, verb: Verb) -> None:
        self.bench = new_bench()
        self.calls = Calls()
        self._verb = verb
        verb.prepare(self.bench)
        self._engine = Injector(*failing(self.bench.kernel, self.bench.journal, self.calls))

    def act(self) -> str:
        """What the verb says; "killed" after that.  Raises what no caller is promised."""
        return self._said(self._verb.act)

    def act_otherwise(self) -> None:
        """What may come after it, with faults too: recovery, the verb again, the pod's end."""
        self._said(lambda engine: engine.recover())
        self._said(self._verb.act)
        self._said(lambda engine: engine.detach(OWNER.key))

    def _said(self, act: Callable[[Injector], Any]) -> str:
        try:
            return _words(act(self._engine))
        except NetdevError as error:
            return f"{error.message} {error.details}"
        except Killed:
            self.bench.journal.locks.clear()  # as the kernel does
            return "killed"

    def recover(self) -> None:
        self.bench.engine.recover()
        if self._verb.again:
            self._verb.act(self.bench.engine)

    def end_the_pods(self, *, told: bool) -> None:
        """told: the runtime says so beforehand; otherwise they are just gone."""
        world = self.bench.world
        if told:
            for key in (OWNER.key, OTHER.key, NRI.key):
                self.bench.engine.detach(key)
        for path in {PATH, OTHER_PATH} & set(world.paths):
            world.remove_path(path)
        self.bench.engine.recover()

    def see_that_all_can_be_cleared_up(
        self, before: dict[str, Any], moment: str, *, told: bool
    ) -> None:
        self.recover()
        assert violations(before, self.bench.scene()) == [], moment
        self.end_the_pods(told=told)
        assert self.home().keys() == before.keys(), moment
        assert violations(before, self.bench.scene()) == [], moment

    def home(self) -> dict[str, Any]:
        return dict(self.bench.scene().home)


def _words(outcome: object) -> str:
    """Everything that an outcome tells besides success."""
    match outcome:
        case Release():
            return " ".join(outcome.notes)
        case Attachment():
            return " ".join(outcome.notes)
        case tuple():
            return " ".join(map(_words, outcome))
        case None:
            return ""
        case _:
            return str(outcome)


def clean_run(verb: Verb) -> tuple[list[str], dict[str, Any]]:
    """The calls that it makes, and how the links are at home when all is over."""
    run = Run(verb)
    assert run.act() == ""
    made = list(run.calls.made)
    run.recover()
    run.end_the_pods(told=True)
    return made, run.home()


def faults(call: str) -> Iterator[Fault]:
    """All that may happen at such a call."""
    whens: tuple[When, ...] = ("before", "after") if changes_something(call) else ("before",)
    codes: tuple[int, ...] = (KILLED,) if call.startswith("lock.") else (KILLED, *ERRNOS)
    if call.startswith("journal.lock"):
        codes = (*codes, TIMED_OUT)
    yield from (Fault(code, when) for when in whens for code in codes)
    if changes_something(call):
        yield from (Fault(code, times=times) for code in PASSING for times in (3, 6))


def silent(said: str, call: str, fault: Fault) -> bool:
    """Whether nobody was told.  An attachment that is locked is in another's good hands."""
    return not said and not (fault.errno == TIMED_OUT and "attachment" in call)


@pytest.mark.parametrize("name", VERBS)
def test_each_call_of_each_verb_with_each_fault(name: str) -> None:
    verb = VERBS[name]
    made, before = clean_run(verb)
    for number, call in enumerate(made, 1):
        for fault in faults(call):
            moment = f"call {number}, {call}: {fault}"
            run = Run(verb)
            run.calls.choose(number, fault)
            said = run.act()
            run.calls.forgive()
            assert not run.bench.journal.locks, moment
            if silent(said, call, fault):
                assert violations(before, run.bench.scene()) == [], f"{moment}: silent"
            run.see_that_all_can_be_cleared_up(before, moment, told=bool(number % 2))


_FAULTS = st.builds(
    Fault,
    st.sampled_from((KILLED, *PASSING)),
    st.sampled_from(("before", "after")),
    st.sampled_from((1, 1, 3)),
)


@pytest.mark.parametrize("name", VERBS)
@settings(max_examples=100)
@given(chosen=st.lists(st.tuples(st.integers(1, 160), _FAULTS), min_size=2, max_size=4))
def test_a_second_fault_on_the_way_back(name: str, chosen: list[tuple[int, Fault]]) -> None:
    """The verb, then what clears up after it; faults fall where they fall.

    Judged when the pods have ended: a record that could not be marked as half taken back, by a
    full disk and then a death, speaks for its pod until that ends.
    """
    verb = VERBS[name]
    _, before = clean_run(verb)
    run = Run(verb)
    for number, fault in chosen:
        run.calls.choose(number, fault)
    run.act()
    run.act_otherwise()
    run.calls.forgive()
    run.recover()
    run.end_the_pods(told=len(chosen) % 2 == 0)
    assert violations(before, run.bench.scene()) == []
