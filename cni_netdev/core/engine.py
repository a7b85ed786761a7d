"""Attach, detach, check and recover, over the ports Kernel and Journal.

An attach is journalled before its first change; whatever happens afterwards, the record and a
look at both namespaces are enough to bring every link home.  Rolling back a failed attach, a
detach and a recovery are therefore one and the same: ``restore``.

Locks, always in this order: the attachment's, then those of its links sorted by name.  A record
that is incomplete while nobody holds its attachment's lock was left by a process that died.
"""

from __future__ import annotations

from cni_netdev.core.errors import DeviceNotFound, NetnsError, RecordUnreadable
from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple, contextmanager, suppress
from cni_netdev.core.pinning import Pinning
from cni_netdev.core.recover import Recoverer, lock_of, owner_of
from cni_netdev.core.restore import Release, Restorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_netdev.core.compare import Told
    from cni_netdev.core.model import DeviceRequest, Owner, Record
    from cni_netdev.core.policy import Pod, Policy
    from cni_netdev.core.ports import Journal, Kernel, Key, Leases, Netns


def _no_limit() -> None: ...


class Attachment(NamedTuple):
    """What an attach made.  notes: worth telling, such as a link that was there already.

    made: by this very call; else it stood already, by an equal one.
    """

    record: Record
    notes: tuple[str, ...] = ()
    made: bool = True


