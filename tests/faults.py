"""Every call that the CNI plugin makes of the kernel and of files goes wrong, on real links.

`python -m tests.faults` (`make faults`) takes half an hour, prints a table and writes it into
docs/reliability.md; `python -m tests.faults GC` only tries that verb.  With ALL=1 each call fails
with every errno, which takes hours.
Each verb runs as the executable runs it, ``main(environ, stdin, stdout)``, in a child of its own
with the seams (tests/seams.py) in place.  Then a recovery without faults, and the oracle looks;
then the pod ends, and it looks again.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests import children, seams
from tests.children import answer, with_faults
from tests.host import Host, run
from tests.linkstate import captures
from tests.reliability import write_section
from tests.scenes import Watched, records
from tests.seams import ERRNOS, KILL, Event, Fault
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

CONF: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "net",
    "type": "cni-netdev",
    "devices": [
        {
            "name": "nic1",
            "new_name": "nic2",
            "address": "192.168.2.2/24",
            "mtu": 1400,
            "routes": [{"dst": "10.9.0.0/16", "gw": "192.168.2.1"}],
            "txqlen": 10,
            "altnames": ["fast"],
            "dad": "off",
            "sysctls": {"net.ipv4.conf.rp_filter": 1},
            "rules": [{"from": "192.168.2.2", "table": 100}],
            "neighbors": [{"address": "192.168.2.9", "mac": "02:00:00:00:00:09"}],
        },
        {"name": "nic2", "new_name": "nic1", "addresses": ["fd99::2/64"]},
    ],
}
_TAMPERED = """\
link set nic2 down
link set nic2 name mine mtu 1300 address 02:bb:00:00:00:01 alias forged
link property add dev mine altname planted
link set mine up promisc on
"""
# What is called more often than this from one place of the code is tried at the first, the middle
# and the last of them: reading 280 sysctls is one thing that can fail.
_OFTEN = 12


def _recover() -> int:
    return children.netdevctl("recover")


class Trial:
    """A host with two configured links and a pod, where verbs are tried."""

    def __init__(self, host: Host) -> None:
        self.host = host
        for number, name in enumerate(("nic1", "nic2"), 1):
            host.configured(name, number)
        self.pod = host.pod()
        until(_ipv6_is_there, str)
        self.watched = Watched(host, "nic1", "nic2")
        self._first_move: Event | None = None

    def cni(self, verb: str, **conf: Any) -> int:
        return children.cni(verb, {**CONF, **conf}, netns=self.pod.path)

    def home(self) -> None:
        assert self.end(told=True) == []

    def inside(self) -> Mapping[str, str]:
        """Which links are in a pod, and in which; a pinned one's are in none."""
        return self.watched.scene(*self.pods()).inside

    def attached(self) -> None:
        """Unless it is, untouched by a case that went wrong early."""
        if not records():
            answer(lambda: self.cni("ADD")).ok()

    def tampered(self) -> None:
        if records():
            return
        self.attached()
        run("ip", "-n", self.pod.name, "-batch", "-", stdin=_TAMPERED)

    def dead(self) -> None:
        self.tampered()
        self.pod.delete()

    def half(self) -> None:
        """Killed when the first link was in the pod."""
        if self._first_move is None:
            _, events = with_faults(lambda: self.cni("ADD"), {})
            assert self.end(told=True) == []
            self._first_move = next(each for each in events if each.text.startswith("move"))
        fatal = {self._first_move.place: Fault(KILL, "after")}
        said, _ = with_faults(lambda: self.cni("ADD"), fatal)
        assert said.code < 0, said

    # --- afterwards --------------------------------------------------------------------------

    def recover(self) -> list[str]:
        """Without faults, as the next call would; what is not as it must be then."""
        answer(_recover)
        return self.watched.violations(*self.pods())

    def end(self, *, told: bool) -> list[str]:
        """The pod ends, told or not, and there is a new one; what is not as it must be then."""
        wrong = []
        if records():
            if not told and self.pods():
                self.pod.delete()
                answer(_recover)
            answer(lambda: self.cni("DEL")).ok()
            wrong = self.watched.violations(*self.pods())
        wrong += [each for pod in self.pods() for each in self._rules_of(pod)]
        if not self.pods():
            self.pod = self.host.pod()
        return wrong

    def _rules_of(self, pod: str) -> list[str]:
        """Those of a pod that lives on, which must not have ours any more."""
        rules = run("ip", "-n", pod, "-d", "rule").splitlines()
        return [f"rule {each} is left" for each in rules if "proto 110" in each]

    def pods(self) -> list[str]:
        return [self.pod.name] if Path(self.pod.path).exists() else []


