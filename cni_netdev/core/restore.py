"""Bringing a record's links home, from wherever they are and whatever was done to them.

It starts from the record and a look, and can be repeated after any interruption.  What cannot be
done is said in notes and never stops the rest.
"""

from __future__ import annotations

import errno

from cni_netdev.core import plan
from cni_netdev.core.errors import KernelRefused, NetdevError, StateError
from cni_netdev.core.execute import perform
from cni_netdev.core.lean import TYPE_CHECKING, ExitStack, NamedTuple
from cni_netdev.core.locate import Locator
from cni_netdev.core.overhearing import silence
from cni_netdev.core.settle import Settled, let_go, settle, settle_function
from cni_netdev.core.steps import Move

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_netdev.core.model import Lease, Lent, Link, Owner, Record
    from cni_netdev.core.ports import Journal, Kernel, Leases, Netns
    from cni_netdev.core.steps import Step

_MOVE_TRIES = 3
_SEARCHES = 5
_FALLBACKS = 100
_NAME_BYTES = 15
_ODD = "surrogateescape"  # the kernel takes any bytes in a name


class Release(NamedTuple):
    """What came home.

    devices: host names, as they are now.  notes: a sentence for each thing that is not as it was.
    complete: False when something is still away; then the record stays and is retried.
    fell_back: how many came home under a name that is not their own.  lost: how many are gone.
    leases: the names of those that are still held; then the record stays for them.
    """

    owner: Owner
    devices: tuple[str, ...]
    notes: tuple[str, ...]
    complete: bool
    fell_back: int = 0
    lost: int = 0
    leases: tuple[str, ...] = ()


class Restorer:
    """Restores records; the caller holds the attachment's lock."""

    def __init__(self, kernel: Kernel, journal: Journal) -> None:
        self._kernel = kernel
        self._journal = journal

    def release(
        self,
        record: Record,
        *,
        links_locked: bool = False,
        namespace: Netns | None = None,
        leases: Leases | None = None,
    ) -> Release:
        """Bring everything home, drop the pin, give back the leases, forget the record.

        links_locked: the caller holds the links' locks.  namespace: the sandbox's, if it is open
        already; it stays open.  leases: without it they stay, and so does the record.
        """
        here = (0, self._kernel.host.cookie)
        if record.boot_id == self._kernel.boot_id and record.host not in here:
            note = "its devices belong to another network namespace than this one: run this there"
            return Release(record.owner, (), (note,), complete=False)
        release = self._bring_home(record, links_locked=links_locked, namespace=namespace)
        return self._give_back(record, release, leases) if record.leases else release

    def _bring_home(
        self, record: Record, *, links_locked: bool, namespace: Netns | None
    ) -> Release:
        if record.boot_id != self._kernel.boot_id:
            note = f"the record of {record.owner} is from before the last boot: forgotten"
            return self._finished(record, Release(record.owner, (), (note,), complete=True))
        with ExitStack() as locks:
            if not links_locked:
                inodes = {lent.home.link.identity.inode for lent in record.devices}
                for name in sorted(map(lock_of_inode, inodes)):
                    locks.enter_context(self._journal.lock(name))
            marked = self._note_away(record, record.devices) if record.complete else ()
            homecoming = _Homecoming(self._kernel, self._journal, record, namespace)
            release, away = homecoming.run()
            if not release.complete:
                marked = (*marked, *self._note_away(record, away))
            release = release._replace(notes=(*marked, *release.notes))
            return self._finished(record, release) if release.complete else release

    def _note_away(self, record: Record, away: tuple[Lent, ...]) -> tuple[str, ...]:
        """Keep on record just what is still away, and that it is not whole any more.

        Before the first change too: half taken back must not be taken for attached.  A full disk
        keeps no link in a pod; then the record merely says too much.
        """
        try:
            self._journal.write(record._replace(complete=False, devices=away))
        except StateError as error:
            return (error.message,)
        return ()

    def _finished(self, record: Record, release: Release) -> Release:
        """All devices are home: only what is leased stays on record."""
        try:
            self._finish(record)
        except StateError as error:
            notes = (*release.notes, f"all is home, but {error.message}")
            return release._replace(notes=notes, complete=False)
        return release

    def _finish(self, record: Record) -> None:
        self._journal.unpin(record.owner.key)
        if record.leases:
            self._journal.write(record._replace(complete=False, devices=(), pinned_in=0))
        else:
            self._journal.forget(record.owner.key)

    def _give_back(self, record: Record, release: Release, leases: Leases | None) -> Release:
        """After the devices, which others may have by now, however long it takes.

        Also what a device has that is still away: its pod ends.
        """
        names = tuple(each.ifname for each in record.leases)
        if leases is None:
            note = (
                f"addresses of {', '.join(names)} stay leased until this attachment's DEL or a GC"
            )
            return release._replace(notes=(*release.notes, note), leases=names)
        troubles = leases.release(record)
        notes = (*release.notes, *troubles.values())
        left = tuple(each for each in record.leases if each.ifname in troubles)
        try:
            self._keep_leases(record, left)
        except StateError as error:
            notes = (*notes, error.message)
        return release._replace(notes=notes, leases=tuple(troubles))

    def _keep_leases(self, record: Record, leases: tuple[Lease, ...]) -> None:
        kept = self._journal.read(record.owner.key)
        if kept is None:
            return
        if leases or kept.devices:
            self._journal.write(kept._replace(leases=leases))
        else:
            self._journal.forget(record.owner.key)


