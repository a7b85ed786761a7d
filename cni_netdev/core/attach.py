"""One attach: what of it is to be done, and all of it or nothing.

Locks, always in this order: the attachment's, which the caller holds, then those of its links
sorted by name.
"""

from __future__ import annotations

from cni_netdev.core import plan
from cni_netdev.core.admission import admit_all, refuse_same_link_twice, resolve
from cni_netdev.core.compare import differences
from cni_netdev.core.errors import CannotApply, DeviceNotFound, LinkChanged, NetdevError
from cni_netdev.core.execute import Runner
from cni_netdev.core.holdings import asked_by, held_by, holding, lent_for, names, stacked_on
from cni_netdev.core.lean import TYPE_CHECKING, ExitStack
from cni_netdev.core.model import Lease
from cni_netdev.core.pinning import Pinning
from cni_netdev.core.restore import Restorer, lock_of_inode
from cni_netdev.core.snapshots import take

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_netdev.core.model import DeviceRequest, Lent, Link, Owner, Record
    from cni_netdev.core.policy import Pod, Policy
    from cni_netdev.core.ports import Journal, Kernel, Leases, Netns
    from cni_netdev.core.recover import Recoverer

_CHANGE_TRIES = 5


class Attacher:
    """Of one attachment, to the sandbox whose namespace is open."""

    def __init__(
        self,
        kernel: Kernel,
        journal: Journal,
        recoverer: Recoverer,
        owner: Owner,
        target: Netns,
        leases: Callable[[], Leases] | None = None,
    ) -> None:
        """leases: called before the first change of an attach or release that needs them."""
        self._kernel = kernel
        self._journal = journal
        self._recoverer = recoverer
        self._restorer = Restorer(kernel, journal)
        self._pinning = Pinning(kernel, journal)
        self._owner = owner
        self._target = target
        self._leases = leases

    def wanted(
        self, requests: tuple[DeviceRequest, ...]
    ) -> tuple[tuple[DeviceRequest, ...], tuple[str, ...]]:
        """Without what the other front end attached to this very sandbox by an equal request."""
        owner = self._owner
        twins = [
            record
            for record in self._journal.records()
            if record.complete
            and self._pinning.is_in(record, self._target)
            and record.owner.sandbox == owner.sandbox
            and record.owner.front != owner.front
        ]
        wanted, notes = [], []
        for request in requests:
            twin = asked_by(request, twins)
            if twin is None:
                wanted.append(request)
            else:
                notes.append(f"{request.selector} is already attached by {twin.front}")
        return tuple(wanted), tuple(notes)

    def standing(self, requests: tuple[DeviceRequest, ...]) -> Record | None:
        """The record if it stands; one that is half made, dead or untrue by now is undone first."""
        owner, target = self._owner, self._target
        record = self._journal.read(owner.key)
        if record is None:
            return None
        alive = self._pinning.is_in(record, target)
        wishes = [lent.request.wish for lent in record.devices]
        same = wishes == [request.wish for request in requests]
        stands = alive and record.complete
        if not stands or (same and differences(record, self._kernel.host, target, {})):
            release = self._restorer.release(record, leases=self._leases_for(record))
            if not release.complete or release.leases:
                raise CannotApply(
                    f"attachment {owner} still has a device away or leased an address from an "
                    "earlier time",
                    "; ".join(release.notes),
                )
            return None
        if same:
            return record
        raise CannotApply(
            f"attachment {owner} already holds {names(record) or 'nothing'} by another request",
            "detach it (DEL) before asking for something else",
        )

    def attach(
        self,
        path: str,
        requests: tuple[DeviceRequest, ...],
        policy: Policy,
        pod: Pod,
        in_time: Callable[[], None],
    ) -> Record:
        """All of them or none; from the beginning when somebody changed a link before it moved.

        path: where the namespace was opened.
        """
        leases = self._leases() if self._leases and any(each.ipam for each in requests) else None
        for _ in range(_CHANGE_TRIES - 1):
            try:
                return self._once(path, requests, policy, pod, in_time, leases)
            except LinkChanged:
                if self._journal.has(self._owner.key):
                    raise
                in_time()
        return self._once(path, requests, policy, pod, in_time, leases)

    def _leases_for(self, record: Record) -> Leases | None:
        return self._leases() if self._leases and record.leases else None

    def _once(
        self,
        path: str,
        requests: tuple[DeviceRequest, ...],
        policy: Policy,
        pod: Pod,
        in_time: Callable[[], None],
        leases: Leases | None,
    ) -> Record:
        with ExitStack() as locks:
            links = self._locked(requests, locks)
            pairs = zip(links, requests, strict=True)
            snapshots = tuple(
                take(self._kernel.host, link, each.vf, filters=bool(each.ebpf))
                for link, each in pairs
            )
            admit_all(requests, snapshots, policy, pod)
            devices = tuple(map(plan.lend, requests, snapshots))
            runner = Runner(self._kernel.host, self._target)
            strip = runner.check(devices)
            record = self._pinning.intent(self._owner, path, self._target, devices)
            if leases is not None:
                record = record._replace(leases=self._to_lease(devices), ipam=leases.ipam)
            self._journal.write(record)
            try:
                self._pinning.pin(record, self._target)
                if leases is None:
                    runner.attach(devices, plan.attach(devices, strip), in_time)
                else:
                    record = self._leased(record, runner, strip, in_time, leases)
                if any(request.extras for request in requests):
                    from cni_netdev.core.outfit import await_dad

                    await_dad(self._target, record.devices, in_time)
                in_time()
                record = record._replace(complete=True)
                self._journal.write(record)
            except Exception as error:
                # A link that was not touched is as others want it by now, not as we saw it.
                self._roll_back(record._replace(devices=runner.touched), error, leases)
                raise
        return record

    # --- addresses from elsewhere ------------------------------------------------------------

    def _to_lease(self, devices: tuple[Lent, ...]) -> tuple[Lease, ...]:
        """Under the names in the pod, which nothing else there has.

        Raises CannotApply when another attachment of the sandbox holds a lease of such a name: to
        give that back would be to take the other's.
        """
        sandbox = self._owner.sandbox
        held = {
            each.ifname: record.owner
            for record in self._others()
            if record.owner.sandbox == sandbox
            for each in record.leases
        }
        names = [lent.expected.name for lent in devices if _gets_lease(lent)]
        for name in names:
            if name in held:
                raise CannotApply(f"an address is leased to {held[name]} under {name!r} already")
        return tuple(map(Lease, names))

    def _leased(
        self,
        record: Record,
        runner: Runner,
        strip: tuple[frozenset[str], ...],
        in_time: Callable[[], None],
        leases: Leases,
    ) -> Record:
        """The record of the devices attached with what they were given.

        Before they move, so that a refusal moves nothing; unless it is asked for through them.
        """
        if leases.needs_the_link:
            runner.attach(record.devices, plan.moves(record.devices, strip), in_time)
            record = _granted(record, leases)
            runner.go_on(record.devices, plan.contents(record.devices), in_time)
        else:
            record = _granted(record, leases)
            runner.attach(record.devices, plan.attach(record.devices, strip), in_time)
        return record

    def _roll_back(self, record: Record, error: Exception, leases: Leases | None) -> None:
        release = self._restorer.release(
            record, links_locked=True, namespace=self._target, leases=leases
        )
        if release.notes and isinstance(error, NetdevError):
            error.with_details("; ".join(release.notes))

    # --- the links ---------------------------------------------------------------------------

    def _locked(self, requests: tuple[DeviceRequest, ...], locks: ExitStack) -> tuple[Link, ...]:
        """The links on the host, locked, none of them in anybody's record."""
        self._free_from_the_dead(requests)
        inodes = [self._inode(request) for request in requests]
        for name in sorted(map(lock_of_inode, {*inodes})):
            locks.enter_context(self._journal.lock(name))
        links = self._resolve_all(requests)
        others = self._others()
        for link in links:
            holder = holding(link.identity, others)
            if holder is not None:
                raise held_by(link.name, holder)
            above = stacked_on(link, others)
            if above is not None:
                raise held_by(f"what is stacked on {link.name}", above)
        if [link.identity.inode for link in links] != inodes:
            raise LinkChanged("the links asked for changed while they were being locked")
        return links

    def _inode(self, request: DeviceRequest) -> int:
        """Of the link to lock; what it is otherwise is looked at when it is."""
        kind, value = request.selector
        inode = self._kernel.host.numbers(value)[0] if kind == "name" else 0
        return inode or self._resolved(request).identity.inode

    def _resolve_all(self, requests: tuple[DeviceRequest, ...]) -> tuple[Link, ...]:
        links = tuple(map(self._resolved, requests))
        refuse_same_link_twice(requests, links)
        return links

    def _resolved(self, request: DeviceRequest) -> Link:
        try:
            return resolve(self._kernel.host, request)
        except DeviceNotFound:
            holder = lent_for(request, self._others())
            if holder is not None:
                raise held_by(str(request.selector), holder.owner) from None
            raise

    def _others(self) -> list[Record]:
        return [each for each in self._journal.records() if each.owner.key != self._owner.key]

    def _free_from_the_dead(self, requests: tuple[DeviceRequest, ...]) -> None:
        """Recover the records that hold what is asked for, if their owners are gone."""
        others = self._others()
        for request in requests:
            record = lent_for(request, others)
            if record is not None:
                self._recoverer.if_dead(record)


def _gets_lease(lent: Lent) -> bool:
    """A function that a program has is no link, and can carry no address."""
    return lent.request.ipam and bool(lent.home.link.identity.ifindex)


def _granted(record: Record, leases: Leases) -> Record:
    """Raises LeaseRefused, and CannotApply for routes on a link that stays down."""
    devices, held = list(record.devices), []
    for position, lent in enumerate(record.devices):
        if not _gets_lease(lent):
            continue
        granted = leases.lease(lent.expected.name)
        if granted.routes and not lent.request.up:
            raise CannotApply(
                f"{lent.request.where}.up: is false, but the IPAM plugin has routes for it",
                "give it an address of its own, or let it be up",
            )
        devices[position] = plan.with_lease(lent, granted)
        held.append(granted.lease)
    return record._replace(devices=tuple(devices), leases=tuple(held))