def _ipv6_is_there() -> bool:
    """What the kernel makes in its own time, of each link: its link-local address beside ours,
    and the local routes of three others.
    """
    return all(
        len(state["link-local"]) == 2
        and sum(each["dst"].startswith("fd") for each in state["routes"]) >= 5
        for state in captures("nic1", "nic2").values()
    )


class Verb(NamedTuple):
    """prepare: before each case.  act: what is tried, in a child.

    attached: prepared is what is attached; where it still is so, the next case may begin.
    """

    prepare: Callable[[Trial], object]
    act: Callable[[Trial], int]
    attached: bool = False


VERBS = {
    "ADD": Verb(lambda trial: None, lambda trial: trial.cni("ADD")),
    "DEL": Verb(Trial.tampered, lambda trial: trial.cni("DEL"), attached=True),
    "CHECK": Verb(Trial.attached, lambda trial: trial.cni("CHECK"), attached=True),
    "GC": Verb(Trial.tampered, lambda trial: trial.cni("GC", **{"cni.dev/valid-attachments": []})),
    "recover, pod dead": Verb(Trial.dead, lambda _: _recover()),
    "recover, ADD killed": Verb(Trial.half, lambda _: _recover()),
}


# --- what is tried ----------------------------------------------------------------------------


class Case(NamedTuple):
    event: Event
    fault: Fault

    def __str__(self) -> str:
        error = errno.errorcode.get(self.fault.errno, "SIGKILL")
        what, where, nth, text, _ = self.event
        return f"{error} {self.fault.when} {what} {text} ({where}, {nth})"


def calls_of(verb: Verb, trial: Trial) -> list[Event]:
    """Those that the verb makes when nothing goes wrong."""
    verb.prepare(trial)
    said, events = with_faults(lambda: verb.act(trial), {})
    assert said.code == 0, said
    assert trial.recover() == []
    assert trial.end(told=True) == []
    return events


