"""One state directory: the records of attachments, locks and pins (ports.Journal).

<state directory>/           0700, root's
    records/<front>@<sandbox>@<ifname>.json     see recordfiles
    locks/<name>.lock        only while held
    pins-<mount namespace>/<as records>    see pins
    agent.sock               where the resident agent listens
"""

from __future__ import annotations

import os

from cni_netdev.core import locks
from cni_netdev.core.errors import LockTimeout, StateError
from cni_netdev.core.lean import TYPE_CHECKING, contextmanager, suppress
from cni_netdev.core.pins import Pins
from cni_netdev.core.recordfiles import RecordFiles, cannot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from cni_netdev.core.model import Record
    from cni_netdev.core.ports import Key, Netns

DEFAULT_DIRECTORY = "/run/cni-netdev"
AGENT_SOCKET = "agent.sock"
_BETWEEN, _FRONTS = "@", ("cni", "nri")
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_LONGEST_NAME = 240
_LOCK_SECONDS = 10.0
_MOUNT_NAMESPACE = "/proc/thread-self/ns/mnt"
_OTHERS_MAY_WRITE = 0o022


class FileJournal:
    """Records, locks and pins of one state directory; made when first written."""

    def __init__(
        self,
        directory: str = DEFAULT_DIRECTORY,
        lock_timeout: float = _LOCK_SECONDS,
        *,
        resident: bool = False,
    ) -> None:
        """lock_timeout: seconds that lock() waits.  resident: see recordfiles."""
        self._directory = directory = directory.rstrip("/") or "/"
        self._files = RecordFiles(
            f"{directory}/records", lambda: _make(directory, "records"), resident=resident
        )
        # One place for each mount namespace: to remove a mount point or what looks like an
        # unused one here would unmount it in every other.
        try:
            self._mount_namespace = os.stat(_MOUNT_NAMESPACE).st_ino
        except OSError as error:
            raise cannot("look at", _MOUNT_NAMESPACE, error) from error
        self._pins = Pins(f"{self._directory}/{_pins(self._mount_namespace)}")
        self._lock_timeout = lock_timeout

    # --- records -----------------------------------------------------------------------------

    def has(self, key: Key) -> bool:
        return not _is_too_long(key) and self._files.has(_name(key))

    def read(self, key: Key) -> Record | None:
        return self._files.read(_name(key))

    def write(self, record: Record) -> None:
        self._files.write(_name(record.owner.key), record)

    def forget(self, key: Key) -> None:
        self._files.forget(_name(key))

    def set_aside(self, key: Key) -> str | None:
        return self._files.set_aside(_name(key))

    def records(self) -> tuple[Record, ...]:
        return tuple(record for _, record in self._files.scan() if not isinstance(record, str))

    def unreadable(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, why) for name, why in self._files.scan() if isinstance(why, str))

    def orphans(self) -> tuple[Key, ...]:
        # Pins before records: a record stands before its pin is made.
        pins = self._pins.names()
        kept = self._files.names(self._files.listed())
        keys = (_key(pin) for pin in pins if pin not in kept)
        return tuple(key for key in keys if key)

    def sweep(self) -> None:
        from functools import partial  # not loaded for a pod

        work: list[Callable[[], None]] = [
            partial(_unlink, path) for path in self._files.left_by_the_dead(self._files.listed())
        ]
        work += [
            partial(self._pins.drop, pin, self.lock("pins"))
            for pin in self._pins.names()
            if not _key(pin)  # nobody's
        ]
        work.append(partial(locks.sweep, f"{self._directory}/locks"))
        troubles = [trouble for each in work if (trouble := _trouble(each))]
        if troubles:
            raise StateError("; ".join(troubles))

    # --- locks and pins ----------------------------------------------------------------------

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[None]:
        _make(self._directory, "locks")
        path = f"{self._directory}/locks/{_quoted(name)}.lock"
        try:
            held = locks.acquire(path, self._lock_timeout if wait else 0)
        except OSError as error:
            raise cannot("lock", path, error) from error
        try:
            yield
        finally:
            locks.release(path, held)

    @property
    def mount_namespace(self) -> int:
        return self._mount_namespace

    def pin(self, key: Key, netns: Netns) -> None:
        opened: Any = netns  # what is really a namespace has a descriptor
        self._pins.add(_name(key), opened.fd, self.lock("pins"))

    def pinned(self, key: Key) -> str | None:
        return None if _is_too_long(key) else self._pins.path(_name(key))

    def pinned_elsewhere(self, key: Key, mount_namespace: int) -> bool:
        from cni_netdev.core import processes

        if mount_namespace in (0, self._mount_namespace):
            return False
        pin = f"/{_pins(mount_namespace)}/{_name(key)}"
        try:
            return processes.mounted_in(mount_namespace, pin)
        except OSError as error:
            raise cannot("look through", "/proc", error) from error

    def unpin(self, key: Key) -> None:
        self._pins.drop(_name(key), self.lock("pins"))

    # --- the directory -----------------------------------------------------------------------

    def probe(self) -> None:
        self._files.probe()


def _make(directory: str, name: str) -> None:
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        found = os.lstat(directory)
        if found.st_uid != os.geteuid() or found.st_mode & _OTHERS_MAY_WRITE:
            raise StateError(
                f"state directory {directory} is another user's, or others may write it",
                "records say which links to move: make it 0700 and root's",
            )
        if not os.path.isdir(directory) or os.path.islink(directory):
            raise StateError(f"state directory {directory} is no directory of its own")
        os.makedirs(f"{directory}/{name}", mode=0o700, exist_ok=True)
    except OSError as error:
        raise cannot("make", directory, error) from error


def _pins(mount_namespace: int) -> str:
    return f"pins-{mount_namespace}"


def _name(key: Key) -> str:
    """Of an attachment's files.  Raises StateError."""
    if _is_too_long(key):
        raise StateError(f"container id {key[1][:40]}... is too long for the name of a record")
    return _BETWEEN.join(_quoted(part) for part in key)


def _is_too_long(key: Key) -> bool:
    """For a file: an attachment with such a container id never was."""
    return len(_BETWEEN.join(_quoted(part) for part in key)) > _LONGEST_NAME


def _key(name: str) -> Key | None:
    """The attachment whose name this is; None when it is nobody's."""
    try:
        front, sandbox, ifname = map(_unquoted, name.split(_BETWEEN))
    except ValueError:
        return None
    return (front, sandbox, ifname) if front in _FRONTS else None


def _quoted(text: str) -> str:
    """Text as part of a file name: no two give the same, and none leaves its directory."""
    encoded = text.encode(errors="surrogatepass")
    return "".join(chr(each) if chr(each) in _PLAIN else f"%{each:02X}" for each in encoded)


def _unquoted(text: str) -> str:
    """Raises ValueError for what _quoted never gives."""
    first, *rest = text.split("%")
    coded = (bytes.fromhex(each[:2]) + each[2:].encode() for each in rest)
    return (first.encode() + b"".join(coded)).decode(errors="surrogatepass")


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)


def _trouble(work: Callable[[], None]) -> str:
    """What keeps it from being done; empty when it is done."""
    try:
        work()
    except OSError as error:
        return cannot("clear", error.filename, error).message
    except (StateError, LockTimeout) as error:
        return error.message
    return ""
