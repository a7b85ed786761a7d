"""Records as files of one directory, each under the name of its attachment.

A record is written beside its place and renamed into it, so that a reader sees the old one or the
new one.  No fsync: the directory is a tmpfs and lives as long as the kernel state it describes;
elsewhere the record's boot id tells.

A resident process remembers what it wrote and read.  When the whole directory is another one than
before, or gone, that is no forgetting but an accident, and what is remembered is put back.
"""

from __future__ import annotations

import errno
import os
import stat

from cni_netdev.core import codec
from cni_netdev.core.errors import RecordUnreadable, StateError
from cni_netdev.core.lean import TYPE_CHECKING, ExitStack, suppress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_netdev.core.model import Record

    _Version = tuple[int, int, int]

_SUFFIX, _TEMPORARY, _ASIDE = ".json", ".tmp", ".unreadable"
_PORTION = 1 << 16


class RecordFiles:
    """Names are those of attachments, without any suffix.  All methods raise StateError."""

    def __init__(self, directory: str, make: Callable[[], None], *, resident: bool) -> None:
        """make: makes the directory; called before each writing.  resident: see above."""
        self._directory = directory
        self._make = make
        self._resident = resident
        self._held: _Directory | None = None
        self._known: dict[str, tuple[_Version, Record]] = {}

    def has(self, name: str) -> bool:
        """Whether there is one, readable or not."""
        path = self._path(name)
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise cannot("look for", path, error) from error
        return True

    def read(self, name: str) -> Record | None:
        """Raises RecordUnreadable too."""
        path = self._path(name)
        try:
            return self._decoded(name)
        except (FileNotFoundError, NotADirectoryError):
            if self._held is None or self._held.is_at(self._directory):
                self._known.pop(name, None)  # forgotten by another process
            return None
        except RecordUnreadable as error:
            raise RecordUnreadable(f"{path}: {error.message}", error.details) from None
        except OSError as error:
            raise cannot("read", path, error) from error

    def write(self, name: str, record: Record) -> None:
        path = self._path(name)
        self._make()
        temporary = f"{path}.{os.getpid()}{_TEMPORARY}"
        try:
            version = _write_new(temporary, codec.encode(record).encode())
            os.rename(temporary, path)
        except OSError as error:
            with suppress(OSError):  # a sweep removes it
                os.unlink(temporary)
            raise cannot("write", path, error) from error
        if self._resident:
            self._hold()
            self._known[name] = (version, record)

    def forget(self, name: str) -> None:
        """The caller holds the attachment's lock, so that a temporary file is a dead writer's."""
        path = self._path(name)
        self._known.pop(name, None)
        try:
            _unlink(path)
            for each in self.listed():
                if each.startswith(f"{name}{_SUFFIX}.") and each.endswith(_TEMPORARY):
                    _unlink(f"{self._directory}/{each}")
        except OSError as error:
            raise cannot("remove", path, error) from error

    def set_aside(self, name: str) -> str | None:
        """Its new path; None when there is none."""
        path = self._path(name)
        try:
            os.rename(path, path + _ASIDE)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise cannot("rename", path, error) from error
        return path + _ASIDE

    def scan(self) -> Iterator[tuple[str, Record | str]]:
        """(file name, record or why it cannot be read)."""
        self._put_back_if_replaced()
        self._hold()
        names = self.listed()
        for gone in self._known.keys() - {each.removesuffix(_SUFFIX) for each in names}:
            del self._known[gone]  # forgotten by another process
        for each in names:
            if each.endswith(_ASIDE):
                yield each, "set aside earlier"
            if not each.endswith(_SUFFIX):
                continue
            try:
                yield each, self._decoded(each.removesuffix(_SUFFIX))
            except FileNotFoundError:
                continue  # forgotten since it was listed
            except RecordUnreadable as error:
                yield each, error.message
            except OSError as error:
                raise cannot("read", each, error) from error

    def _decoded(self, name: str) -> Record:
        """A record as its file has it now; decoded again only if the file is another one.

        Every look for a link's holder goes through all records.
        """
        fd = _open(self._path(name))
        try:
            version = _version(fd)
            known = self._known.get(name)
            if known is None or known[0] != version:
                known = self._known[name] = (version, codec.decode(_text(fd)))
        finally:
            os.close(fd)
        return known[1]

    def listed(self) -> list[str]:
        """Every file, by its own name."""
        try:
            return sorted(os.listdir(self._directory))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise cannot("list", self._directory, error) from error

    def names(self, listed: list[str]) -> frozenset[str]:
        """Those of records, readable or not, aside or not."""
        return frozenset(each.removesuffix(_ASIDE).removesuffix(_SUFFIX) for each in listed)

    def left_by_the_dead(self, listed: list[str]) -> list[str]:
        """The paths of the temporary files of writers that are no more."""
        temporary = [each for each in listed if each.endswith(_TEMPORARY)]
        return [f"{self._directory}/{each}" for each in temporary if not _runs(each.split(".")[-2])]

    def probe(self) -> None:
        """Raises StateError when no record could be written: an empty file fits on a full disk."""
        self._make()
        path = f"{self._directory}/probe.{os.getpid()}{_TEMPORARY}"
        try:
            try:
                _write_new(path, bytes(_PORTION))
            finally:
                _unlink(path)
        except OSError as error:
            raise cannot("write", self._directory, error) from error

    # --- an accident -------------------------------------------------------------------------

    def _put_back_if_replaced(self) -> None:
        """Raises StateError once it is done, for somebody must hear of it."""
        if self._held is None or not self._known or self._held.is_at(self._directory):
            return
        lost = [name for name in self._known if not self.has(name)]
        for name in lost:
            self.write(name, self._known[name][1])
        self._held = None
        self._hold()
        if lost:
            raise StateError(
                f"{self._directory} was removed or replaced: {len(lost)} records that were in it "
                "are put back from memory",
                "nothing else may touch the state directory while devices are lent",
            )

    def _hold(self) -> None:
        if self._resident and self._held is None:
            try:
                self._held = _Directory(self._directory)
            except (FileNotFoundError, NotADirectoryError):
                return  # nothing was written yet
            except OSError as error:
                raise cannot("open", self._directory, error) from error

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}{_SUFFIX}"


