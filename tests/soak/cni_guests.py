"""Pods of the CNI plugin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.host import Pod
from tests.soak.answers import reason
from tests.soak.guests import Guest, Untrue
from tests.soak.node import CNITOOLS, CONF

if TYPE_CHECKING:
    from tests.host import Answer


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
        self.prepare_end(how)
        if how.startswith("never told"):
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


def _words(answer: Answer) -> str:
    """All that a failed call said."""
    if answer.code < 0:
        return "killed by us"
    return f"{answer.stdout} {answer.stderr}"
