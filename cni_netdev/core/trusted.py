"""Files whose writer decides what the node does: read them only if that can be nobody but root.

A path may be a symbolic link (as in Kubernetes' ConfigMaps); judged are the file that it leads to
and the directory that this is in, since whoever may write there may put another in its place.  The
sticky bit does not help: it lets everybody make a file that is not there yet.
"""

from __future__ import annotations

import os
import stat

from cni_netdev.core.errors import Fault, RequestError

MOST_BYTES = 1024 * 1024
_OTHERS_MAY_WRITE = 0o022
# A FIFO is not waited for, a terminal does not become ours.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def read(path: str) -> str:
    """The text of a regular file of at most MOST_BYTES, root's (or the caller's own).

    Raises RequestError with what is wrong with it or its directory.
    """
    try:
        fd = os.open(path, _FLAGS)
        try:
            _judge(path, fd)
            data = _read(fd)
        finally:
            os.close(fd)
        text = data.decode()
    except (OSError, ValueError) as error:
        raise RequestError((Fault(path, f"cannot be read: {error}"),)) from error
    if len(data) > MOST_BYTES:
        raise RequestError((Fault(path, f"has more than {MOST_BYTES} bytes"),))
    return text


def _read(fd: int) -> bytes:
    """Up to one byte too many."""
    data = b""
    while len(data) <= MOST_BYTES:
        piece = os.read(fd, MOST_BYTES + 1 - len(data))
        if not piece:
            break
        data += piece
    return data


def _judge(path: str, fd: int) -> None:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise RequestError((Fault(path, "must be a regular file"),))
    if _may_be_anothers(found):
        raise RequestError((Fault(path, "must be root's and not writable by others"),))
    directory = os.path.dirname(os.path.realpath(path)) or "/"
    if _may_be_anothers(os.stat(directory)):
        fault = (
            f"its directory {directory} must be root's and not writable by others, who could put "
            "another file in its place"
        )
        raise RequestError((Fault(path, fault),))


def _may_be_anothers(found: os.stat_result) -> bool:
    return found.st_uid not in (0, os.geteuid()) or bool(found.st_mode & _OTHERS_MAY_WRITE)
