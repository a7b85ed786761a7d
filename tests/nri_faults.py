"""Every call that the NRI plugin makes of the kernel and of files goes wrong, with Go's runtime.

The plugin runs with the seams (tests/seams.py) in front of its deeds; a file says what goes wrong
in the next one, so that one plugin serves for many cases.  How it is killed, see
tests/e2e/test_nri_killed.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cni_netdev import install
from tests import seams
from tests.faults import Case, Result, Row
from tests.host import Host
from tests.injector import KEY, NriPlugin
from tests.nri_node import TWO, prepare
from tests.nri_runtime import GoRuntime, PluginRefused, pod
from tests.scenes import Watched
from tests.seams import KILL, Event, Fault
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tests.host import Pod

# In nri_plugin.handlers, where the runtime's calls end; a plugin that was started looks first.
_DEEDS = ("run", "release", "look_after", "synchronize")
_PLAN, _TRACE = "NETDEV_PLAN", "NETDEV_TRACE"
_LOOK_AGAIN_SECONDS = 15  # the plugin looks after its records every five
_PROGRAM = """\
#!{python}
import sys

sys.path[1:1] = {paths!r}
from tests.nri_faults import put_in_place

put_in_place()
from nri_plugin.main import entry

entry()
"""


# --- in the plugin ----------------------------------------------------------------------------


def put_in_place() -> None:
    """Let what the plan says go wrong in the deeds that it names; their calls are traced."""
    from nri_plugin.handlers import Handlers

    watch = seams.install()
    watch.on = False
    current = [0]
    for deed in _DEEDS:
        setattr(Handlers, deed, _planned(deed, getattr(Handlers, deed), watch, current))


def _planned(deed: str, real: Any, watch: seams.Seams, current: list[int]) -> Any:
    """current: the number of the plan whose calls are counted."""

    def call(*given: Any) -> Any:
        text = Path(os.environ[_PLAN]).read_text()
        plan = json.loads(text or "{}")
        if watch.on or deed not in plan.get("deeds", ()):
            return real(*given)
        if plan["number"] != current[0]:
            current[0] = plan["number"]
            watch.restart()
            watch.chosen = {tuple(plan["place"]): Fault(*plan["fault"])} if "place" in plan else {}
        watch.on = True
        try:
            return real(*given)
        finally:
            watch.on = False
            Path(os.environ[_TRACE]).write_text(json.dumps(watch.events))

    return call


# --- around it --------------------------------------------------------------------------------


# That something is on it, that it is not there: no failure, but an answer.
_ANSWERS = ((errno.EBUSY, "ask what is on link"), (errno.ENODEV, "look for link"))


class NriTrial:
    """A node with a plugin and a runtime, where a pod's life is tried."""

    def __init__(self, host: Host, runtime: GoRuntime) -> None:
        self.host = prepare(host)
        self.runtime = runtime
        self.watched = Watched(host, "dummy0", "nic1")
        self._plan, self._trace = (host.directory / each for each in ("plan", "trace"))
        self._plan.write_text("")
        program = host.directory / "injector-with-seams"
        program.write_text(_PROGRAM.format(python=sys.executable, paths=install._library_paths()))
        program.chmod(0o755)
        env = {_PLAN: str(self._plan), _TRACE: str(self._trace)}
        # Its agent works on a thread of its own, whose calls are none of these.
        silent = {"agentSocket": ""}
        self.plugin = NriPlugin(
            host, runtime.socket, program=program, env=env, configuration=silent
        )
        self._synchronized = self._pods = self._plans = 0

    def start(self) -> None:
        self.plugin.start()
        self._synchronized += 1
        self.plugin.wait_for("synchronized", count=self._synchronized)

    def plan(self, case: Case | None, *deeds: str) -> None:
        self._plans += 1
        chosen = {"place": case.event.place, "fault": case.fault} if case else {}
        self._plan.write_text(json.dumps({"deeds": deeds, "number": self._plans, **chosen}))

    def forgive(self) -> None:
        self._plan.write_text("")

    def events(self) -> list[Event]:
        """Those of the last deed that was planned."""
        return [Event(*each) for each in json.loads(self._trace.read_text())]

    def new_pod(self) -> tuple[Pod, dict[str, Any]]:
        self._pods += 1
        inside = self.host.pod(f"pod{self._pods}")
        return inside, pod(f"p{self._pods}", {KEY: TWO}, netns=inside.path)

    def told(self) -> int:
        return len(self.plugin.lines(level="warn")) + len(self.plugin.lines(level="error"))

    def wrong(self, *pods: str) -> list[str]:
        """What is not as it must be, by now or when the plugin has looked again."""
        found: list[str] = []

        def look() -> bool:
            found[:] = self.watched.violations(*pods)
            return not found

        try:
            until(look, str, _LOOK_AGAIN_SECONDS)
        except AssertionError:
            return found
        return []

    # --- the three calls ---------------------------------------------------------------------

    def refusal(self, one: dict[str, Any]) -> str:
        """What the runtime is told when it starts the pod; empty when that is well."""
        try:
            self.runtime.run(one)
        except PluginRefused as error:
            return str(error)
        return ""

    def run(self, case: Case | None) -> Result:
        inside, one = self.new_pod()
        self.plan(case, "run")
        refusal = self.refusal(one)
        what, wrong = "refused" if refusal else "survived", []
        if refusal and not _said(case, refusal):
            wrong.append(f"says {refusal}")
        self.forgive()
        wrong += [f"afterwards: {each}" for each in self.wrong(inside.name)]
        self.runtime.stop(one)
        inside.delete()
        return Result(what, [*wrong, *self.wrong()])

    def stop(self, case: Case | None) -> Result:
        inside, one = self.new_pod()
        self.runtime.run(one)
        told = self.told()
        self.plan(case, "release")
        self.runtime.stop(one)
        self.forgive()
        silent = self.told() == told
        wrong = self.watched.violations(inside.name) if silent else []
        inside.delete()
        what = "survived" if silent else "refused"
        return Result(what, [*(f"without a word: {each}" for each in wrong), *self.wrong()])

    def synchronize(self, case: Case | None) -> Result:
        """With the records of a pod that died while the plugin was away."""
        inside, one = self.new_pod()
        self.runtime.run(one)
        self.plugin.kill()
        inside.delete()
        told = self.told()
        self.plan(case, "look_after", "synchronize")
        self.start()
        self.forgive()
        what = "survived" if self.told() == told else "refused"
        return Result(what, self.wrong())


