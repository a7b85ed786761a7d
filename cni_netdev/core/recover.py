"""Records whose owners are gone: who is dead, and bringing home what the dead hold.

One record's trouble is never another's, nor that of the call in whose passing it was found.
"""

from __future__ import annotations

from cni_netdev.core.errors import LockTimeout, NetdevError, StateError
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.restore import Release, Restorer

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_netdev.core.model import Record
    from cni_netdev.core.ports import Journal, Kernel, Key


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
        """Release the record if its owner is gone; None when it is left alone."""
        return self._recover(record, lambda each: not self.alive(each, ended=ended))

    def anyway(self, record: Record) -> Release | None:
        """Release the record, alive or not; None when somebody works on it now."""
        return self._recover(record, lambda _: True)

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

    def _recover(self, stale: Record, due: Callable[[Record], bool]) -> Release | None:
        key = stale.owner.key
        try:
            if not due(stale):
                return None
            with self._journal.lock(lock_of(key), wait=False):
                record = self._journal.read(key)
                if record is None or not due(record):
                    return None
                return self._restorer.release(record)
        except LockTimeout:
            return None  # it is being worked on, and so in good hands
        except Exception as error:  # noqa: BLE001 - see above
            reason = error.message if isinstance(error, NetdevError) else repr(error)
            return Release(stale.owner, (), (reason,), complete=False)


def lock_of(key: Key) -> str:
    """The name of an attachment's lock."""
    return "attachment-" + "-".join(key)
