"""Records whose owners are gone: who is dead, and bringing home what the dead hold.

One record's trouble is never another's, nor that of the call in whose passing it was found.
"""

from __future__ import annotations

from cni_netdev.core.errors import LockTimeout, NetdevError, StateError
from cni_netdev.core.lean import TYPE_CHECKING, ExitStack
from cni_netdev.core.model import Owner
from cni_netdev.core.restore import Release, Restorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_netdev.core.model import Record
    from cni_netdev.core.ports import Journal, Kernel, Key, Leases


class Recoverer:
    """Recovers records that nobody works on; takes their attachments' locks without waiting."""

    def __init__(self, kernel: Kernel, journal: Journal, restorer: Restorer) -> None:
        self._kernel = kernel
        self._journal = journal
        self._restorer = restorer

    def alive(self, record: Record, *, ended: bool = False) -> bool:
        """Whether a pod may still be using it; when in doubt, yes.

        ended: the runtime does not know its sandbox any more, which leaves less to doubt.
        """
        if record.host not in (0, self._kernel.host.cookie):
            return True  # another namespace's business
        if record.boot_id != self._kernel.boot_id or not record.complete:
            return False
        if self._kernel.cookie_at(record.netns.path) == record.netns.cookie:
            return True
        dead = ("empty", "unknown") if ended else ("empty",)
        return self._kernel.occupancy(record.netns.cookie) not in dead

    def if_dead(self, record: Record, *, ended: bool = False) -> Release | None:
        """Release the record if its owner is gone; None when it is left alone.

        Nothing is to be done for what holds nothing but leases: that takes its DEL.
        """

        def due(each: Record) -> bool:
            leased_only = bool(each.leases) and not each.devices
            return not leased_only and not self.alive(each, ended=ended)

        return self._recover(record, due)

    def anyway(self, record: Record, leases: Leases | None = None) -> Release | None:
        """Release the record, alive or not; None when somebody works on it now."""
        return self._recover(record, lambda _: True, leases)

    def others(self, besides: Key) -> tuple[str, ...]:
        """All dead ones but this, in passing; what is worth telling of them."""
        try:
            records = [each for each in self._journal.records() if each.owner.key != besides]
        except StateError as error:
            return (error.message,)
        releases = [self.if_dead(record) for record in records]
        return tuple(
            f"recovering {release.owner}: {note}"
            for release in releases
            if release is not None
            for note in release.notes
        )

    def orphans(self) -> Iterator[Release]:
        """Let go of what is pinned for attachments whose records somebody took away, as asked for.

        What was lent to them nobody can tell; what is virtual ends with its namespace.
        """
        for key in self._journal.orphans():
            release = self._let_go(key)
            if release is not None:
                yield release

    def orphan(self, key: Key) -> Release | None:
        """The same for this attachment; None when nothing is pinned for it."""
        return None if self._journal.pinned(key) is None else self._let_go(key)

    def _let_go(self, key: Key) -> Release | None:
        owner = owner_of(key)
        try:
            with self._journal.lock(lock_of(key), wait=False):
                if self._journal.has(key):
                    return None
                names = self._names_in_pin(key)
                self._journal.unpin(key)
        except LockTimeout:
            return None
        except NetdevError as error:
            return Release(owner, (), (error.message,), complete=False)
        if not names:
            return None
        note = (
            "its record was taken away, so that nothing can be brought home and its namespace is "
            f"not kept any more: what is virtual of {', '.join(names)} ends with the pod"
        )
        return Release(owner, (), (note,), complete=True)

    def _names_in_pin(self, key: Key) -> tuple[str, ...]:
        path = self._journal.pinned(key)
        if path is None:
            return ()
        namespace = self._kernel.open(path)
        try:
            return tuple(link.name for link in namespace.links() if not link.loopback)
        finally:
            namespace.close()

    def _recover(
        self, stale: Record, due: Callable[[Record], bool], leases: Leases | None = None
    ) -> Release | None:
        key = stale.owner.key
        try:
            with ExitStack() as lock:
                if not due(stale):
                    return None
                try:
                    lock.enter_context(self._journal.lock(lock_of(key), wait=False))
                except LockTimeout:
                    return None  # it is being worked on, and so in good hands
                record = self._journal.read(key)
                if record is None or not due(record):
                    return None
                return self._restorer.release(record, leases=leases)
        except Exception as error:  # noqa: BLE001 - see above
            reason = error.message if isinstance(error, NetdevError) else repr(error)
            return Release(stale.owner, (), (reason,), complete=False)


def owner_of(key: Key) -> Owner:
    """As far as a key tells."""
    return Owner("cni" if key[0] == "cni" else "nri", "", key[1], key[2])


def lock_of(key: Key) -> str:
    """The name of an attachment's lock."""
    return "attachment-" + "-".join(key)