class Injector:
    """The injection core.  One call at a time; several processes may work side by side."""

    def __init__(self, kernel: Kernel, journal: Journal, *, resident: bool = False) -> None:
        """resident: somebody calls recoveries() now and then, so that no attach or detach needs
        to bring home in passing what other, dead attachments hold.
        """
        self._resident = resident
        self._kernel = kernel
        self._journal = journal
        self._restorer = Restorer(kernel, journal)
        self._recoverer = Recoverer(kernel, journal, self._restorer)
        self._pinning = Pinning(kernel, journal)

    # --- attach ------------------------------------------------------------------------------

    def attach(
        self,
        owner: Owner,
        netns_path: str,
        requests: tuple[DeviceRequest, ...],
        policy: Policy,
        pod: Pod,
        in_time: Callable[[], None] = _no_limit,
        leases: Callable[[], Leases] | None = None,
    ) -> Attachment:
        """Move the links asked for into the namespace, all of them or none.

        The same attach again gives the same result.  Raises any NetdevError; then the host is as
        it was, or the error's details say what is still away and the record stays to be retried.
        in_time: called before each step and before success, to raise when the time is up.
        leases: for requests with ``ipam``; called before anything is changed, and only if needed.
        """
        from cni_netdev.core.attach import Attacher  # not for a detach

        with self._journal.lock(lock_of(owner.key)), self._pods(netns_path) as target:
            attacher = Attacher(self._kernel, self._journal, self._recoverer, owner, target, leases)
            wanted, notes = attacher.wanted(requests)
            stood = attacher.standing(wanted)
            record = stood or attacher.attach(netns_path, wanted, policy, pod, in_time)
            if stood is None and any(lent.home.rdma for lent in record.devices):
                from cni_netdev.core import rdma

                notes += tuple(rdma.notes(record.devices, target))
        return Attachment(record, (*notes, *self._in_passing(owner.key)), made=stood is None)

    def _in_passing(self, key: Key) -> tuple[str, ...]:
        return () if self._resident else self._recoverer.others(besides=key)

    @contextmanager
    def _pods(self, path: str) -> Iterator[Netns]:
        """A pod's namespace, open.  Raises NetnsError, also when it is the host's own."""
        target = self._kernel.open(path)
        try:
            if target.cookie == self._kernel.host.cookie:
                raise NetnsError(
                    f"network namespace {path!r} is the host's own",
                    "a pod on the host's network sees every link already; ask for no device there",
                )
            yield target
        finally:
            target.close()

    def adopt(
        self,
        owner: Owner,
        netns_path: str,
        requests: tuple[DeviceRequest, ...],
        policy: Policy,
        pod: Pod,
    ) -> Attachment | None:
        """Put on record what the Go injector lent to this pod; None when there is a record.

        Nothing moves.  notes: what is not there as the Go injector leaves it, or may not go.
        Raises NetnsError, KernelRefused, LockTimeout, StateError.
        """
        from cni_netdev.core.adopt import Adopter  # for a migration, not for every pod

        with self._journal.lock(lock_of(owner.key)):
            if self._journal.has(owner.key):
                return None
            with self._pods(netns_path) as target:
                adopter = Adopter(self._kernel.host, target, self._journal.records())
                devices, notes = adopter.find(requests, policy, pod)
                intent = self._pinning.intent(owner, netns_path, target, devices)
                record = intent._replace(complete=True)
                if devices:
                    self._pinning.keep(record, target)
        return Attachment(record, notes)

    # --- the way back ------------------------------------------------------------------------

    def detach(self, key: Key, leases: Callable[[], Leases] | None = None) -> Release | None:
        """Bring home what an attachment holds; None when nothing is known of it.

        Never fails because of what a pod did: what cannot come back at once stays on record and
        is said in the release's notes.  Raises LockTimeout and StateError.
        leases: called before anything is changed, if addresses are to be given back.  Without it
        they stay leased, and on record.
        """
        known = self._journal.has(key)
        release = self._detach(key, leases) if known else self._recoverer.orphan(key)
        notes = self._in_passing(key)
        if release is None and notes:
            release = Release(owner_of(key), (), (), complete=True)
        return release._replace(notes=(*release.notes, *notes)) if release else None

    def _detach(self, key: Key, leases: Callable[[], Leases] | None) -> Release | None:
        with self._journal.lock(lock_of(key)):
            try:
                record = self._journal.read(key)
            except RecordUnreadable as error:
                aside = self._journal.set_aside(key)
                note = f"{error.message}; kept as {aside}"
                return Release(owner_of(key), (), (note,), complete=False)
            if record is None:
                return None
            given = leases() if leases is not None and record.leases else None
            return self._restorer.release(record, leases=given)

    def reap(
        self,
        *,
        front: str,
        network: str,
        valid: frozenset[tuple[str, str]] | None,
        leases: Leases | None = None,
    ) -> Iterator[Release]:
        """Bring home what dead sandboxes hold, and what is not in ``valid``, as asked for.

        valid: (sandbox, ifname) of this network's attachments that stand; None: not known, and
        then nothing is taken out of a live namespace.  leases: this network's.  Raises StateError,
        what cannot be swept last.
        """
        for record in self._journal.records():
            owner = record.owner
            ours = (owner.front, owner.network) == (front, network)
            if valid is not None and ours and (owner.sandbox, owner.ifname) not in valid:
                release = self._recoverer.anyway(record, leases)
            else:
                release = self._recoverer.if_dead(record)
            if release is not None:
                yield release
        yield from self._recoverer.orphans()
        self._journal.sweep()

    def recover(self, ended: frozenset[str] = frozenset()) -> tuple[Release, ...]:
        """Bring home whatever no living pod holds, and clear what killed processes left.

        ended: sandboxes that the runtime does not know any more.  One whose namespace has no path
        either is dead, unless processes are seen in it.
        """
        return tuple(self.recoveries(ended))

    def recoveries(self, ended: frozenset[str] = frozenset()) -> Iterator[Release]:
        """The same, one after the other as they are asked for: each may take its time.

        Raises StateError, what cannot be swept last.
        """
        for record in self._journal.records():
            release = self._recoverer.if_dead(record, ended=record.owner.sandbox in ended)
            if release is not None:
                yield release
        yield from self._recoverer.orphans()
        self._journal.sweep()

    def repin(self, front: str) -> tuple[str, ...]:
        """Pin here what has no pin here, as after a restart of the agent's container.

        Returns what could not be pinned.
        """
        return self._pinning.repin(front)

    # --- looking -----------------------------------------------------------------------------

    def unreadable(self) -> tuple[str, ...]:
        """A sentence for each record that cannot be read; a device that is away may be in it."""
        found = self._journal.unreadable()
        return tuple(f"unreadable record {name}: {why}" for name, why in found)

    def unrecorded(
        self, sandbox: str, netns_path: str, requests: tuple[DeviceRequest, ...]
    ) -> tuple[str, ...]:
        """A sentence for each device asked for that seems to be in the pod without a record.

        Whoever took the record away took the way home with it.  Raises NetnsError, KernelRefused.
        """
        from cni_netdev.core.holdings import lent_for

        records = self._journal.records()
        if any(record.owner.sandbox == sandbox for record in records):
            return ()
        wanted = [(each, each.new_name or each.selector.value) for each in requests]
        with self._pods(netns_path) as target:
            return tuple(
                f"{each.selector} is not on the host and {name!r} is in the pod, but no record is "
                "left of it: what is virtual ends with the pod, hardware comes back as it is then"
                for each, name in wanted
                if target.link(name=name) is not None
                and lent_for(each, records) is None
                and not self._is_home(each)
            )

    def _is_home(self, request: DeviceRequest) -> bool:
        from cni_netdev.core.admission import resolve

        try:
            resolve(self._kernel.host, request)
        except DeviceNotFound:
            return False
        return True

    def missing(self, sandbox: str, requests: tuple[DeviceRequest, ...]) -> tuple[str, ...]:
        """The selectors of those requests that no complete attachment of the sandbox answers."""
        from cni_netdev.core.holdings import missing

        return missing(requests, sandbox, self._kernel.boot_id, self._journal.records())

    def names(self, requests: tuple[DeviceRequest, ...]) -> tuple[str, ...]:
        """What each would be called in the pod, by what the host has now, as far as that tells."""
        from cni_netdev.core.admission import resolve

        found = []
        for each in requests:
            name = each.new_name
            with suppress(DeviceNotFound):
                found.append(name or resolve(self._kernel.host, each).name)
        return tuple(found)

    def leases(self, key: Key) -> tuple[str, tuple[str, ...]]:
        """Of an attachment: the configuration of who gave them, and their names."""
        record = self._journal.read(key)
        return (record.ipam, tuple(each.ifname for each in record.leases)) if record else ("", ())

    def leased(self, front: str, network: str) -> tuple[tuple[str, str, bool], ...]:
        """(sandbox, name, whether a device may still use it) of each lease of a network."""
        return tuple(
            (record.owner.sandbox, each.ifname, bool(record.devices))
            for record in self._journal.records()
            if (record.owner.front, record.owner.network) == (front, network)
            for each in record.leases
        )

    def has(self, key: Key) -> bool:
        """Whether there is a record of the attachment, whole or not."""
        return self._journal.has(key)

    def sandboxes(self, front: str) -> frozenset[str]:
        """Those with a record of this front end."""
        owners = [record.owner for record in self._journal.records()]
        return frozenset(owner.sandbox for owner in owners if owner.front == front)

    def held(self) -> int:
        """How many devices are lent."""
        return sum(len(record.devices) for record in self._journal.records())

    def alive(self, record: Record) -> bool:
        """Whether a pod may still be using what the record holds; when in doubt, yes."""
        return self._recoverer.alive(record)

    def check(self, key: Key, netns_path: str, told: Told) -> tuple[str, ...]:
        """What differs from the record, a sentence each; empty when all is as it was made.

        told: by name in the pod, the MAC and MTU that later plugins report to have set.
        Raises DeviceNotFound when there is no complete record of the attachment.
        """
        from cni_netdev.core.compare import differences

        record = self._journal.read(key)
        if record is None or not record.complete:
            raise DeviceNotFound(f"no complete attachment of {key[1]}/{key[2]} is on record")
        target = self._kernel.open(netns_path)
        try:
            if target.cookie != record.netns.cookie:
                return (f"{netns_path} is not the namespace that the devices were attached to",)
            return differences(record, self._kernel.host, target, told)
        finally:
            target.close()

    def probe(self) -> None:
        """Raises StateError when the state directory cannot be written."""
        self._journal.probe()

    def find(self, request: DeviceRequest) -> str:
        """``host`` or ``lent``.  Raises DeviceNotFound when it is neither."""
        from cni_netdev.core.admission import resolve
        from cni_netdev.core.holdings import lent_for

        if lent_for(request, self._journal.records()) is not None:
            return "lent"
        resolve(self._kernel.host, request)
        return "host"
