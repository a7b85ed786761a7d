"""One call of the plugin in a resident process: what ``main`` says, without starting another."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cni_netdev.core.errors import LockTimeout
from cni_netdev.main import Elsewhere, line_of, main
from cni_netdev.wire import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from cni_netdev.commands import Engine
    from cni_netdev.core.engine import Attachment
    from cni_netdev.core.ports import Key
    from cni_netdev.core.restore import Release
    from cni_netdev.wire import Request

    class Resident(Engine, Protocol):
        """What is needed of core.engine.Injector."""

        def attach(
            self,
            owner: Any,
            netns_path: str,
            requests: Any,
            policy: Any,
            pod: Any,
            in_time: Callable[[], None] = ...,
            leases: Any = ...,
        ) -> Attachment: ...
        def has(self, key: Key) -> bool: ...


# Seconds that an engine here should wait for a lock; who has to wait longer does so elsewhere.
LOCK_SECONDS = 0.2
_LONGEST_LOOK = 1 << 16  # decoding more takes longer than others should wait
# Who asks for a device writes one of these, unless in JSON's escapes; then the engine is asked for.
_ASKS = (b"netdevice", b"netDevices", b"deviceID", b'"devices"')


class Answerer:
    """Answers calls by the engine of one state directory."""

    def __init__(self, state_dir: str, engine: Resident) -> None:
        """engine: one whose journal does not wait for locks longer than LOCK_SECONDS."""
        self._state_dir = _plain(state_dir)
        self._engine = engine

    def look(self, request: Request) -> Answer | None:
        """The answer if that takes only a look; quick, and safe while answer() is at work.

        Raises Elsewhere as answer() does.
        """
        command = request.environ.get("CNI_COMMAND")
        asks = command == "ADD" and any(each in request.stdin for each in _ASKS)
        if command not in ("ADD", "DEL", "VERSION") or asks or len(request.stdin) > _LONGEST_LOOK:
            return None
        try:
            return self._main(request, _Onlooker(self._engine))
        except _TakesMore:
            return None

    def answer(self, request: Request, is_wanted: Callable[[], bool] = lambda: True) -> Answer:
        """The answer.

        is_wanted: whether somebody still waits for it; asked before each step of an attach, which
        is undone when nobody does.
        Raises Elsewhere when the call must be made in a process of its own; nothing is changed
        then.  So it is when somebody else works on the link: that may take seconds, in which
        others are waiting here.
        """
        return self._main(request, _Impatient(self._engine, is_wanted))

    def _main(self, request: Request, engine: Engine) -> Answer:
        def engines(state_dir: str) -> Engine:
            if _plain(state_dir) != self._state_dir:
                raise Elsewhere("another state directory")
            return engine

        stdin, stdout = io.BytesIO(request.stdin), io.BytesIO()
        said: list[bytes] = []
        code = main(
            request.environ,
            stdin,
            stdout,
            lambda text: said.append(line_of(text)),
            engines,
            _not_here,
        )
        return Answer(code, stdout.getvalue(), b"".join(said))


def _not_here(_call: Any) -> Any:
    """An IPAM plugin takes as long as it likes, in which others would be waiting.

    Nothing is changed by then: it is called before that.
    """
    raise Elsewhere("an IPAM plugin is to be run")


def _plain(directory: str) -> str:
    """As core.journal has it."""
    return directory.rstrip("/") or "/"


class _TakesMore(Elsewhere):
    """Something has to be done."""


class _Onlooker:
    """An engine that does nothing; raises _TakesMore when there is something to do."""

    def __init__(self, engine: Resident) -> None:
        self._engine = engine

    def has(self, key: Key) -> bool:
        return self._engine.has(key)

    def detach(self, key: Key, _leases: Any = None) -> None:
        if self._engine.has(key):
            raise _TakesMore

    def _do(self, *_arguments: Any, **_keywords: Any) -> Any:
        raise _TakesMore

    attach = check = reap = find = probe = unreadable = unrecorded = leases = leased = names = _do


class _Impatient:
    """The engine, for calls that can be made elsewhere."""

    def __init__(self, engine: Resident, is_wanted: Callable[[], bool]) -> None:
        self._engine = engine
        self._is_wanted = is_wanted
        self.check, self.reap = engine.check, engine.reap
        self.find, self.probe = engine.find, engine.probe
        self.unreadable, self.unrecorded = engine.unreadable, engine.unrecorded
        self.has, self.leases = engine.has, engine.leases
        self.leased, self.names = engine.leased, engine.names

    def attach(
        self, owner: Any, netns_path: str, requests: Any, policy: Any, pod: Any, *, leases: Any
    ) -> Attachment:
        with _or_elsewhere():
            return self._engine.attach(
                owner, netns_path, requests, policy, pod, self._in_time, leases=leases
            )

    def _in_time(self) -> None:
        if not self._is_wanted():
            raise Elsewhere("nobody waits for it any more")

    def detach(self, key: Key, leases: Any = None) -> Release | None:
        with _or_elsewhere():
            return self._engine.detach(key, leases)


@contextmanager
def _or_elsewhere() -> Iterator[None]:
    try:
        yield
    except LockTimeout as error:
        raise Elsewhere(error.message) from None
