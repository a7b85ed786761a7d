"""Running another CNI plugin (spec section 4): found in CNI_PATH, with our environment.

Its stderr is ours.  Its answer is limited in size and time: what says too much or takes too long is
killed.  Rejected: ``subprocess``, which costs 10 ms to import and limits no size.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import time

from cni_netdev.core.errors import LeaseRefused
from cni_netdev.core.lean import TYPE_CHECKING, suppress

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = 60.0  # that a plugin may take; the DHCP daemon's own limit is below
MOST_BYTES = 1 << 20  # of its answer
_PORTION = 1 << 16


def find(name: str, path: str) -> str:
    """The executable of a plugin.  path: CNI_PATH.  Raises LeaseRefused.

    name: no path, which whoever reads the configuration has seen to.
    """
    directories = [each for each in path.split(os.pathsep) if each.startswith("/")]
    for each in directories:
        candidate = f"{each}/{name}"
        with suppress(OSError):
            if stat.S_ISREG(os.stat(candidate).st_mode):
                return candidate
    raise LeaseRefused(
        f"there is no such plugin in {os.pathsep.join(directories) or 'CNI_PATH, which is empty'}",
        "install it beside the other plugins, or take ipam out of the configuration",
    )


def run(
    program: str, environ: Mapping[str, str], stdin: bytes, seconds: float = SECONDS
) -> tuple[int, bytes]:
    """Its exit status, negative for a signal, and standard output.  Raises LeaseRefused."""
    try:
        return _run(program, environ, stdin, time.monotonic() + seconds)
    except TimeoutError:
        raise LeaseRefused(f"{program} took more than {seconds:g} s and was killed") from None
    except OSError as error:
        raise LeaseRefused(f"{program} cannot be run: {error.strerror}") from error


def _run(
    program: str, environ: Mapping[str, str], stdin: bytes, deadline: float
) -> tuple[int, bytes]:
    given = _file_of(stdin)
    try:
        out, into = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                pid = _started(program, environ, given, into)
            finally:
                os.close(into)
            return _awaited(pid, out, deadline)
        finally:
            os.close(out)
    finally:
        os.close(given)


def _file_of(stdin: bytes) -> int:
    """A file in memory: a pipe would have to be filled while the answer is read."""
    given = os.memfd_create("cni-stdin")
    left = memoryview(stdin)
    while left:
        left = left[os.write(given, left) :]
    os.lseek(given, 0, os.SEEK_SET)
    return given


def _started(program: str, environ: Mapping[str, str], stdin: int, stdout: int) -> int:
    """In a group of its own, so that its children are killed with it."""
    return os.posix_spawn(
        program,
        [program],
        environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)],
        setpgroup=0,
        setsigdef=[signal.SIGPIPE],
    )


def _awaited(pid: int, out: int, deadline: float) -> tuple[int, bytes]:
    """Raises TimeoutError and OSError; it has ended in any case."""
    ended = os.pidfd_open(pid)
    try:
        answer = _answer(out, ended, deadline)
    except BaseException:
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(ended)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), answer


def _answer(out: int, ended: int, deadline: float) -> bytes:
    """All that it says until it ends; its children may live on with its stdout."""
    os.set_blocking(out, False)
    poll = select.poll()
    poll.register(out, select.POLLIN)
    poll.register(ended, select.POLLIN)
    pieces: list[bytes] = []
    while True:
        ready = {fd for fd, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000)}
        if not ready:
            raise TimeoutError
        if out in ready and not _take(out, pieces):
            poll.unregister(out)
        if ended in ready:
            while _take(out, pieces):
                pass
            return b"".join(pieces)


def _take(out: int, pieces: list[bytes]) -> bool:
    """Whether there was something.  Raises OSError when it is too much by now."""
    try:
        piece = os.read(out, _PORTION)
    except BlockingIOError:
        return False
    pieces.append(piece)
    if sum(map(len, pieces)) > MOST_BYTES:
        raise OSError(0, f"its answer has more than {MOST_BYTES} bytes")
    return bool(piece)
