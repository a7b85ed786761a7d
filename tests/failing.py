"""The engine's ports, any call of which can fail or kill: around the fakes, for tests.

Every call of Kernel, of each Netns and of Journal is counted, looks too.  What fails does so
before the call is carried out or after it (an acknowledgement that was lost), with the error that
the port promises; ``Killed`` stands for SIGKILL.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from os import strerror
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from cni_netdev.core.errors import KernelRefused, LockTimeout, NetnsError, StateError
from tests.fakes import FakeKernel, FakeNetns, Killed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_netdev.core.ports import Journal, Kernel
    from tests.fakes import FakeJournal

When = Literal["before", "after"]
# Told from what is in memory, so that they cannot fail.
_CANNOT_FAIL = frozenset(("cookie", "mount_namespace", "close", "fd"))


class Fault(NamedTuple):
    """What happens at one call.  errno 0 is SIGKILL; -1 a lock that is not had in time.

    times: to how many calls of this name, from that one on.
    """

    errno: int
    when: When = "before"
    times: int = 1


KILLED, TIMED_OUT = 0, -1
_CHANGES = re.compile(
    r"journal\.(write|forget|pin|unpin|set_aside|sweep)"
    r"|netns\.(move|change|(set|delete|detach|attach)_\w+)|kernel\.hunt"
)


def changes_something(call: str) -> bool:
    """Whether it makes a difference that a call was carried out before it failed."""
    return bool(_CHANGES.fullmatch(call))


class Calls:
    """Counts the calls of all ports, and lets those fail that are chosen, counted from 1."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self._chosen: dict[int, Fault] = {}
        self._going_on: dict[str, Fault] = {}

    def choose(self, number: int, fault: Fault) -> None:
        """number: of the call, from now on."""
        self._chosen[len(self.made) + number] = fault

    def forgive(self) -> None:
        """Let nothing more fail."""
        self._chosen.clear()
        self._going_on.clear()

    def _due(self, call: str) -> Fault | None:
        self.made.append(call)
        fault = self._chosen.pop(len(self.made), None) or self._going_on.pop(call, None)
        if fault is not None and fault.times > 1:
            self._going_on[call] = fault._replace(times=fault.times - 1)
        return fault

    def around(self, port: str, name: str, act: Callable[[], Any]) -> Any:
        fault = self._due(f"{port}.{name}")
        if fault is not None and fault.when == "before":
            raise _error(port, name, fault.errno)
        done = act()
        if fault is not None:
            raise _error(port, name, fault.errno)
        return done


def _error(port: str, name: str, code: int) -> BaseException:
    """As ports.py says that this call fails."""
    if code == KILLED:
        return Killed()
    if code == TIMED_OUT:
        return LockTimeout("injected")
    if port == "journal":
        return StateError(f"injected {name}: {strerror(code)}")
    if (port, name) in {("kernel", "open"), ("kernel", "cookie_at")}:
        return NetnsError(f"injected {name}: {strerror(code)}")
    return KernelRefused(f"injected {name}", code)


class _Failing:
    """A port whose attributes and methods are counted."""

    def __init__(self, port: str, real: Any, calls: Calls) -> None:
        self._port, self._real, self._calls = port, real, calls

    def __getattr__(self, name: str) -> Any:
        if name in _CANNOT_FAIL:
            return getattr(self._real, name)
        if not callable(getattr(type(self._real), name, None)):
            return self._around(name, lambda: getattr(self._real, name))
        method = getattr(self._real, name)
        return lambda *given, **named: self._around(name, lambda: method(*given, **named))

    def _around(self, name: str, act: Callable[[], Any]) -> Any:
        done = self._calls.around(self._port, name, act)
        return _Failing("netns", done, self._calls) if isinstance(done, FakeNetns) else done


class _FailingJournal(_Failing):
    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Fails when it is taken; a process may also die before it lets go of one."""
        self._calls.around("journal", f"lock {name}", lambda: None)
        with self._real.lock(name, wait=wait):
            yield
            self._calls.around("lock", f"release {name}", lambda: None)


def failing(kernel: FakeKernel, journal: FakeJournal, calls: Calls) -> tuple[Kernel, Journal]:
    """The same two, their calls counted."""
    return (
        cast("Kernel", _Failing("kernel", kernel, calls)),
        cast("Journal", _FailingJournal("journal", journal, calls)),
    )
