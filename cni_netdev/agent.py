"""The resident agent: shims' calls over a unix socket, one after the other to one worker thread.

The kernel does one move at a time anyway, so more workers would gain nothing.  What takes only a
look is answered in between.  At most one call at a time is handed to the worker, so that whoever
shares it (the NRI plugin, under its time limits) waits for one call and not for a queue of them.

Rejected: asyncio (11 MB and 40 ms for what one selector does); connections for several calls (a
shim makes one in its life).
"""

from __future__ import annotations

import math
import os
import selectors
import socket
import time
import traceback
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cni_netdev.calls import Call
from cni_netdev.main import Elsewhere
from cni_netdev.place import Place, see_same_pod
from cni_netdev.wire import TAKEN, Refused, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_netdev.core.logs import Log
    from cni_netdev.wire import Answer, Request

_STOPPING = "the agent is stopping"
_PAUSE = 0.1  # seconds without accepting when descriptors have run out


class Answers(Protocol):
    """What the agent needs of answerer.Answerer."""

    def look(self, request: Request) -> Answer | None: ...
    def answer(self, request: Request, is_wanted: Callable[[], bool]) -> Answer: ...


class Door(Protocol):
    """What the agent needs of listener.Listener."""

    @property
    def socket(self) -> socket.socket: ...
    @property
    def is_in_place(self) -> bool: ...
    def close(self) -> None: ...


class Limits(NamedTuple):
    """Of what is here at one time.

    seconds: for a request to come in, and for an answer to be taken.  connections: in number.
    size: bytes of all requests.  look: seconds after which it is seen whether the door is in place.
    """

    seconds: float = 5.0
    connections: int = 256
    size: int = 16 << 20
    look: float = 5.0


