"""The agent's socket: nobody but root may connect, and none is taken from another agent."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import ExitStack, suppress

from cni_netdev.core import locks
from cni_netdev.core.errors import StateError

_BACKLOG = 256
_OTHERS_MAY_WRITE = 0o022
_LOCK_SECONDS = 2.0
_SYSTEMDS_FIRST = 3  # sd_listen_fds(3)
_KIND = (socket.AF_UNIX, socket.SOCK_STREAM)


class Listener:
    """A socket that listens at a path.  close() takes the path away, if it is still this one's."""

    def __init__(self, path: str) -> None:
        """Raises StateError, also when somebody listens there already, and LockTimeout."""
        self._path = path
        self.socket = socket.socket(*_KIND)
        with ExitStack() as on_error:
            on_error.callback(self.socket.close)
            try:
                self._file = self._listen()
            except OSError as error:
                why = error.strerror or error
                raise StateError(f"cannot listen at {path}: {why}") from error
            on_error.pop_all()

    def _listen(self) -> tuple[int, int] | None:
        _see_that_it_is_safe(os.path.dirname(self._path))
        lock = f"{self._path}.lock"
        held = locks.acquire(lock, _LOCK_SECONDS)  # two may start at once
        try:
            _clear(self._path)
            os.fchmod(self.socket.fileno(), 0o600)  # before bind(2): it is never open to others
            self.socket.bind(self._path)
            self.socket.listen(_BACKLOG)
            return _file(self._path)
        finally:
            locks.release(lock, held)

    @property
    def is_in_place(self) -> bool:
        """Whether who connects to the path still comes here."""
        return _file(self._path) == self._file

    def close(self) -> None:
        if self.is_in_place:
            with suppress(OSError):
                os.unlink(self._path)
        self.socket.close()


class Given:
    """A socket that systemd listens on for us: the path is its business."""

    is_in_place = True

    def __init__(self, descriptor: int) -> None:
        """Raises StateError when it is not one that shims could ask."""
        try:
            os.set_inheritable(descriptor, False)
            self.socket = socket.socket(fileno=descriptor)
            listens = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise StateError(f"no socket came from systemd: {error.strerror}") from error
        if not listens or (self.socket.family, self.socket.type) != _KIND:
            raise StateError("the socket from systemd must be of ListenStream= with a path")

    def close(self) -> None:
        self.socket.close()


def from_systemd() -> Given | None:
    """What systemd listens on for us (sd_listen_fds(3)); None when there is nothing.

    Raises StateError.
    """
    pid, count = (os.environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS"))
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count:
        return None
    if count != "1":
        raise StateError(f"systemd gave {count} sockets; the agent listens on one")
    return Given(_SYSTEMDS_FIRST)


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
