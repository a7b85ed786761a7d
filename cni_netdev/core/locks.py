"""Locks between processes and threads, as files under flock(2) that are gone after use.

The kernel drops a lock when its holder dies, so nothing is ever stale.  A file is unlinked while
it is still locked; who waited for it finds another inode at the path and starts again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from cni_netdev.core.errors import LockTimeout
from cni_netdev.core.lean import suppress

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def acquire(path: str, limit: float) -> int:
    """Lock this file; the descriptor that holds it, for release().

    limit: seconds to wait; 0 tries once.  Raises LockTimeout, and OSError when the file cannot be
    made.
    """
    return _acquire(path, time.monotonic() + limit)


def release(path: str, fd: int) -> None:
    """Give up a lock and remove its file.  Never fails: a file that stays holds nobody up."""
    try:
        with suppress(OSError):
            os.unlink(path)
    finally:
        os.close(fd)


def sweep(directory: str) -> None:
    """Remove the files that killed holders left; those in use stay.

    Raises the first OSError, when every file had its turn.
    """
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    failed = []
    for name in names:
        path = f"{directory}/{name}"
        try:
            held = acquire(path, 0)
            try:
                os.unlink(path)
            finally:
                os.close(held)
        except (LockTimeout, FileNotFoundError):
            continue
        except OSError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _acquire(path: str, deadline: float) -> int:
    pause = _FIRST_PAUSE
    while True:
        fd = os.open(path, _FLAGS, 0o600)
        try:
            if _try(fd):
                if not _still_at(path, fd):
                    os.close(fd)
                    continue  # it was given up and removed while we opened it
                with suppress(OSError):  # a full disk: the lock holds without our name in it
                    os.ftruncate(fd, 0)
                    os.write(fd, str(os.getpid()).encode())
                return fd
            holder = os.pread(fd, 20, 0).decode(errors="replace")
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        left = deadline - time.monotonic()
        if left <= 0:
            raise LockTimeout(
                f"{os.path.basename(path)} is being worked on by process {holder or 'unknown'}",
                "try again later",
            )
        time.sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST_PAUSE)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            raise
        return False
    return True


def _still_at(path: str, fd: int) -> bool:
    """Whether the file that is locked is still the one at the path."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
