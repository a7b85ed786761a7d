"""Pods of the soak, as their runtimes treat them, each by one of the front ends.

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

from tests.containerd import RuntimeRefused
from tests.host import Pod, run
from tests.injector import KEY
from tests.lines import Ended
from tests.nri_runtime import PluginRefused, pod
from tests.soak.answers import RUNTIMES_OWN, reason, reason_of_containerd
from tests.soak.node import CNITOOLS, CONF
from tests.soak.places import Claim, Holding, inside, namespace, records
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.host import Answer
    from tests.soak.chronicle import Chronicle
    from tests.soak.node import Node
    from tests.soak.plan import Step

_PATIENCE = 10.0  # seconds
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
        self.told = ()

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
        return [Claim(self.name, link, self.hidden.get(link, self.path)) for link in self.told]

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
        fronts = {each.front for each in records() if each.links and self._whole(each)}
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
        """Its runtime has said that it ended."""
        left = [each for each in records() if each.path == self.path]
        self.note(f"ended, {how}{f'; still on record: {left}' if left else ''}")
        if self.attached and not left:
            self.came_home(how)

    def came_home(self, how: str) -> None:
        """What it had is on the host again."""
        if self.attached:
            self.attached = False
            self._chronicle.count("detached", how)

    def _whole(self, record: Holding) -> bool:
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

    def unname(self) -> None:
        """Take the namespace's path away."""
        with suppress(AssertionError):  # the runtime did so already
            run("ip", "netns", "delete", Path(self.path).name)
        self.note("its namespace has no path any more")


class CniGuest(Guest):
    """By the real executable, called by hand or by cnitool, in a named namespace."""

    front = "cni"
    where = "plain namespace"

    def start(self) -> None:
        self.path = Pod(self.name).path
        self.again()

    def again(self) -> None:
        """ADD, the first or a repeated one."""
        if not Path(self.path).exists():
            return
        answer = self._call("ADD")
        if answer.code == 0:
            self.was_given()
            return
        if self.told and reason(_words(answer)) not in ("killed", "busy"):
            # It was not as attached any more: undone, and done anew by then or not.
            self.came_home("undone by a repeated ADD")
        self.told = ()
        self.was_refused(_words(answer))

    def check(self) -> None:
        answer = self._call("CHECK")
        why = reason(_words(answer)) if answer.code else "ok"
        self.note(f"CHECK: {answer.code} {_words(answer)}")
        if self.told and not self.tampered and why not in ("ok", "killed"):
            raise Untrue(f"CHECK of {self.name}, which has {self.told}: {_words(answer)}")
        self._chronicle.count("checks")

    def end(self, how: str) -> None:
        super().end(how)
        if how.startswith("namespace first") or how == "never told":
            if how.endswith("inside"):
                self.occupy()
            self.unname()
        if how == "never told":
            return
        for _ in range(2 if how == "told twice" else 1):
            self._delete(how)
        if Path(self.path).exists():
            self.unname()

    def _delete(self, how: str) -> None:
        answer = self._call("DEL")
        why = reason(_words(answer)) if answer.code else "ok"
        if why not in ("ok", "killed", "busy"):
            raise Untrue(f"DEL of {self.name}: {_words(answer)}")
        self.gone(f"DEL, {how}" if why == "ok" else f"DEL, {why}")

    def _call(self, verb: str) -> Answer:
        if self._channel == "cnitool":
            arguments = {"io.kubernetes.cri.pod-annotations": self.annotations or None}
            return self._node.host.cnitool(verb.lower(), CNITOOLS, self.path, cap_args=arguments)
        return self._node.host.plugin(
            verb, {**CONF, **self._asked()}, netns=self.path, container=self.name
        )

    def _asked(self) -> dict[str, Any]:
        by_channel: dict[str, dict[str, Any]] = {
            "devices": {"devices": self.devices},
            "annotation": {
                "runtimeConfig": {"io.kubernetes.cri.pod-annotations": self.annotations or None}
            },
            "capability": {"runtimeConfig": {"netDevices": self.devices}},
        }
        return by_channel[self._channel] if self.wish.devices else {}

    @property
    def valid(self) -> bool:
        """Whether GC is to leave it alone."""
        return bool(self.told) and self._channel != "cnitool"


def _words(answer: Answer) -> str:
    """All that a failed call said."""
    if answer.code < 0:
        return "killed by us"
    return f"{answer.stdout} {answer.stderr}"


