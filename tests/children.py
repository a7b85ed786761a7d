"""Calls of the plugin and of netdevctl in a child of this process, as their executables make them.

Quicker than to start them (a fork instead of an interpreter), and something can be done to the
child first: put the seams in place, lower a limit.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cni_netdev import ctl
from cni_netdev.main import main
from tests import seams
from tests.host import Answer
from tests.seams import Event, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

Chosen = dict[tuple[str, str, int], Fault]


def answer(act: Callable[[], int]) -> Answer:
    """Of one call in a child; the code is minus the signal that it died of."""
    return _forked(lambda _: act())[0]


def with_faults(act: Callable[[], int], chosen: Chosen) -> tuple[Answer, list[Event]]:
    """The same with the chosen calls going wrong; also the calls that it made, if it lived."""

    def watched(told: int) -> int:
        watch = seams.install()
        watch.chosen = chosen
        code = act()
        watch.on = False
        os.write(told, pickle.dumps([tuple(each) for each in watch.events]))
        return code

    said, events = _forked(watched)
    found = pickle.loads(events) if events else []  # noqa: S301 - our own child's
    return said, [Event(*each) for each in found]


def _forked(act: Callable[[int], int]) -> tuple[Answer, bytes]:
    """act: is given a descriptor for what it has to tell besides."""
    with ExitStack() as opened:
        files = [opened.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        child = os.fork()
        if child == 0:
            os._exit(_as_child(act, *(file.fileno() for file in files)))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for file in files:
            file.seek(0)
        out, err, told = (file.read() for file in files)
        return Answer(code, out.decode(), err.decode()), told


def _as_child(act: Callable[[int], int], out: int, err: int, told: int) -> int:
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        code = act(told)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:  # noqa: BLE001 - nothing may get back into the parent's code
        os.write(2, f"Traceback: not caught: {error!r}".encode())
        return 99
    return code


# --- what a child does ------------------------------------------------------------------------


def cni(
    verb: str,
    conf: dict[str, Any],
    *,
    netns: str = "",
    container: str = "c1",
    ifname: str = "eth0",
) -> int:
    """One call in the calling process; what it prints goes to file descriptor 1."""
    environ = {"CNI_COMMAND": verb, "CNI_PATH": "/"}
    if verb not in ("GC", "STATUS"):
        environ |= {"CNI_CONTAINERID": container, "CNI_IFNAME": ifname, "CNI_NETNS": netns}
    with open(1, "wb", closefd=False) as stdout:
        return main(environ, io.BytesIO(json.dumps(conf).encode()), stdout)


def netdevctl(*arguments: str) -> int:
    """One call in the calling process."""
    sys.argv = ["netdevctl", *arguments]
    try:
        ctl.entry()
    except SystemExit as done:
        return int(done.code or 0)
    return 0
