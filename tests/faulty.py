"""The real plugin, killed or refused at a chosen event, without hooks in its code.

``install`` puts an executable beside the real one's place that patches the seams through which
every change goes: ``Connection.request`` (each netlink message), the journal's writes and removals,
and the pins.  Environment variables, which cnitool passes on, choose the event:

NETDEV_KILL_AT=n:before or n:after    SIGKILL around the n-th event
NETDEV_FAIL_AT=n:ERRNO                the n-th netlink message is refused instead of sent
NETDEV_TRACE=file                     a line for each event, to count them
NETDEV_PAUSE_AT=n:FIFO                before the n-th event: make FIFO.held, wait for a reader
NETDEV_SLOW=seconds                   each move takes so much longer

``nri_plugin`` makes the same of the NRI plugin, where NETDEV_DURING=attach or detach names the call
of the engine in which events are counted; outside of it nothing happens.  In the test's own process
``patch`` gives the events, and whoever is put among their ``intruders`` acts before one of them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# Requests that change nothing, as the core words them.
_LOOKS = ("netlink look", "netlink list", "netlink ask", "netlink query")
_EXECUTABLE = """\
#!{python} -IS
import sys

sys.path[1:1] = {paths!r}
from tests.faulty import patch

patch()
from cni_netdev.main import entry

entry()
"""


_NRI_PLUGIN = """\
#!{python}
import sys

sys.path[1:1] = {paths!r}
from tests.faulty import patch_during

patch_during()
from nri_plugin.main import entry

entry()
"""


def nri_plugin(directory: Path) -> Path:
    """Write the executable; gives its path."""
    from cni_netdev import install as real

    target = directory / "faulty-injector"
    target.write_text(_NRI_PLUGIN.format(python=sys.executable, paths=real._library_paths()))
    target.chmod(0o755)
    return target


def install(bin_dir: Path) -> None:
    """Replace the plugin in ``bin_dir``."""
    from cni_netdev import install as real

    text = _EXECUTABLE.format(python=sys.executable, paths=real._library_paths())
    target = bin_dir / real.PLUGIN
    target.write_text(text)
    target.chmod(0o755)


class Events:
    """Counts events and does what the environment says at one of them."""

    def __init__(self) -> None:
        self.count = 0
        self.on = True
        self.slow = float(os.environ.get("NETDEV_SLOW", "0"))
        self.pause_at, _, self.fifo = os.environ.get("NETDEV_PAUSE_AT", "0:").partition(":")
        self.kill_at, _, self.when = os.environ.get("NETDEV_KILL_AT", "0:").partition(":")
        self.fail_at, _, self.errno = os.environ.get("NETDEV_FAIL_AT", "0:").partition(":")
        self.trace = os.environ.get("NETDEV_TRACE")
        self.seen: list[str] = []
        self.intruders: dict[int, Callable[[], object]] = {}

    def restart(self) -> None:
        """Count from the beginning."""
        self.count, self.on = 0, True
        self.seen.clear()

    def around(self, what: str, act: Callable[[], Any]) -> Any:
        if not self.on:
            return act()
        self.count += 1
        self.seen.append(what)
        if intruder := self.intruders.pop(self.count, None):
            self.on = False  # what it does itself is not counted
            intruder()
            self.on = True
        if str(self.count) == self.pause_at:
            os.close(os.open(f"{self.fifo}.held", os.O_CREAT))
            os.close(os.open(self.fifo, os.O_WRONLY))
        if self.slow and what.startswith("netlink move"):
            time.sleep(self.slow)
        if self.trace:
            with open(self.trace, "a", encoding="utf-8") as file:
                file.write(f"{what}\n")
        mine = str(self.count) == self.kill_at
        if mine and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if str(self.count) == self.fail_at and what.startswith("netlink"):
            from cni_netdev.core.errors import KernelRefused

            raise KernelRefused("injected", int(self.errno))
        try:
            return act()
        finally:
            if mine and self.when == "after":
                os.kill(os.getpid(), signal.SIGKILL)


def moments(trace: Sequence[str]) -> list[int]:
    """The numbers of the events at which to kill: of looks in a row the first stands for all."""
    looks = [each.startswith(_LOOKS) for each in trace]
    before = [False, *looks]
    return [
        number
        for number, (look, earlier) in enumerate(zip(looks, before, strict=False), 1)
        if not (look and earlier)
    ]


def patch_during() -> None:
    """Put the events in front of the seams, for the time of one of the engine's calls."""
    from cni_netdev.core.engine import Injector

    events = patch()
    events.on = False
    name = os.environ.get("NETDEV_DURING", "attach")
    setattr(Injector, name, _counting(getattr(Injector, name), events))


def _counting(real: Any, events: Events) -> Any:
    def call(*arguments: Any, **keywords: Any) -> Any:
        events.on = True
        try:
            return real(*arguments, **keywords)
        finally:
            events.on = False

    return call


def patch(put: Callable[[Any, str, Any], None] = setattr) -> Events:
    """Put the events in front of the seams.

    put: how; ``monkeypatch.setattr`` where they must go again.
    """
    from cni_netdev.core.journal import FileJournal
    from cni_netdev.core.netlink import Connection

    events = Events()
    request = Connection.request

    def counted_request(self: Connection, what: str, *rest: Any) -> Any:
        return events.around(f"netlink {what}", lambda: request(self, what, *rest))

    put(Connection, "request", counted_request)
    for name in ("write", "forget", "pin", "unpin"):
        put(FileJournal, name, _counted(FileJournal, name, events))
    for name in ("rename", "unlink"):
        put(os, name, _counted(os, name, events))
    return events


def _counted(owner: Any, name: str, events: Events) -> Any:
    real = getattr(owner, name)

    def counted(*arguments: Any, **keywords: Any) -> Any:
        return events.around(name, lambda: real(*arguments, **keywords))

    return counted