class NriGuest(Guest):
    """What the two runtimes' pods have in common: nothing runs in them without their devices."""

    def looked_at(self) -> None:
        """The runtime says it runs.  Whether its plugin was there is to be seen."""
        lent = {link for each in records() if self._whole(each) for link in each.links}
        if set(self.wish.links) <= lent and not self.wish.fault:
            self.was_given()
        else:
            self.note("started without its plugin")
            self._chronicle.count("without")

    def create(self) -> None:
        """It must not be had without the devices."""
        try:
            self._create()
        except (PluginRefused, RuntimeRefused, Ended) as refused:
            besides = {"without its plugin"} | (set() if self.told else {"without its device"})
            self.was_refused(_told(refused), besides=frozenset(besides))
            return
        if self.wish.fault:
            raise Untrue(f"a container runs in {self.name}, which asked for {self.wish}")
        missing = set(self.wish.links) - inside(self.path).keys() - self.hidden.keys()
        if missing:
            raise Untrue(f"a container runs in {self.name} without {missing}")
        self._chronicle.count("containers")

    def _create(self) -> None:
        raise NotImplementedError


class GoGuest(NriGuest):
    """By NRI's own runtime side, in a named namespace."""

    front = "go"
    where = "Go's NRI side"

    def start(self) -> None:
        self.path = Pod(self.name).path
        self._node.go.pods[self.name] = self._document
        if self._tell("run"):
            self.looked_at()

    @property
    def _document(self) -> dict[str, Any]:
        there = self.path if Path(self.path).exists() else ""
        return pod(self.name, self.annotations, netns=there)

    def end(self, how: str) -> None:
        super().end(how)
        if how in ("namespace first", "never told"):
            self.unname()
        self._node.go.pods.pop(self.name, None)
        if how == "never told":
            return
        for event in ("remove",) if how == "removed without a stop" else ("stop", "remove"):
            self._tell(event)
        self.gone(f"Stop and Remove, {how}")
        if Path(self.path).exists():
            self.unname()

    def _tell(self, event: str) -> bool:
        try:
            self._node.go.runtime.do(event, pod=self._document)
        except (PluginRefused, Ended) as refused:
            self.was_refused(_told(refused))
            return False
        return True

    def _create(self) -> None:
        self._node.go.runtime.create(self._document, f"{self.name}-main")


class CriGuest(NriGuest):
    """A sandbox of the real containerd."""

    front = "cri"
    where = "containerd"

    def __init__(self, node: Node, chronicle: Chronicle, step: Step) -> None:
        super().__init__(node, chronicle, step)
        self._id = ""
        self._containers = 0

    def start(self) -> None:
        self._node.containerd_is_there.wait(_PATIENCE)  # or most would only hear that it is not
        if self._ask(self._run):
            self.looked_at()

    def _run(self) -> None:
        self._id = self._node.containerd.run_pod(self.name, self.annotations)
        self.path = self._node.containerd.netns(self._id)

    def end(self, how: str) -> None:
        super().end(how)
        if not self._id:
            return
        if how == "namespace first":
            self.unname()
        if how == "processes first":
            self._kill_processes()
        if self._ask(lambda: self._node.containerd.stop_pod(self._id)):
            self.gone(f"StopPodSandbox, {how}")
            self._ask(lambda: self._node.remove_sandbox(self._id))

    def _reason(self, answer: str) -> str:
        return reason_of_containerd(answer)

    def _kill_processes(self) -> None:
        pids = run("ip", "netns", "pids", Path(self.path).name).split()
        subprocess.run(["kill", "-KILL", *pids], check=False, capture_output=True)
        self.note("its processes were killed")

    def _create(self) -> None:
        if not self._id:
            raise Ended("its sandbox is not running")
        self._containers += 1
        self._node.containerd.create(self._id, f"c{self._containers}")

    def _ask(self, deed: Callable[[], None]) -> bool:
        try:
            deed()
        except (RuntimeRefused, Ended) as refused:
            self.was_refused(_told(refused))
            return False
        return True


def _told(refused: Exception) -> str:
    """What the runtime said; one that was killed says nothing."""
    return "the runtime is not running" if isinstance(refused, Ended) else str(refused)


GUESTS: Mapping[str, type[Guest]] = {"cni": CniGuest, "cri": CriGuest, "go": GoGuest}