def _said(case: Case | None, words: str) -> bool:
    """Whether the refusal names what went wrong, or was given what the kernel may say of a link."""
    if case is None:
        return False
    answered = any(
        (case.fault.errno, asked in case.event.text) == (code, True) for code, asked in _ANSWERS
    )
    return answered or os.strerror(case.fault.errno) in words


def try_deed(name: str, cases: Callable[[Sequence[Event]], Iterable[Case]]) -> Row:
    """All cases of one of the runtime's calls; on a new node after one that went wrong."""
    results, start = Counter[str](), time.monotonic()
    waiting: list[Case] | None = None
    events: list[Event] = []
    while waiting is None or waiting:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            host = stack.enter_context(Host.enter(directory))
            runtime = stack.enter_context(GoRuntime(directory, request_timeout="5s"))
            trial = NriTrial(host, runtime)
            trial.start()
            stack.enter_context(trial.plugin)
            attempt = _ATTEMPTS[name]
            if waiting is None:
                assert attempt(trial, None).wrong == []
                events = trial.events()
                waiting = list(cases(events))[::-1]
            while waiting:
                case = waiting.pop()
                result = attempt(trial, case)
                results[result.what] += 1
                if result.wrong:
                    results["wrong"] += 1
                    print(f"{name}: {case}", *result.wrong, sep="\n    ", flush=True)
                    break
    return Row(name, len(events), results, time.monotonic() - start)


_ATTEMPTS = {
    "RunPodSandbox": NriTrial.run,
    "StopPodSandbox": NriTrial.stop,
    "Synchronize": NriTrial.synchronize,
}


def everything(cases: Callable[[Sequence[Event]], Iterable[Case]]) -> Iterator[Row]:
    """But death: see above."""

    def but_death(events: Sequence[Event]) -> Iterator[Case]:
        return (case for case in cases(events) if case.fault.errno != KILL)

    return (try_deed(name, but_death) for name in _ATTEMPTS)