class Agent:
    """Serves shims until it is told to stop, or nobody can find it any more."""

    def __init__(
        self,
        door: Door,
        version: str,
        answers: Answers,
        submit: Callable[[Callable[[], None]], object],
        log: Log,
        limits: Limits | None = None,
    ) -> None:
        """door: closed at the end.  version: see source.  submit: to the worker."""
        self._door = door
        self._listener = door.socket
        self._listener.setblocking(False)
        self._version = version
        self._answers = answers
        self._submit = submit
        self._log = log
        self._limits = limits or Limits()
        self._place = Place()
        self._told: set[str] = set()
        self._calls: set[Call] = set()
        self._queue: deque[Call] = deque()
        self._at_work: Call | None = None
        self._accept_from = math.inf
        self._look_at = 0.0
        self._stopping = self._lost = False
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._when_readable(self._woken, self._look_up)
        self._when_readable(self._listener, self._accept)

    def run(self) -> bool:
        """Until stop(), or until the door is no more in its place; then False.

        The call at work is answered first, and the others go elsewhere.
        """
        try:
            while self._calls or not self._stopping:
                for key, _ in self._selector.select(self._patience()):
                    key.data()
                self._look_at_the_clock()
        finally:
            self._end()
        return not self._lost

    def stop(self) -> None:
        """From any thread, and from a signal handler."""
        self._stopping = True
        self._wake_up()

    # --- a call comes in ---------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(0 if self._stopping else self._limits.connections):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # no descriptors left, most likely
                self._tell_once(f"connections cannot be accepted: {error}")
                self._selector.unregister(self._listener)
                self._accept_from = time.monotonic() + _PAUSE
                return
            self._welcome(Call(connection, self._version, self._deadline()))

    def _welcome(self, call: Call) -> None:
        self._calls.add(call)
        if call.user != os.geteuid():
            self._tell_once("somebody who is not root tried to connect")
            self._drop(call)
        elif len(self._calls) > self._limits.connections:
            self._reply(call, refusal("busy"))
        else:
            self._when_readable(call.connection, partial(self._receive, call))

    def _receive(self, call: Call) -> None:
        try:
            whole = call.receive()
            self._see_that_all_fit()
            if whole:
                self._place.see(call.descriptors)
                self._take(call)
        except BlockingIOError:
            return
        except OSError:
            self._drop(call)
        except (Refused, Elsewhere) as refused:
            self._tell_once(f"a call goes its own way: {refused}")
            self._reply(call, refusal(str(refused)))
        except Exception as error:  # noqa: BLE001 - one call's trouble is not the next one's
            self._reply(call, self._fault(error))

    def _see_that_all_fit(self) -> None:
        if sum(each.size for each in self._calls) > self._limits.size:
            raise Refused("busy")

    def _take(self, call: Call) -> None:
        """Raises Elsewhere."""
        if self._stopping:
            raise Elsewhere(_STOPPING)
        answer = None if self._must_wait(call) else self._answers.look(call.request)
        if answer is not None:
            self._tell_of(call, answer)
            self._reply(call, answer.encode())
            return
        self._selector.unregister(call.connection)
        call.deadline = math.inf
        call.send(TAKEN)
        self._queue.append(call)
        self._next()

    def _must_wait(self, call: Call) -> bool:
        """A DEL must not overtake the ADD that it undoes."""
        waiting = [*self._queue, self._at_work] if self._at_work else self._queue
        container = call.container
        return bool(container) and any(each.container == container for each in waiting)

    # --- one at a time is worked on ----------------------------------------------------------

    def _next(self) -> None:
        while self._queue and self._at_work is None and not self._stopping:
            call = self._queue.popleft()
            if call.is_deserted():
                self._drop(call)
            else:
                self._begin(call)

    def _begin(self, call: Call) -> None:
        self._at_work = call
        try:
            self._submit(partial(self._work, call))
        except RuntimeError:  # the worker was shut down
            self._at_work = None
            self._reply(call, refusal(_STOPPING))

    def _work(self, call: Call) -> None:
        """On the worker."""
        try:
            see_same_pod(call.request.environ.get("CNI_NETNS", ""), call.descriptors)
            answer = self._answers.answer(call.request, lambda: not call.is_deserted())
            reply = answer.encode()
            self._tell_of(call, answer)
        except Elsewhere as elsewhere:
            self._log.debug("a call goes its own way", reason=str(elsewhere))
            reply = refusal(str(elsewhere))
        except Exception as error:  # noqa: BLE001 - the worker is needed for the next one
            reply = self._fault(error)
        with suppress(OSError):
            call.send(reply)
            if call.is_sent:
                call.end()
        call.is_done = True
        self._wake_up()

    def _look_up(self) -> None:
        """Somebody woke us: the worker is done, or we are to stop."""
        with suppress(BlockingIOError):
            self._woken.recv(1 << 10)
        if self._at_work is not None and self._at_work.is_done:
            call, self._at_work = self._at_work, None
            self._reply(call)
        if self._stopping:
            self._send_away()
        self._next()

    # --- a call goes -------------------------------------------------------------------------

    def _reply(self, call: Call, data: bytes = b"") -> None:
        """Send it, and end the connection when it is all taken."""
        self._unregister(call.connection)
        try:
            call.send(data)
        except OSError:
            self._drop(call)
            return
        if call.is_sent:
            self._drop(call)
            return
        call.deadline = min(call.deadline, self._deadline())
        self._selector.register(call.connection, selectors.EVENT_WRITE, partial(self._reply, call))

    def _drop(self, call: Call) -> None:
        self._unregister(call.connection)
        self._calls.discard(call)
        call.close()

    def _send_away(self) -> None:
        """Whoever is not at work or being answered; and whoever would come."""
        self._unregister(self._listener)
        self._door.close()
        self._accept_from = self._look_at = math.inf
        self._queue.clear()
        for call in [*self._calls]:
            if call is not self._at_work and call.is_sent:
                self._reply(call, refusal(_STOPPING))

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        for call in [each for each in self._calls if each.deadline <= now]:
            self._log.debug("a shim was too slow")
            self._drop(call)
        if self._accept_from <= now:
            self._accept_from = math.inf
            self._when_readable(self._listener, self._accept)
        if self._look_at <= now:
            self._look_at = now + self._limits.look
            if not self._door.is_in_place:
                self._log.warn("the socket was taken away")
                self._lost = True
                self.stop()

    # --- small things ------------------------------------------------------------------------

    def _patience(self) -> float | None:
        """Seconds until there is something to do by the clock; None when there is nothing."""
        due = min([self._accept_from, self._look_at, *(each.deadline for each in self._calls)])
        return None if due == math.inf else max(0.0, due - time.monotonic())

    def _deadline(self) -> float:
        return time.monotonic() + self._limits.seconds

    def _when_readable(self, what: socket.socket, act: Callable[[], None]) -> None:
        self._selector.register(what, selectors.EVENT_READ, act)

    def _unregister(self, what: socket.socket) -> None:
        with suppress(KeyError, ValueError):  # not registered, or closed already
            self._selector.unregister(what)

    def _wake_up(self) -> None:
        with suppress(OSError):  # so full of wakings that it will be, or at its end
            self._wake.send(b"!")

    def _fault(self, error: Exception) -> bytes:
        self._log.error("a call failed", error="".join(traceback.format_exception(error)))
        return refusal("a fault of the agent")

    def _tell_of(self, call: Call, answer: Answer) -> None:
        command = call.request.environ.get("CNI_COMMAND")
        self._log.debug("answered", command=command, sandbox=call.container, code=answer.code)

    def _tell_once(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._log.warn(what)

    def _end(self) -> None:
        for call in [*self._calls]:
            self._drop(call)
        self._selector.close()
        self._place.close()
        for each in (self._door, self._woken, self._wake):
            each.close()