def worth_trying(events: Sequence[Event]) -> list[Event]:
    """The calls; of those for files that are made over and over from one place only three."""
    counts = Counter(event[:2] for event in events)

    def is_one_of_few(event: Event) -> bool:
        last = counts[event[:2]]
        few = last <= _OFTEN or event.what == "netlink"
        return few or event.nth in (1, last // 2, last)

    return [event for event in events if is_one_of_few(event)]


def every_case(events: Sequence[Event]) -> Iterator[Case]:
    """Each call with each errno, and killed; also after it was done, if it does something."""
    for event in worth_trying(events):
        for when in ("before", "after") if event.changes else ("before",):
            yield Case(event, Fault(KILL, when))
            if when == "before" or event.what == "netlink":
                yield from (Case(event, Fault(code, when)) for code in ERRNOS)


def every_call(events: Sequence[Event]) -> Iterator[Case]:
    """Each call with one errno after the other, and killed before it."""
    for turn, event in enumerate(worth_trying(events)):
        yield Case(event, Fault(ERRNOS[turn % len(ERRNOS)]))
        yield Case(event, Fault(KILL))


def some_cases(events: Sequence[Event]) -> Iterator[Case]:
    """The first call of each kind from each place, with one errno after the other."""
    first: dict[tuple[str, ...], Event] = {}
    for event in events:
        first.setdefault((*event[:2], *event.text.split()[:2]), event)
    for turn, event in enumerate(first.values()):
        may_be_done = event.changes and event.what == "netlink"
        when: seams.When = "after" if may_be_done and turn % 2 else "before"
        yield Case(event, Fault(ERRNOS[turn % len(ERRNOS)], when))


class Result(NamedTuple):
    """what: ``refused``, ``survived`` or ``killed``.  wrong: what should not be, in sentences."""

    what: str
    wrong: list[str]


def tried(verb: Verb, trial: Trial, case: Case) -> Result:
    """One case from beginning to end."""
    verb.prepare(trial)
    said, _ = with_faults(lambda: verb.act(trial), {case.event.place: case.fault})
    words = said.stderr + (said.stdout if said.code else "")
    wrong = []
    if "999" in said.stdout or "Traceback" in said.stderr or said.code in (99, 70):
        wrong.append(f"not foreseen: {said.stdout} {said.stderr}")
    if said.code > 0 and not words:
        wrong.append("failed without a word")
    # Of a dead pod that nobody was sure of nothing is taken, and nothing is said.
    unsure = not trial.pods() and records()
    if said.code == 0 and not words and not unsure:
        # A lock's file that could not be removed holds nobody up until it is swept.
        wrong += [
            f"without a word: {each}"
            for each in trial.watched.violations(*trial.pods())
            if "left over: locks/" not in each
        ]
    wrong += [f"after a recovery: {each}" for each in trial.recover()]
    if not verb.attached:
        ended = trial.end(told=bool(case.event.nth % 2))
        wrong += [f"when the pod had ended: {each}" for each in ended]
    return Result("killed" if said.code < 0 else "survived" if said.code == 0 else "refused", wrong)


# --- all of it --------------------------------------------------------------------------------


class Row(NamedTuple):
    verb: str
    events: int
    results: Counter[str]
    seconds: float

    def line(self) -> str:
        counts = self.results
        total = counts["refused"] + counts["survived"] + counts["killed"]
        cells = (
            self.verb,
            self.events,
            total,
            *(counts[each] for each in ("refused", "survived", "killed", "wrong")),
        )
        return f"| {' | '.join(map(str, cells))} |"


_WORDS = """\
## Faults

Written by `make faults`.  Each call of each verb to the kernel and to files fails with one of
EBUSY, ENODEV, EEXIST, EPERM, ENOMEM, ENOSPC, EINTR and ENOBUFS in turn ({which}),
and is the last before SIGKILL, but for the NRI plugin's, whose death is tried at every step in
tests/e2e/test_nri_killed.py.  Of calls for files that are made more than a dozen times from one
place the first, the middle one and the last are taken.

Two links with all that an administrator may have set on them are lent to a pod, which tampers with
one.  After a recovery each must be in the pod that its record names, or at home exactly as it was,
and nothing left over; the same when the pod has ended.  What goes wrong without a word counts as
wrong, too.

"""
_HEAD = """\
| verb | calls made | faults | refused, with words | done all the same | killed | lost or wrong |
|---|---|---|---|---|---|---|"""


def try_verb(name: str, cases: Callable[[Sequence[Event]], Iterable[Case]]) -> Row:
    verb, results, start = VERBS[name], Counter[str](), time.monotonic()
    waiting: list[Case] | None = None
    events: list[Event] = []
    while waiting is None or waiting:
        with tempfile.TemporaryDirectory() as directory, Host.enter(Path(directory)) as host:
            trial = Trial(host)
            if waiting is None:
                events = calls_of(verb, trial)
                waiting = list(cases(events))[::-1]
            while waiting:
                case = waiting.pop()
                result = tried(verb, trial, case)
                results[result.what] += 1
                if result.wrong:
                    results["wrong"] += 1
                    print(f"{name}: {case}", *result.wrong, sep="\n    ", flush=True)
                    break  # on with a host that is whole
            else:
                assert trial.end(told=True) == []
    return Row(name, len(events), results, time.monotonic() - start)


def everything(names: Sequence[str]) -> None:
    """Of these verbs; with none named of all, and of the NRI plugin's, into the document."""
    from tests import nri_faults

    thorough = bool(os.environ.get("ALL"))
    cases = every_case if thorough else every_call
    of_cni = (try_verb(name, cases) for name in names or VERBS)
    rows = []
    print(_HEAD)
    for row in chain(of_cni, () if names else nri_faults.everything(cases)):
        print(row.line(), f"{row.seconds:.0f} s", flush=True)
        rows.append(row)
    if not names:
        told = "\n".join([_HEAD, *(row.line() for row in rows)])
        which = "here with each of them" if thorough else "with ALL=1 with each of them"
        write_section("faults", f"{_WORDS.format(which=which)}\n{told}")
    if any(row.results["wrong"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    everything(sys.argv[1:])
