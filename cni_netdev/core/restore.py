"""Bringing a record's links home, from wherever they are and whatever was done to them.

It starts from the record and a look, and can be repeated after any interruption.  What cannot be
done is said in notes and never stops the rest.
"""

from __future__ import annotations

import errno
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from cni_netdev.core import plan
from cni_netdev.core.errors import KernelRefused, NetdevError, NetnsError, StateError
from cni_netdev.core.execute import perform
from cni_netdev.core.settle import settle
from cni_netdev.core.steps import Altname, DeleteUpper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_netdev.core.model import Lent, Link, Owner, Record
    from cni_netdev.core.ports import Journal, Kernel, Netns
    from cni_netdev.core.steps import Step

_MOVE_TRIES = 3
_FALLBACKS = 100
_NAME_BYTES = 15
# Kinds that hang on a lower link and hear what it hears.
_STACKED = frozenset(("macvlan", "macvtap", "vlan", "ipvlan", "ipvtap", "macsec"))


class Release(NamedTuple):
    """What came home.

    devices: host names, as they are now.  notes: a sentence for each thing that is not as it was.
    complete: False when something is still away; then the record stays and is retried.
    """

    owner: Owner
    devices: tuple[str, ...]
    notes: tuple[str, ...]
    complete: bool


class Restorer:
    """Restores records; the caller holds the attachment's lock."""

    def __init__(self, kernel: Kernel, journal: Journal) -> None:
        self._kernel = kernel
        self._journal = journal

    def release(
        self, record: Record, *, links_locked: bool = False, namespace: Netns | None = None
    ) -> Release:
        """Bring everything home, drop the pin, forget the record.

        links_locked: the caller holds the links' locks.  namespace: the sandbox's, if it is open
        already; it stays open.
        """
        if record.boot_id != self._kernel.boot_id:
            note = f"the record of {record.owner} is from before the last boot: forgotten"
            return self._finished(record, Release(record.owner, (), (note,), complete=True))
        with ExitStack() as locks:
            if not links_locked:
                for name in sorted(lock_of_link(lent.home.link) for lent in record.devices):
                    locks.enter_context(self._journal.lock(name))
            marked = self._mark(record)
            release = _Return(self._kernel, self._journal, record, namespace).run()
            release = release._replace(notes=(*marked, *release.notes))
            return self._finished(record, release) if release.complete else release

    def _mark(self, record: Record) -> tuple[str, ...]:
        """Before the first change: what is half taken back must not be taken for attached.

        A full disk keeps no link in a pod; then the record merely looks whole for longer.
        """
        if record.complete:
            try:
                self._journal.write(record._replace(complete=False))
            except StateError as error:
                return (error.message,)
        return ()

    def _finished(self, record: Record, release: Release) -> Release:
        try:
            self._finish(record)
        except StateError as error:
            notes = (*release.notes, f"all is home, but {error.message}")
            return release._replace(notes=notes, complete=False)
        return release

    def _finish(self, record: Record) -> None:
        self._journal.unpin(record.owner.key)
        self._journal.forget(record.owner.key)


def lock_of_link(link: Link) -> str:
    return f"link-{link.identity.inode or link.identity.ifindex}"