def lock_of_inode(inode: int) -> str:
    """The name of a link's lock; the inode is a part of its identity."""
    return f"link-{inode}"


class _Homecoming:
    """One release of one record: first every link moves home, then each is settled.

    In this order, so that two links that swapped names or MACs in the pod can swap them back.
    """

    def __init__(
        self, kernel: Kernel, journal: Journal, record: Record, namespace: Netns | None
    ) -> None:
        self._kernel = kernel
        self._host = kernel.host
        self._record = record
        self._locator = Locator(kernel, journal, record, namespace)
        self._notes: list[str] = []
        self._away: list[Lent] = []
        self._lost = 0

    def run(self) -> tuple[Release, tuple[Lent, ...]]:
        """What was done, and the devices that stay on record."""
        devices = self._record.devices
        moved = [lent for lent in devices if lent.home.link.identity.ifindex]
        stayed = [lent for lent in devices if not lent.home.link.identity.ifindex]
        try:
            fetched = [(lent, self._fetched(lent)) for lent in reversed(moved)]
            self._take_back([lent for lent in moved if lent.request.extras])
            for lent in moved:
                self._fetch_rdma(lent)
        finally:
            self._locator.close()
        home = [(lent, link) for lent, link in fetched if link is not None]
        settled = [(lent, self._settled(lent, link)) for lent, link in home]
        # Once more for what was refused: another link's settling may have made room for it.
        settled = [
            (lent, self._settled(lent, link) if first and first.refused else first)
            for (lent, first), (_, link) in zip(settled, home, strict=True)
        ]
        settled += [(lent, self._function_settled(lent)) for lent in reversed(stayed)]
        for lent, result in settled:
            if result is None or result.again:
                self._away.append(lent)
            self._notes.extend(result.notes if result else ())
        names = tuple(result.name for _, result in reversed(settled) if result)
        away = tuple(lent for lent in devices if lent in self._away)
        fell_back = sum(
            result.name != lent.home.link.name for lent, result in settled if result is not None
        )
        notes = tuple(self._notes)
        return Release(self._record.owner, names, notes, not away, fell_back, self._lost), away

    def _take_back(self, devices: list[Lent]) -> None:
        """What is of no link, out of the sandbox's namespace if that lives on."""
        if not devices:
            return
        from cni_netdev.core.outfit import take_back

        try:
            sandbox = self._locator.nearby()
            if sandbox is not None:
                self._notes.extend(take_back(sandbox, devices))
        except NetdevError as error:
            self._notes.append(f"rules or VRFs may be left in the pod's namespace: {error.message}")

    def _fetch_rdma(self, lent: Lent) -> None:
        """The hardware's RDMA devices, which may be elsewhere than their link."""
        for device in lent.home.rdma:
            if device.soft:
                continue
            what = f"RDMA device {device.name} of {lent.home.link.name}"
            try:
                if not self._locator.bring_rdma(device):
                    self._notes.append(f"{what} is lost: no namespace that is seen here has it")
            except NetdevError as error:
                self._away.append(lent)
                self._notes.append(f"{what} is still away: {error.message}")

    def _fetched(self, lent: Lent) -> Link | None:
        """The link on the host; None when it is lost or still away."""
        try:
            link = self._brought_home(lent)
            return link if link is not None and self._is_quiet(lent, link) else None
        except Exception as error:  # noqa: BLE001 - one link's trouble must not keep the others
            self._stays_away(lent, error)
            return None

    def _brought_home(self, lent: Lent) -> Link | None:
        """The link on the host, from wherever it was; None when it is lost."""
        for attempt in range(_SEARCHES):
            found = self._locator.find(lent)
            if found is None:
                name = lent.home.link.name
                self._lost += 1
                self._notes.append(f"{name} is lost: it is neither on the host nor in the pod")
                if lent.request.ebpf:
                    self._host.let_go_programs(lent.home.link.identity.inode)
                return None
            place, seen = found
            if place is self._host:
                return seen
            try:
                return self._move_home(lent, place, seen)
            except KernelRefused as error:
                # A pod may have moved it on while we looked.
                if error.errno != errno.ENODEV or attempt == _SEARCHES - 1:
                    raise
        raise AssertionError("unreachable")

    def _is_quiet(self, lent: Lent, link: Link) -> bool:
        """Whether nothing of the pod's hears the link any more; else it stays on record."""
        try:
            silenced = silence(self._kernel, lent.home, link, self._locator.nearby())
        except KernelRefused:
            if not self._taken_on(lent):
                raise
            self._notes.append(self._left(lent))
            return False
        self._notes.extend(silenced.notes)
        if silenced.heard:
            self._away.append(lent)
        return not silenced.heard

    def _settled(self, lent: Lent, link: Link) -> Settled | None:
        name = lent.home.link.name
        try:
            link = self._host.link(ifindex=link.identity.ifindex) or link
            if link.name != name:
                name = self._free_name(lent)
            settled = settle(self._host, lent.home, link, name)
            return let_go(self._host, lent.home, link, settled) if lent.request.ebpf else settled
        except Exception as error:  # noqa: BLE001 - as above
            if isinstance(error, KernelRefused) and self._taken_on(lent):
                return Settled(name, (self._left(lent),), refused=False, again=False)
            self._stays_away(lent, error)
            return None

    def _function_settled(self, lent: Lent) -> Settled | None:
        try:
            return settle_function(self._host, lent.home)
        except Exception as error:  # noqa: BLE001 - as above
            self._stays_away(lent, error)
            return None

    def _taken_on(self, lent: Lent) -> bool:
        """Whether somebody took it from the host again; then it is theirs by now, not ours."""
        try:
            return self._host.find(lent.home.link.identity) is None
        except NetdevError:
            return False

    def _left(self, lent: Lent) -> str:
        return f"{lent.home.link.name} came home and was deleted or taken on by somebody else"

    def _stays_away(self, lent: Lent, error: Exception) -> None:
        reason = error.message if isinstance(error, NetdevError) else repr(error)
        self._away.append(lent)
        self._notes.append(f"{lent.home.link.name} is still away: {reason}")

    # --- the move ----------------------------------------------------------------------------

    def _move_home(self, lent: Lent, pod: Netns, seen: Link) -> Link | None:
        """The link on the host; None when somebody took it on at once."""
        for attempt in range(_MOVE_TRIES):
            name = self._free_name(lent)
            own = lent.home.link.altnames
            taken = frozenset(each for each in own if self._host.link(name=each))
            try:
                if seen.uppers:
                    pod.delete_stacked(seen.identity.ifindex, pod)
                self._leave(plan.leave_pod(lent, seen, name, taken), pod, seen)
            except KernelRefused:
                came = self._host.find(lent.home.link.identity)
                if came is not None:
                    return came
                if attempt == _MOVE_TRIES - 1:
                    raise
                seen = pod.find(lent.home.link.identity) or seen
            else:
                return self._came(lent, name)
        raise AssertionError("unreachable")

    def _leave(self, steps: Sequence[Step], pod: Netns, seen: Link) -> None:
        """Raises KernelRefused for the move."""
        for step in steps:
            try:
                perform(step, pod, self._host, seen.identity.ifindex)
            except KernelRefused:
                if isinstance(step, Move):
                    raise

    def _came(self, lent: Lent, name: str) -> Link | None:
        link = self._host.link(name=name)
        if link is None or not lent.home.link.identity.same_link(link.identity):
            link = self._host.find(lent.home.link.identity)
        if link is None:
            self._notes.append(self._left(lent))
        return link

    def _free_name(self, lent: Lent) -> str:
        """Its own name, or the first free fall-back when somebody else has that by now."""
        name = lent.home.link.name
        if self._free(name, lent):
            return name
        short = name.encode(errors=_ODD)[: _NAME_BYTES - 3].decode(errors=_ODD)
        for number in range(_FALLBACKS):
            fallback = f"{short}_{number}"
            if self._free(fallback, lent):
                return fallback
        raise NetdevError(f"no free name like {short}_0 on the host for {name}")

    def _free(self, name: str, lent: Lent) -> bool:
        holder = self._host.link(name=name)
        return holder is None or lent.home.link.identity.same_link(holder.identity)
