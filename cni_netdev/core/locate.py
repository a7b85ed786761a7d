"""Where a lent link is by now: at home, in its pod, or wherever the pod or the kernel put it."""

from __future__ import annotations

from cni_netdev.core.errors import NetdevError, NetnsError
from cni_netdev.core.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from cni_netdev.core.model import Lent, Link, Record
    from cni_netdev.core.ports import Journal, Kernel, Netns


class Locator:
    """Looks for the links of one record; close() lets go of the namespaces that it opened."""

    def __init__(
        self, kernel: Kernel, journal: Journal, record: Record, namespace: Netns | None
    ) -> None:
        """namespace: the sandbox's, if the caller has it open; it stays open."""
        self._kernel = kernel
        self._host = kernel.host
        self._journal = journal
        self._record = record
        self._sandbox = namespace
        self._searched = namespace is not None
        self._opened: list[Netns] = []

    def close(self) -> None:
        for namespace in self._opened:
            namespace.close()

    def find(self, lent: Lent) -> tuple[Netns, Link] | None:
        """The namespace and the link; None when it is lost.

        Raises NetdevError when it may be somewhere that cannot be seen from here.
        """
        link = self._at_home(lent)
        if link is not None:
            return self._host, link
        found = self._in_sandbox(lent) or self._anywhere(lent)
        if found is None:
            self._refuse_to_call_it_lost(lent)
        return found

    def _at_home(self, lent: Lent) -> Link | None:
        """Without a scan: as it was numbered, or by its name."""
        identity = lent.home.link.identity
        for link in (
            self._host.link(ifindex=identity.ifindex),
            self._host.link(name=lent.home.link.name),
        ):
            if link is not None and identity.same_link(link.identity):
                return link
        return None

    def _in_sandbox(self, lent: Lent) -> tuple[Netns, Link] | None:
        namespace = self._namespace()
        link = namespace.find(lent.home.link.identity) if namespace else None
        return (namespace, link) if namespace and link else None

    def _anywhere(self, lent: Lent) -> tuple[Netns, Link] | None:
        identity = lent.home.link.identity
        link = self._host.find(identity)
        if link is None and lent.home.link.kind is None:
            link = self._kernel.await_hardware(identity)
        if link is not None:
            return self._host, link
        holder = None if self._claimed(lent) else self._kernel.holder(identity)
        if holder is None:
            return None
        self._opened.append(holder)
        link = holder.find(identity)
        return (holder, link) if link else None

    def _refuse_to_call_it_lost(self, lent: Lent) -> None:
        bus = lent.home.link.identity.bus
        if bus and self._host.has_bus(bus):
            raise NetdevError(f"device {bus} is there, but its link is in no namespace seen here")
        pinned_in = self._record.pinned_in
        if self._journal.pinned_elsewhere(self._record.owner.key, pinned_in):
            raise NetdevError(
                f"its namespace is pinned in mount namespace {pinned_in}, the runtime's: "
                "run this there"
            )

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
        if not self._searched:
            self._searched = True
            self._sandbox = self._open_namespace()
            if self._sandbox is not None:
                self._opened.append(self._sandbox)
        return self._sandbox

    def _open_namespace(self) -> Netns | None:
        wanted = self._record.netns
        for path in (wanted.path, self._journal.pinned(self._record.owner.key)):
            if path is not None and self._kernel.cookie_at(path) == wanted.cookie:
                try:
                    return self._kernel.open(path)
                except NetnsError:
                    continue  # it went away since; the next way may still do
        return self._kernel.search(wanted.cookie)