class _Directory:
    """A directory that is held open, so that no other gets its inode."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        from weakref import finalize  # a resident's only

        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        finalize(self, os.close, fd)
        self._fd = fd

    def is_at(self, path: str) -> bool:
        """Raises StateError when that cannot be told."""
        try:
            there = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise cannot("look at", path, error) from error
        mine = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def cannot(verb: str, path: str, error: OSError) -> StateError:
    return StateError(
        f"cannot {verb} {path}: {error.strerror}", "the state directory must be root's and writable"
    )


def _open(path: str) -> int:
    """Neither follows a link nor waits for a FIFO.  Raises OSError, RecordUnreadable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a socket
            raise RecordUnreadable("the record is no regular file") from None
        raise
    with ExitStack() as on_error:
        on_error.callback(os.close, fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise RecordUnreadable("the record is no regular file")
        on_error.pop_all()
    return fd


def _text(fd: int) -> str:
    data = b""
    while part := os.read(fd, _PORTION):
        data += part
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RecordUnreadable(f"the record is no text: {error.reason}") from None


def _write_new(path: str, data: bytes) -> _Version:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
        return _version(fd)
    finally:
        os.close(fd)


def _version(fd: int) -> _Version:
    """The same only for the same file with the same content: a record is always a new file."""
    found = os.fstat(fd)
    return found.st_ino, found.st_mtime_ns, found.st_size


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)


def _runs(pid: str) -> bool:
    return os.path.exists(f"/proc/{pid}")
