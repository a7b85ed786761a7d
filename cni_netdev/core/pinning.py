"""Which records need their sandbox's namespace kept alive, and pinning it.

Virtual links die with their namespace, and so does hardware's way home when the host's namespace
is not the initial one.  A record stands before its pin is made and says where that is.
"""

from __future__ import annotations

from cni_netdev.core.errors import NetdevError, NetnsError, StateError
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import NetnsRef, Record
from cni_netdev.core.recover import lock_of

if TYPE_CHECKING:
    from cni_netdev.core.model import Lent, Owner
    from cni_netdev.core.ports import Journal, Kernel, Netns


class Pinning:
    """Makes records and their pins."""

    def __init__(self, kernel: Kernel, journal: Journal) -> None:
        self._kernel = kernel
        self._journal = journal

    def intent(self, owner: Owner, path: str, target: Netns, devices: tuple[Lent, ...]) -> Record:
        """The record as it is before the first change.  path: where ``target`` was opened."""
        pinned = any(self._dies_with_namespace(lent) for lent in devices)
        return Record(
            owner=owner,
            netns=NetnsRef(path, target.cookie),
            boot_id=self._kernel.boot_id,
            complete=False,
            devices=devices,
            host=self._kernel.host.cookie,
            pinned_in=self._journal.mount_namespace if pinned else 0,
        )

    def _dies_with_namespace(self, lent: Lent) -> bool:
        return lent.home.link.kind is not None or not self._kernel.initial_netns

    def is_in(self, record: Record, target: Netns) -> bool:
        """Whether the record's devices were lent to this very namespace."""
        return (record.boot_id, record.netns.cookie) == (self._kernel.boot_id, target.cookie)

    def pin(self, record: Record, target: Netns) -> None:
        """Pin the namespace, if the record's devices need it.  Raises StateError."""
        if record.pinned_in:
            self._journal.pin(record.owner.key, target)

    def keep(self, record: Record, target: Netns) -> None:
        """Write the record and make its pin: both, or neither and a StateError."""
        self._journal.write(record)
        try:
            self.pin(record, target)
        except StateError:
            self._journal.unpin(record.owner.key)
            self._journal.forget(record.owner.key)
            raise

    def repin(self, front: str) -> tuple[str, ...]:
        """Pin here what this front end lent and has no pin here: pins die with their mount
        namespace, and a container that is started anew has a new one.

        The other front end's stay where it can see them.  Returns what could not be pinned.
        """
        notes = []
        for record in self._journal.records():
            if record.owner.front != front or not record.pinned_in or self._is_pinned(record):
                continue
            try:
                self._repin(record)
            except NetdevError as error:
                notes.append(f"{record.owner} is not pinned here: {error.message}")
        return tuple(notes)

    def _is_pinned(self, record: Record) -> bool:
        here = record.pinned_in == self._journal.mount_namespace
        return here and self._journal.pinned(record.owner.key) is not None

    def _repin(self, record: Record) -> None:
        with self._journal.lock(lock_of(record.owner.key)):
            if self._journal.read(record.owner.key) != record:
                return  # it changed since: whoever did that pins where they are
            target = self._kernel.open(record.netns.path)
            try:
                if not self.is_in(record, target):
                    raise NetnsError(f"another namespace is at {record.netns.path} by now")
                self._journal.pin(record.owner.key, target)
                self._journal.write(record._replace(pinned_in=self._journal.mount_namespace))
            finally:
                target.close()
