"""The records of attachments, as files (ports.Journal).

    <state directory>/           0700, root's
        records/<front>@<sandbox>@<ifname>.json
        locks/<name>.lock        only while held
        pins-<mount namespace>/<as records>    see pins

A record is written beside its place and renamed into it, so that a reader sees the old one or the
new one.  No fsync: the directory is a tmpfs and lives as long as the kernel state it describes;
elsewhere the record's boot id tells.
"""

from __future__ import annotations

import os

from cni_netdev.core import codec, locks
from cni_netdev.core.errors import RecordUnreadable, StateError
from cni_netdev.core.lean import TYPE_CHECKING, contextmanager, suppress
from cni_netdev.core.pins import Pins

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_netdev.core.model import Record
    from cni_netdev.core.ports import Key, Netns

DEFAULT_DIRECTORY = "/run/cni-netdev"
_SUFFIX, _TEMPORARY, _ASIDE = ".json", ".tmp", ".unreadable"
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_LONGEST_NAME = 240
_LOCK_SECONDS = 10.0
_OTHERS_MAY_WRITE = 0o022


class FileJournal:
    """Records, locks and pins of one state directory; made when first written."""

    def __init__(
        self, directory: str = DEFAULT_DIRECTORY, lock_timeout: float = _LOCK_SECONDS
    ) -> None:
        """lock_timeout: seconds that lock() waits."""
        self._directory = directory.rstrip("/") or "/"
        self._records = f"{self._directory}/records"
        # One place for each mount namespace: to remove a mount point or what looks like an
        # unused one here would unmount it in every other.
        self._mount_namespace = os.stat("/proc/thread-self/ns/mnt").st_ino
        self._pins = Pins(f"{self._directory}/{_pins(self._mount_namespace)}")
        self._lock_timeout = lock_timeout
        self._known: dict[str, tuple[tuple[int, int, int], Record]] = {}

    # --- records -----------------------------------------------------------------------------

    def has(self, key: Key) -> bool:
        try:
            return os.path.lexists(self._path(key))
        except StateError:
            return False  # a container id too long for a file never had one

    def read(self, key: Key) -> Record | None:
        path = self._path(key)
        try:
            with open(path, encoding="utf-8", errors="strict") as file:
                return codec.decode(file.read())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnicodeDecodeError as error:
            raise RecordUnreadable(f"{path} is no text: {error.reason}") from None
        except RecordUnreadable as error:
            raise RecordUnreadable(f"{path}: {error.message}", error.details) from None
        except OSError as error:
            raise _cannot("read", path, error) from error

    def write(self, record: Record) -> None:
        path = self._path(record.owner.key)
        self._make("records")
        temporary = f"{path}.{os.getpid()}{_TEMPORARY}"
        try:
            _write_new(temporary, codec.encode(record).encode())
            os.rename(temporary, path)
        except OSError as error:
            _unlink(temporary)
            raise _cannot("write", path, error) from error

    def forget(self, key: Key) -> None:
        """The caller holds the attachment's lock, so that a temporary file is a dead writer's."""
        path = self._path(key)
        self._known.pop(os.path.basename(path), None)
        unfinished = os.path.basename(path) + "."
        try:
            _unlink(path)
            for name in self._names():
                if name.startswith(unfinished) and name.endswith(_TEMPORARY):
                    _unlink(f"{self._records}/{name}")
        except OSError as error:
            raise _cannot("remove", path, error) from error

    def set_aside(self, key: Key) -> str | None:
        path = self._path(key)
        try:
            os.rename(path, path + _ASIDE)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _cannot("rename", path, error) from error
        return path + _ASIDE

    def records(self) -> tuple[Record, ...]:
        return tuple(record for _, record in self._scan() if not isinstance(record, str))

    def unreadable(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, why) for name, why in self._scan() if isinstance(why, str))

    def _scan(self) -> Iterator[tuple[str, Record | str]]:
        """(file name, record or why it cannot be read)."""
        names = self._names()
        for gone in self._known.keys() - set(names):
            del self._known[gone]  # forgotten by another process
        for name in names:
            if name.endswith(_ASIDE):
                yield name, "set aside earlier"
            if not name.endswith(_SUFFIX):
                continue
            try:
                yield name, self._decoded(name)
            except FileNotFoundError:
                continue  # forgotten since it was listed
            except RecordUnreadable as error:
                yield name, error.message
            except OSError as error:
                raise _cannot("read", name, error) from error

    def _decoded(self, name: str) -> Record:
        """A record as its file has it now; decoded again only if the file is another one.

        Every look for a link's holder goes through all records, and a written record is always a
        new file.
        """
        with open(f"{self._records}/{name}", encoding="utf-8", errors="replace") as file:
            found = os.fstat(file.fileno())
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
            known = self._known.get(name)
            if known is None or known[0] != version:
                known = self._known[name] = (version, codec.decode(file.read()))
        return known[1]

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self._records))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _cannot("list", self._records, error) from error

    def sweep(self) -> None:
        # Pins before records: a record stands before its pin is made.
        pins = self._pins.names()
        for name in self._names():
            if name.endswith(_TEMPORARY) and not _runs(name.split(".")[-2]):
                _unlink(f"{self._records}/{name}")
        kept = {name.removesuffix(_ASIDE).removesuffix(_SUFFIX) for name in self._names()}
        for pin in pins:
            if pin not in kept:
                self._pins.drop(pin, self.lock("pins"))
        try:
            locks.sweep(f"{self._directory}/locks")
        except OSError as error:
            raise _cannot("sweep", f"{self._directory}/locks", error) from error

    # --- locks and pins ----------------------------------------------------------------------

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[None]:
        self._make("locks")
        path = f"{self._directory}/locks/{_quoted(name)}.lock"
        try:
            held = locks.acquire(path, self._lock_timeout if wait else 0)
        except OSError as error:
            raise _cannot("lock", path, error) from error
        try:
            yield
        finally:
            locks.release(path, held)

    @property
    def mount_namespace(self) -> int:
        return self._mount_namespace

    def pin(self, key: Key, netns: Netns) -> None:
        opened: Any = netns  # what is really a namespace has a descriptor
        self._pins.add(self._name(key), opened.fd, self.lock("pins"))

    def pinned(self, key: Key) -> str | None:
        return self._pins.path(self._name(key))

    def pinned_elsewhere(self, key: Key, mount_namespace: int) -> bool:
        from cni_netdev.core import processes

        if mount_namespace in (0, self._mount_namespace):
            return False
        return processes.mounted_in(mount_namespace, f"/{_pins(mount_namespace)}/{self._name(key)}")

    def unpin(self, key: Key) -> None:
        self._pins.drop(self._name(key), self.lock("pins"))

    # --- the directory -----------------------------------------------------------------------

    def probe(self) -> None:
        self._make("records")
        path = f"{self._records}/probe.{os.getpid()}{_TEMPORARY}"
        try:
            _write_new(path, b"")
        except OSError as error:
            raise _cannot("write", self._records, error) from error
        finally:
            _unlink(path)

    def _make(self, name: str) -> None:
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            found = os.lstat(self._directory)
            if found.st_uid != os.geteuid() or found.st_mode & _OTHERS_MAY_WRITE:
                raise StateError(
                    f"state directory {self._directory} is another user's, or others may write it",
                    "records say which links to move: make it 0700 and root's",
                )
            if not os.path.isdir(self._directory) or os.path.islink(self._directory):
                raise StateError(f"state directory {self._directory} is no directory of its own")
            os.makedirs(f"{self._directory}/{name}", mode=0o700, exist_ok=True)
        except OSError as error:
            raise _cannot("make", self._directory, error) from error

    def _path(self, key: Key) -> str:
        return f"{self._records}/{self._name(key)}{_SUFFIX}"

    def _name(self, key: Key) -> str:
        name = "@".join(_quoted(part) for part in key)
        if len(name) > _LONGEST_NAME:
            raise StateError(f"container id {key[1][:40]}... is too long for the name of a record")
        return name


def _pins(mount_namespace: int) -> str:
    return f"pins-{mount_namespace}"


def _quoted(text: str) -> str:
    """Text as part of a file name: no two give the same, and none leaves its directory."""
    encoded = text.encode(errors="surrogatepass")
    return "".join(chr(each) if chr(each) in _PLAIN else f"%{each:02X}" for each in encoded)


def _write_new(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)


def _runs(pid: str) -> bool:
    return os.path.exists(f"/proc/{pid}")


def _cannot(verb: str, path: str, error: OSError) -> StateError:
    return StateError(
        f"cannot {verb} {path}: {error.strerror}", "the state directory must be root's and writable"
    )