class _Return:
    """One release of one record."""

    def __init__(
        self, kernel: Kernel, journal: Journal, record: Record, namespace: Netns | None
    ) -> None:
        self._kernel = kernel
        self._host = kernel.host
        self._journal = journal
        self._record = record
        self._given = namespace
        self._opened: list[Netns] = []
        self._searched = False
        self._notes: list[str] = []
        self._complete = True

    def run(self) -> Release:
        home: list[str] = []
        try:
            for lent in reversed(self._record.devices):
                try:
                    name = self._bring(lent)
                except NetdevError as error:
                    self._complete = False
                    self._notes.append(f"{lent.home.link.name} is still away: {error.message}")
                else:
                    home.extend([name] if name else [])
        finally:
            for namespace in self._opened:
                namespace.close()
        return Release(self._record.owner, tuple(home[::-1]), tuple(self._notes), self._complete)

    # --- one link ----------------------------------------------------------------------------

    def _bring(self, lent: Lent) -> str | None:
        """Its name at home, or None when it is lost.  Raises NetdevError when it cannot come."""
        name = lent.home.link.name
        link = self._on_host(lent)
        if link is None:
            place, seen = self._elsewhere(lent)
            if seen is None:
                self._notes.append(f"{name} is lost: it is neither on the host nor in the pod")
                return None
            link = seen if place is self._host else self._move_home(lent, place, seen)
        return self._settle(lent, link)

    def _on_host(self, lent: Lent) -> Link | None:
        """Without a scan: as it was numbered, or by its name."""
        identity = lent.home.link.identity
        for link in (
            self._host.link(ifindex=identity.ifindex),
            self._host.link(name=lent.home.link.name),
        ):
            if link is not None and identity.same_link(link.identity):
                return link
        return None

    def _elsewhere(self, lent: Lent) -> tuple[Netns, Link | None]:
        identity = lent.home.link.identity
        namespace = self._namespace()
        if namespace is not None:
            link = namespace.find(identity)
            if link is not None:
                return namespace, link
        link = self._host.find(identity)
        if link is None and not self._claimed(lent):
            holder = self._kernel.holder(identity)
            if holder is not None:
                self._opened.append(holder)
                return holder, holder.find(identity)
        return self._host, link

    def _claimed(self, lent: Lent) -> bool:
        """Whether a later attachment holds the link by right."""
        identity = lent.home.link.identity
        return any(
            other.home.link.identity.same_link(identity)
            for record in self._journal.records()
            if record.owner.key != self._record.owner.key
            for other in record.devices
        )

    def _namespace(self) -> Netns | None:
        """The sandbox's namespace: by its path, by our pin, by the processes in it."""
        if self._given is not None:
            return self._given
        if not self._searched:
            self._searched = True
            self._given = self._open_namespace()
            if self._given is not None:
                self._opened.append(self._given)
        return self._given

    def _open_namespace(self) -> Netns | None:
        wanted = self._record.netns
        for path in (wanted.path, self._journal.pinned(self._record.owner.key)):
            if path is not None and self._kernel.cookie_at(path) == wanted.cookie:
                try:
                    return self._kernel.open(path)
                except NetnsError:
                    continue  # it went away since; the next way may still do
        return self._kernel.search(wanted.cookie)

    # --- the move ----------------------------------------------------------------------------

    def _move_home(self, lent: Lent, pod: Netns, seen: Link) -> Link:
        for attempt in range(_MOVE_TRIES):
            name = self._free_name(lent)
            taken = frozenset(each for each in seen.altnames if self._host.link(name=each))
            steps = plan.leave_pod(lent, seen, self._uppers(pod, seen), name, taken)
            try:
                self._leave(steps, pod, seen)
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
        """Raises KernelRefused for the move, and for a link on top that would go on listening."""
        for step in steps:
            try:
                perform(step, pod, self._host, seen.identity.ifindex)
            except KernelRefused as error:
                gone = isinstance(step, DeleteUpper) and error.errno == errno.ENODEV
                if not (gone or isinstance(step, Altname)):
                    raise

    def _uppers(self, pod: Netns, seen: Link) -> tuple[Link, ...]:
        """What the pod stacked on the link; not a bridge that it was enslaved to, nor a peer."""
        uppers = [pod.link(name=name) for name in seen.uppers]
        return tuple(
            upper
            for upper in uppers
            if upper is not None and upper.kind in _STACKED and upper.lower == seen.identity.ifindex
        )

    def _came(self, lent: Lent, name: str) -> Link:
        link = self._host.link(name=name)
        if link is None or not lent.home.link.identity.same_link(link.identity):
            link = self._host.find(lent.home.link.identity)
        if link is None:
            raise NetdevError(f"{lent.home.link.name} left the pod but is not on the host")
        return link

    def _free_name(self, lent: Lent) -> str:
        """Its own name, or the first free fall-back when somebody else has that by now."""
        name = lent.home.link.name
        if self._free(name, lent):
            return name
        short = name.encode()[: _NAME_BYTES - 3].decode(errors="ignore")
        for number in range(_FALLBACKS):
            fallback = f"{short}_{number}"
            if self._free(fallback, lent):
                return fallback
        raise NetdevError(f"no free name like {short}_0 on the host for {name}")

    def _free(self, name: str, lent: Lent) -> bool:
        holder = self._host.link(name=name)
        return holder is None or lent.home.link.identity.same_link(holder.identity)

    # --- at home -----------------------------------------------------------------------------

    def _settle(self, lent: Lent, link: Link) -> str:
        name = self._free_name(lent)
        if name != lent.home.link.name:
            self._notes.append(
                f"{lent.home.link.name} came home as {name}: another link has its name by now"
            )
        settled = settle(self._host, lent.home, link, name)
        self._notes.extend(settled.notes)
        self._complete = self._complete and not settled.again
        return settled.name
