"""Pins: bind mounts that keep a namespace, and the virtual links in it, alive.

They lie on a small tmpfs of their own, mounted private, so that they propagate nowhere.  The
mount is made with the first pin and goes with the last.  Pins are seen only in the mount
namespace in which they were made, and die with it.
"""

from __future__ import annotations

import os

from cni_netdev.core import libc
from cni_netdev.core.errors import StateError
from cni_netdev.core.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_PRIVATE = 0x2, 0x4, 0x8, 0x1000, 0x40000
_MNT_DETACH = 2


class Pins:
    """The pins of one state directory.  Callers hold ``lock`` while they change them."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def path(self, name: str) -> str | None:
        """Where the pin of this name is; None when there is none."""
        path = f"{self._directory}/{name}"
        try:
            pinned = os.stat(path).st_dev != os.stat(self._directory).st_dev
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _state_error(f"look for the pin at {path}", error) from error
        return path if pinned else None

    def names(self) -> list[str]:
        try:
            return sorted(os.listdir(self._directory))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _state_error(f"list the pins in {self._directory}", error) from error

    def add(self, name: str, fd: int, lock: AbstractContextManager[None]) -> None:
        """Pin the namespace open at ``fd``; a pin of another one under this name is replaced."""
        path = f"{self._directory}/{name}"
        try:
            with lock:
                self._mount()
                if self.path(name):
                    if _same(path, fd):
                        return
                    libc.umount(path, _MNT_DETACH)
                os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600))
                libc.mount(f"/proc/thread-self/fd/{fd}", path, None, _MS_BIND)
        except OSError as error:
            raise _state_error(f"pin namespace at {path}", error) from error

    def drop(self, name: str, lock: AbstractContextManager[None]) -> None:
        """Let a namespace go; nothing happens when there is no such pin."""
        path = f"{self._directory}/{name}"
        try:
            os.stat(self._directory)  # without a directory not even a lock is needed
            with lock:
                if self.path(name):
                    libc.umount(path, _MNT_DETACH)
                if os.path.lexists(path):
                    os.unlink(path)
                self._unmount_if_empty()
        except (FileNotFoundError, NotADirectoryError):
            return  # there is none, or somebody else dropped the last one in the same moment
        except OSError as error:
            raise _state_error(f"drop the pin at {path}", error) from error

    def _unmount_if_empty(self) -> None:
        if os.listdir(self._directory):
            return
        if self._mounted():
            libc.umount(self._directory, _MNT_DETACH)
        os.rmdir(self._directory)

    def _mount(self) -> None:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        if not self._mounted():
            flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
            libc.mount("cni-netdev-pins", self._directory, "tmpfs", flags, "mode=0700,size=1m")
        # Each time: whoever mounted it may have died before it was private.
        libc.mount("", self._directory, None, _MS_PRIVATE)

    def _mounted(self) -> bool:
        parent = os.path.dirname(self._directory)
        return os.stat(self._directory).st_dev != os.stat(parent).st_dev


def _same(path: str, fd: int) -> bool:
    there, mine = os.stat(path), os.fstat(fd)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _state_error(what: str, error: OSError) -> StateError:
    return StateError(
        f"cannot {what}: {error.strerror}",
        "this needs CAP_SYS_ADMIN, in the mount namespace of the runtime",
    )
