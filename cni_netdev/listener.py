"""The agent's socket: nobody but root may connect, and none is taken from another agent."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

from cni_netdev.core import locks
from cni_netdev.core.errors import StateError

_BACKLOG = 256
_OTHERS_MAY_WRITE = 0o022
_LOCK_SECONDS = 2.0
_SYSTEMDS_FIRST = 3  # sd_listen_fds(3)


class Listener:
    """A socket that listens at a path.  close() takes the path away, if it is still this one's."""

    def __init__(self, path: str) -> None:
        """Raises StateError, also when somebody listens there already, and LockTimeout."""
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _see_that_it_is_safe(os.path.dirname(path))
            lock = locks.acquire(f"{path}.lock", _LOCK_SECONDS)  # two may start at once
            try:
                _clear(path)
                os.fchmod(self.socket.fileno(), 0o600)  # before bind(2), so it is never open to all
                self.socket.bind(path)
                self.socket.listen(_BACKLOG)
                self._file = _file(path)
            finally:
                locks.release(f"{path}.lock", lock)
        except OSError as error:
            self.socket.close()
            raise _cannot(path, error) from error
        except BaseException:
            self.socket.close()
            raise

    @property
    def is_in_place(self) -> bool:
        """Whether who connects to the path still comes here."""
        return _file(self.path) == self._file

    def close(self) -> None:
        if self.is_in_place:
            with suppress(OSError):
                os.unlink(self.path)
        self.socket.close()


def from_systemd() -> socket.socket | None:
    """The socket that systemd listens on for us (sd_listen_fds(3)); None when there is none.

    Raises StateError when it is not one that shims could ask.
    """
    pid, count = (os.environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS"))
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count:
        return None
    try:
        os.set_inheritable(_SYSTEMDS_FIRST, False)
        given = socket.socket(fileno=_SYSTEMDS_FIRST)
        listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise StateError(f"no socket came from systemd: {error.strerror}") from error
    if count != "1" or not listens or (given.family, given.type) != _KIND:
        raise StateError("systemd must give one socket, ListenStream= with a path")
    return given


_KIND = (socket.AF_UNIX, socket.SOCK_STREAM)


def _see_that_it_is_safe(directory: str) -> None:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    found = os.stat(directory)
    if found.st_uid != os.geteuid() or found.st_mode & _OTHERS_MAY_WRITE:
        raise StateError(
            f"directory {directory} is another user's, or others may write it",
            "shims would ask whoever puts a socket there: make it 0700 and root's",
        )


def _clear(path: str) -> None:
    """Remove the socket that an agent left which was killed."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise StateError(f"{path} is there and no socket", "remove it, or choose another path")
    if _somebody_listens(path):
        raise StateError(f"an agent listens at {path} already", "one is enough for a node")
    os.unlink(path)


def _somebody_listens(path: str) -> bool:
    with socket.socket(*_KIND) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) not in (errno.ECONNREFUSED, errno.ENOENT)


def _file(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _cannot(path: str, error: OSError) -> StateError:
    return StateError(f"cannot listen at {path}: {error.strerror or error}")
