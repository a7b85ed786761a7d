"""Where a lent link is by now: at home, in its pod, or wherever the pod or the kernel put it."""

from __future__ import annotations

from cni_netdev.core.errors import NetdevError, NetnsError
from cni_netdev.core.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from cni_netdev.core.model import Lent, Link, Phy, Rdma, Record
    from cni_netdev.core.ports import Journal, Kernel, Netns

_LOOKS_AGAIN = 5


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
        self._seen = False

    def close(self) -> None:
        for namespace in self._opened:
            namespace.close()

    def nearby(self) -> Netns | None:
        """The sandbox's namespace if it is open, or at its path or pin: without a scan."""
        if self._sandbox is None and not self._searched:
            self._keep(self._by_path())
        return self._sandbox

    def find(self, lent: Lent) -> tuple[Netns, Link] | None:
        """The namespace and the link; None when it is lost.

        Raises NetdevError when it may be somewhere that cannot be seen from here.
        """
        self._seen = False
        left = self._as_left(lent)
        if left is not None:
            return left
        link = self._at_home(lent)
        if link is not None:
            return self._host, link
        found = self._in_sandbox(lent) or self._anywhere(lent) or self._looked_again(lent)
        if found is None and lent.home.link.phy:
            found = self._made_anew(lent.home.link.phy)
        if found is None:
            self._refuse_to_call_it_lost(lent)
        return found

    def _made_anew(self, phy: Phy) -> tuple[Netns, Link] | None:
        """For a Wi-Fi link that was deleted: another on its phy, which all its links are with."""
        for place in (self.nearby(), self._host):
            others = place.wlans(phy.number) if place is not None else None
            if place is None or others is None:
                continue
            for each in others:
                place.remove_wlan(each)
            link = place.make_wlan(phy)
            return (place, link) if link else None
        return None

    def bring_rdma(self, device: Rdma) -> bool:
        """The RDMA device to the host, from wherever it is; False when it is nowhere."""
        if self._host.find_rdma(device):
            return True
        sandbox = self.nearby()
        if sandbox is None or sandbox.find_rdma(device) is None:
            sandbox = self._kernel.rdma_holder(device)
            if sandbox is not None:
                self._opened.append(sandbox)
        seen = sandbox.find_rdma(device) if sandbox else None
        if sandbox and seen:
            sandbox.move_rdma(seen.number, seen.name, self._host)
        return self._host.find_rdma(device) is not None

    def _looked_again(self, lent: Lent) -> tuple[Netns, Link] | None:
        """For a pod that moves it to and fro all the time: always to where we have just looked."""
        for _ in range(_LOOKS_AGAIN):
            found = self._in_sandbox(lent) or self._held(lent, thorough=False)
            if found is not None:
                return found
        if self._seen:
            raise NetdevError("it is moved from namespace to namespace all the time")
        return None

    def _as_left(self, lent: Lent) -> tuple[Netns, Link] | None:
        """In the sandbox as an attach left it, by one look: most are there."""
        identity = lent.home.link.identity
        try:
            sandbox = self.nearby()
            link = sandbox.link(ifindex=identity.ifindex) if sandbox else None
        except NetdevError:
            return None  # whoever looks closer tells why
        return (sandbox, link) if sandbox and link and identity.same_link(link.identity) else None

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
        return self._caught(namespace, lent) if namespace else None

    def _anywhere(self, lent: Lent) -> tuple[Netns, Link] | None:
        identity = lent.home.link.identity
        link = self._host.find(identity)
        if link is None and lent.home.link.kind is None:
            link = self._kernel.await_hardware(identity)
        if link is not None:
            return self._host, link
        return self._held(lent, thorough=True)

    def _held(self, lent: Lent, *, thorough: bool) -> tuple[Netns, Link] | None:
        if self._claimed(lent):
            return None
        identity = lent.home.link.identity
        holder = self._kernel.holder(identity, thorough=thorough)
        if holder is None:
            return None
        self._seen = True
        self._opened.append(holder)
        return self._caught(holder, lent)

    def _caught(self, namespace: Netns, lent: Lent) -> tuple[Netns, Link] | None:
        identity = lent.home.link.identity
        link = namespace.find(identity)
        if link is None:
            self._seen = self._seen or namespace.holds(identity)
            return None
        return namespace, link

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
        if self._has_its_peer(lent.home.link):
            raise NetdevError(
                "its other end is there, so it is in a namespace that is not seen here"
            )

    def _has_its_peer(self, link: Link) -> bool:
        """Whether the other end of a veth is on the host and has its peer elsewhere, as before."""
        if link.kind != "veth" or link.lower_elsewhere or not link.lower:
            return False
        peer = self._host.link(ifindex=link.lower)
        return peer is not None and peer.kind == "veth" and peer.lower_elsewhere

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
            self._keep(self._by_path() or self._kernel.search(self._record.netns.cookie))
            self._searched = True  # only now: a search that failed says nothing of the next link
        return self._sandbox

    def _keep(self, sandbox: Netns | None) -> None:
        if sandbox is not None:
            self._sandbox, self._searched = sandbox, True
            self._opened.append(sandbox)

    def _by_path(self) -> Netns | None:
        wanted = self._record.netns
        for path in (wanted.path, self._journal.pinned(self._record.owner.key)):
            if path is not None and self._kernel.cookie_at(path) == wanted.cookie:
                try:
                    return self._kernel.open(path)
                except NetnsError:
                    if self._kernel.cookie_at(path) == wanted.cookie:
                        raise
                    continue  # it went away since; the next way may still do
        return None
