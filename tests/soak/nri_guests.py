"""Pods of the NRI plugin, on containerd and on NRI's own runtime side."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.containerd import RuntimeRefused
from tests.host import Pod, run
from tests.lines import Ended
from tests.nri_runtime import PluginRefused, pod
from tests.soak.answers import reason_of_containerd
from tests.soak.guests import Guest, Untrue
from tests.soak.places import inside, records

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.soak.chronicle import Chronicle
    from tests.soak.node import Node
    from tests.soak.plan import Step

_PATIENCE = 10.0  # seconds


class NriGuest(Guest):
    """What the two runtimes' pods have in common: nothing runs in them without their devices."""

    def looked_at(self) -> None:
        """The runtime says it runs.  Whether its plugin was there is to be seen."""
        lent = {link for each in records() if self.holds(each) for link in each.links}
        if lent >= set(self.wish.links) and (lent or not self.wish.devices):
            self.was_given()
        else:
            self.note("started without its plugin")
            self._chronicle.count("without")

    def create(self) -> None:
        """It must not be had without the devices, unless its plugin died while it was asked."""
        deaths = self._node.plugin_deaths
        try:
            self._create()
        except (PluginRefused, RuntimeRefused, Ended) as refused:
            besides = {"without its plugin"} | (set() if self.told else {"without its device"})
            self.was_refused(_told(refused), besides=frozenset(besides))
            return
        missing = set(self.wish.links) - inside(self.path).keys() - self.hidden.keys()
        if not self.wish.fault and not missing:
            self._chronicle.count("containers")
        elif self._node.plugin_deaths > deaths:
            self._chronicle.count("let through")
        else:
            raise Untrue(f"a container runs in {self.name}, which asked for {self.wish}: {missing}")

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
        self.prepare_end(how)
        self._node.go.pods.pop(self.name, None)
        if how.startswith("never told"):
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
        if self._ask(self._run):
            self.looked_at()

    def _run(self) -> None:
        self._id = self._node.containerd.run_pod(self.name, self.annotations)
        self.path = self._node.containerd.netns(self._id)

    def end(self, how: str) -> None:
        super().end(how)
        if not self._id:
            return
        if Path(self.path).is_file():
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
        self._await_containerd()
        self._containers += 1
        self._node.containerd.create(self._id, f"c{self._containers}")

    def _await_containerd(self) -> None:
        """It may be killed while it works; but most steps would find it away."""
        self._node.containerd_is_there.wait(_PATIENCE)

    def _ask(self, deed: Callable[[], None]) -> bool:
        self._await_containerd()
        try:
            deed()
        except (RuntimeRefused, Ended) as refused:
            self.was_refused(_told(refused))
            return False
        return True


def _told(refused: Exception) -> str:
    """What the runtime said; one that was killed says nothing."""
    return "the runtime is not running" if isinstance(refused, Ended) else str(refused)
