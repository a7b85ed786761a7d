"""Pods of the soak, and what holds for them whatever their front end.

A guest does what a Step says, believes what it is told, and looks whether that is true: who was
told that it has a device has it; who asked in a wrong way was refused, and why is one of a few
reasons.  Anything else is Untrue, with which the soak ends.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.host import run
from tests.injector import KEY
from tests.soak.answers import RUNTIMES_OWN, reason
from tests.soak.places import Claim, Holding, inside, namespace, records
from tests.wait import until

if TYPE_CHECKING:
    from tests.soak.chronicle import Chronicle
    from tests.soak.node import Node
    from tests.soak.plan import Step

# Why a pod may be refused that asked for nothing but links that may be lent.
_NO_FAULT = frozenset(("held", "busy", "late", "killed", "runtime away", RUNTIMES_OWN))


class Untrue(Exception):
    """What was said and what is there are not the same."""


class Guest:
    """What pods of all front ends have in common.

    path: of its network namespace, "" before there is one.  told: the links that it was told to
    have, and can lose by nobody's doing but its own runtime's.
    """

    front = ""
    where = ""  # in the table's words

    def __init__(self, node: Node, chronicle: Chronicle, step: Step) -> None:
        self.name = step.pod
        self.path = ""
        self.wish = step.wish
        self.told: tuple[str, ...] = ()
        self.attached = False
        self.hidden: dict[str, str] = {}
        self.tampered = False
        self._node = node
        self._chronicle = chronicle
        self._channel = step.how
        self._occupant: subprocess.Popen[bytes] | None = None

    # --- what each front end does its own way ------------------------------------------------

    def start(self) -> None:
        raise NotImplementedError

    def again(self) -> None:
        """What its runtime did already, once more."""
        raise NotImplementedError

    def check(self) -> None:
        raise NotImplementedError

    def create(self) -> None:
        """A container in it."""
        raise NotImplementedError

    def end(self, how: str) -> None:
        """how: one of plan.ENDINGS."""
        self.note(f"ends, {how}")
        if how != "never told, with a process inside":  # which keeps what the pod has
            self.told = ()

    def prepare_end(self, how: str) -> None:
        """What becomes of a namespace of its own before anybody is told."""
        if how.endswith("with a process inside"):
            self.occupy()
        if how.startswith(("namespace first", "never told")):
            self.unname()

    # --- what it has -------------------------------------------------------------------------

    @property
    def devices(self) -> list[dict[str, Any]]:
        """What it asks for, as written."""
        macs = self._node.macs
        return [
            {**each, "hwaddr": macs[each["hwaddr"]]} if "hwaddr" in each else dict(each)
            for each in self.wish.devices
        ]

    @property
    def annotations(self) -> dict[str, str]:
        return {KEY: json.dumps(self.devices)} if self.wish.devices else {}

    def claims(self) -> list[Claim]:
        """Where its links must be."""
        here = f"/proc/{self._occupant.pid}/ns/net" if self._occupant else self.path
        return [Claim(self.name, link, self.hidden.get(link, here)) for link in self.told]

    def was_given(self) -> None:
        """It was told that it has all that it asked for."""
        if self.wish.fault:
            raise Untrue(f"{self.name} has what is {self.wish.fault}: {self.wish}")
        if not self.wish.links:
            self.note("started, with nothing asked for")
            return
        there = inside(self.path)
        missing = [link for link in self.wish.links if link not in there]
        if missing:
            raise Untrue(f"{self.name} was told to have {missing}, and has {there}")
        fronts = {each.front for each in records() if each.links and self.holds(each)}
        if not fronts:
            raise Untrue(f"{self.name} has {there}, and nothing of it is on record")
        by = " and ".join(sorted(fronts))
        self.note(f"attached by {by}: {there}")
        self.hidden.clear()
        if not self.attached:
            self.attached = True
            self._chronicle.count("attached", f"{self.where} by {by}")
            self._chronicle.count("devices", number=len(self.wish.links))
        self.told = self.wish.links

    def was_refused(self, answer: str, *, besides: frozenset[str] = frozenset()) -> None:
        """It was told why it has not what it asked for."""
        why = self._reason(answer)
        self.note(f"refused, {why}")
        if why not in _NO_FAULT | {self.wish.fault} | besides:
            raise Untrue(f"{self.name} asked for {self.devices} and was told: {answer}")
        self._chronicle.count("refused", why)

    def gone(self, how: str) -> None:
        """Its runtime, or somebody for it, has said that it ended."""
        left = [each for each in records() if each.path == self.path]
        self.note(f"ended, {how}{f'; still on record: {left}' if left else ''}")
        if not left:
            self.came_home(how)

    def came_home(self, how: str) -> None:
        """What it had is on the host again."""
        if self.attached:
            self.attached = False
            self._chronicle.count("detached", how)

    def holds(self, record: Holding) -> bool:
        """Whether it is the record of an attachment of its."""
        return record.complete and record.path == self.path

    def _reason(self, answer: str) -> str:
        return reason(answer)

    def note(self, text: str) -> None:
        self._chronicle.tell(f"{self.front} {self.name}", text, self.wish.links)

    # --- what it may do ----------------------------------------------------------------------

    def occupy(self) -> None:
        """Leave a process in the namespace that does not end with its path."""
        command = ["nsenter", f"--net={self.path}", "sleep", "infinity"]
        self._occupant = subprocess.Popen(command)
        own = f"/proc/{self._occupant.pid}/ns/net"
        until(lambda: namespace(own) == namespace(self.path), lambda: f"nobody enters {self.path}")

    def leave(self) -> None:
        """End that process."""
        if self._occupant is not None:
            self._occupant.kill()
            self._occupant.wait()
            self._occupant = None
            self.told = ()

    def unname(self) -> None:
        """Take the namespace's path away."""
        with suppress(AssertionError):  # the runtime did so already
            run("ip", "netns", "delete", Path(self.path).name)
        self.note("its namespace has no path any more")
