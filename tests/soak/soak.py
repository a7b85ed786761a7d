"""Rounds of a plan on a node, until the time is over or something is lost."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.containerd import RuntimeRefused
from tests.host import run
from tests.soak import plan
from tests.soak.chronicle import Chronicle
from tests.soak.cni_guests import CniGuest
from tests.soak.guests import Guest, Untrue
from tests.soak.links import BY_NAME
from tests.soak.node import CONF
from tests.soak.nri_guests import CriGuest, GoGuest
from tests.soak.places import HOST, NAMED, astray, inside, not_home, strangers
from tests.soak.tampering import tamper
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.soak.node import Node, Sample

_GUESTS: Mapping[str, type[Guest]] = {"cni": CniGuest, "cri": CriGuest, "go": GoGuest}
_LAST_LINES = 60
_HIDDEN = "x-*"


class Lost(Exception):
    """A link is not where or what it must be, or something is left; with all that is known."""


class Soak:
    """seed: what the rounds are drawn from.  tell: gets a line for each round.

    patience: seconds in which what nobody is told of must have come home.
    """

    def __init__(
        self, node: Node, seed: str, tell: Callable[[str], None], patience: float = 30
    ) -> None:
        self.chronicle = Chronicle()
        self.samples: list[Sample] = []
        self._node = node
        self._seed = seed
        self._tell = tell
        self._patience = patience
        self._guests: dict[str, Guest] = {}

    def run(self, end: float, first: int = 0) -> None:
        """Rounds from this number on, as long as one fits in before ``end`` (monotonic).

        At least one.  Raises Lost.
        """
        number, longest = first, 0.0
        while number == first or time.monotonic() + longest < end:
            began = time.monotonic()
            self._round(plan.draw(self._seed, number))
            longest = max(longest, time.monotonic() - began)
            number += 1

    def _round(self, drawn: plan.Round) -> None:
        self.chronicle.next_round()
        self._node.forget_logs()
        self._guests = {}
        try:
            self._node.chain(chained=drawn.chained)
            for bout in drawn.bouts:
                self._bout(bout)
                self.chronicle.tell("bout", "all lanes have ended")
                self._see_that_none_is_astray()
                self._at_rest(bout.at_rest)
                self._see_that_none_is_astray()
            self._close(drawn.closing)
            self._see_that_all_is_home()
        except Exception as error:
            raise Lost(self._report(drawn, error)) from error
        finally:
            for guest in self._guests.values():
                guest.leave()
        for guest in self._guests.values():
            guest.came_home("by GC, recover or a plugin's own look")
        for agent, number in self._node.answered().items():
            self.chronicle.count("answered", agent, number)
        self.samples.append(self._node.sample())
        self.chronicle.count("rounds")
        self._tell(self._line(drawn))

    # --- a bout ------------------------------------------------------------------------------

    def _bout(self, bout: plan.Bout) -> None:
        progress = _Progress(len(bout.lanes))
        with ThreadPoolExecutor(len(bout.lanes) + 1) as pool:
            working = [pool.submit(self._lane, lane, progress) for lane in bout.lanes]
            working.append(pool.submit(self._kill_all, bout.kills, progress))
            for each in working:
                each.result()

    def _lane(self, steps: Iterable[plan.Step], progress: _Progress) -> None:
        try:
            for step in steps:
                progress.step()
                self._step(step)
        finally:
            progress.lane_ended()

    def _step(self, step: plan.Step) -> None:
        if step.front == "operator":
            self._operate(step.what)
            return
        if step.what == "start":
            self._guests[step.pod] = _GUESTS[step.front](self._node, self.chronicle, step)
            self.chronicle.count("pods", self._guests[step.pod].where)
        guest = self._guests[step.pod]
        guest.note(f"{step.what} {step.how}")
        deeds: dict[str, Callable[[], None]] = {
            "start": guest.start,
            "again": guest.again,
            "check": guest.check,
            "create": guest.create,
            "tamper": lambda: self._tamper(guest, step.how),
            "end": lambda: guest.end(step.how),
        }
        deeds[step.what]()

    def _tamper(self, guest: Guest, how: str) -> None:
        if guest.path and Path(guest.path).exists():
            guest.tampered = True
            guest.note(tamper(guest, how))
            self.chronicle.count("tampered", how)

    def _kill_all(self, kills: Iterable[plan.Kill], progress: _Progress) -> None:
        for kill in kills:
            progress.wait_for(kill.steps)
            time.sleep(kill.wait)
            victim = self._node.victims[kill.victim]
            if not victim.kill():
                continue
            self.chronicle.count("killed", kill.victim)
            self.chronicle.tell("kill", f"{kill.victim}, for {kill.away} s")
            time.sleep(kill.away)
            victim.revive()
            self.chronicle.tell("kill", f"{kill.victim} is back")

    # --- the operator ------------------------------------------------------------------------

    def _operate(self, what: str) -> None:
        """Looking, and recovering, disturb nobody."""
        if what == "status":
            answer = self._node.host.plugin("STATUS", CONF, container="", ifname="")
        else:
            answer = self._node.host.netdevctl(what)
        told = answer.stdout if what == "recover" else ""
        self.chronicle.tell("operator", f"{what}: {answer.code} {told} {answer.stderr}")
        self.chronicle.count("operator", what)
        if answer.code > 1 or "Traceback" in answer.stderr:
            raise Untrue(f"{what}: {answer}")

    def _at_rest(self, what: str) -> None:
        if what == "gc":
            self._gc([guest for guest in self._guests.values() if guest.told])
        if what == "recover":
            self._operate("recover")

    def _gc(self, living: Sequence[Guest]) -> None:
        """Of the pods that the plugin is called for by hand; the runtime may not call it now."""
        valid = [
            {"containerID": guest.name, "ifname": "eth0"}
            for guest in living
            if isinstance(guest, CniGuest)
        ]
        conf = {**CONF, "cni.dev/valid-attachments": valid}
        answer = self._node.host.plugin("GC", conf, container="", ifname="")
        self.chronicle.tell("operator", f"GC: {answer.code} {answer.stdout} {answer.stderr}")
        self.chronicle.count("operator", "gc")
        if answer.code:
            raise Untrue(f"GC: {answer}")
        for guest in self._guests.values():
            if isinstance(guest, CniGuest) and guest not in living:
                guest.gone("GC")

    # --- the end of a round ------------------------------------------------------------------

    def _close(self, how: str) -> None:
        """Every pod that is left ends, and what was killed half way is cleared."""
        if how == "gc":
            self._gc(())
        for guest in list(self._guests.values()):
            if guest.front != "cri" and guest.path and Path(guest.path).exists():
                ending = "never told" if how == "never told" else "told"
                guest.note(f"end {ending}, closing")
                guest.end(ending)
        self._end_sandboxes()
        for guest in self._guests.values():
            guest.leave()
        self._unname_all()
        if how == "never told":
            until(self._all_are_back, self._who_is_away, self._patience)
        self._operate("recover")
        until(self._all_are_back, self._who_is_away, self._patience)
        for further in NAMED.glob(_HIDDEN):
            run("ip", "netns", "delete", further.name)
        # What ptp and cnitool keep of pods that were killed half way is no affair of ours.
        for each in Path("/var/lib/cni").glob("*"):
            shutil.rmtree(each)

    def _end_sandboxes(self) -> None:
        containerd = self._node.containerd

        def none_is_left() -> bool:
            for sandbox in containerd.pods():
                try:
                    containerd.stop_pod(sandbox)
                    self._node.remove_sandbox(sandbox)
                except RuntimeRefused as refused:
                    self.chronicle.tell("operator", f"sandbox {sandbox} stays: {refused}")
            return not containerd.pods()

        until(none_is_left, containerd.pods, self._patience)

    def _unname_all(self) -> None:
        """Namespaces, and processes, of sandboxes that died before containerd knew them."""
        for pid, what in strangers(self._node.residents()).items():
            self.chronicle.tell("operator", f"kills {pid} {what}")
            subprocess.run(["kill", "-KILL", str(pid)], check=False, capture_output=True)
        for each in NAMED.glob("*"):
            if not each.match(_HIDDEN):
                self.chronicle.tell("operator", f"deletes {each.name}")
                run("ip", "netns", "delete", each.name)

    # --- looking -----------------------------------------------------------------------------

    def _see_that_none_is_astray(self) -> None:
        claims = [claim for guest in self._guests.values() for claim in guest.claims()]

        def trouble() -> dict[str, str]:
            return astray(claims, [str(each) for each in NAMED.glob(_HIDDEN)])

        until(lambda: not trouble(), trouble, self._patience)
        self.chronicle.count("looks", "at rest")

    def _all_are_back(self) -> bool:
        return not self._who_is_away()

    def _who_is_away(self) -> list[str]:
        return sorted(BY_NAME.keys() - inside(HOST).keys())

    def _see_that_all_is_home(self) -> None:
        node = self._node

        def trouble() -> list[str]:
            return not_home(node.untouched, node.host, node.residents())

        until(lambda: not trouble(), trouble, self._patience)
        self.chronicle.count("looks", "all home")

    # --- telling -----------------------------------------------------------------------------

    def _line(self, drawn: plan.Round) -> str:
        chronicle = self.chronicle
        counted = ("pods", "attached", "detached", "refused", "killed")
        words = ", ".join(f"{chronicle.total(what)} {what}" for what in counted)
        memory = self.samples[-1].memory / 1024
        return f"round {drawn.number}, {chronicle.seconds:.0f} s: {words}; {memory:.1f} MiB"

    def _report(self, drawn: plan.Round, error: Exception) -> str:
        """Enough to understand it, and to have it again; what matters most comes last."""
        lines = []
        for name, path in self._node.logs().items():
            text = path.read_text(errors="replace").splitlines() if path.exists() else []
            lines += [f"--- last lines of {name} ---", *text[-_LAST_LINES:], ""]
        concerned = [link for link in BY_NAME if re.search(rf"\b{link}\b", str(error))]
        for link in concerned or [""]:
            lines += [f"--- history of {link or 'all'} ---", *self.chronicle.history(link), ""]
        return "\n".join(
            (
                *lines,
                f"round {drawn.number}, chained: {drawn.chained}, closing: {drawn.closing}",
                f"again: make soak SEED={self._seed} ROUND={drawn.number} MINUTES=0",
                f"{type(error).__name__}: {error}",
            )
        )


class _Progress:
    """How many steps of a bout have begun, for whoever waits for one of them."""

    def __init__(self, lanes: int) -> None:
        self._changed = threading.Condition()
        self._steps = 0
        self._lanes = lanes

    def step(self) -> None:
        with self._changed:
            self._steps += 1
            self._changed.notify_all()

    def lane_ended(self) -> None:
        with self._changed:
            self._lanes -= 1
            self._changed.notify_all()

    def wait_for(self, steps: int) -> None:
        """Return when more than so many steps have begun, or no more will."""
        with self._changed:
            self._changed.wait_for(lambda: self._steps > steps or not self._lanes)
