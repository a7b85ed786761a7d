"""What netlink, sysfs and bpf tell of a network namespace and its links.

Each namespace is entered once, to open a netlink socket and a view of sysfs that stay bound to
it; only the rare bpf(2) calls enter again.
"""

from __future__ import annotations

import errno

from cni_netdev.core import netns, qdisc, rtnl
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.lean import TYPE_CHECKING, ExitStack, contextmanager
from cni_netdev.core.model import AF_INET, AF_INET6, Phy
from cni_netdev.core.netlink import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_ECHO,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_GETQDISC,
    RTM_GETROUTE,
    RTM_GETRULE,
    RTM_GETTFILTER,
    Connection,
)
from cni_netdev.core.sysfs import SysView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from cni_netdev.core import devconf
    from cni_netdev.core.model import (
        Address,
        Filter,
        Forwarding,
        Identity,
        Link,
        Neighbour,
        Qdisc,
        Rdma,
        Route,
        Rule,
        VirtualFunction,
    )
    from cni_netdev.core.nl80211 import Nl80211
    from cni_netdev.core.nldev import Nldev
    from cni_netdev.core.ports import Netns
    from cni_netdev.core.tuning import Tunable

# What a look-up of an address says when no link has it, or no route leads to it.
_NOT_LOCAL = (
    errno.EADDRNOTAVAIL,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EACCES,
    errno.EINVAL,
)
_RENAME_TRIES = 200
_LOOPBACK_IFINDEX = 1  # in every namespace (net/loopback.h)
_MULTICAST = "/proc/thread-self/net/dev_mcast"


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """What the system refuses in the block, files too, is a KernelRefused."""
    try:
        yield
    except OSError as error:
        raise KernelRefused(what, error.errno or 0) from error


class Looks:
    """What is looked at in a network namespace.  Owns ``handle``; close() lets it go."""

    def __init__(self, handle: netns.Handle, *, own: bool) -> None:
        """own: it is the calling process's own namespace, so that nothing needs entering."""
        self._handle = handle
        self._own = own
        self._sysctls: devconf.Memory | None = None
        with ExitStack() as on_error:
            on_error.callback(handle.close)
            with self._inside():
                self._rtnl = Connection()
                on_error.callback(self._rtnl.close)
                self._sysfs = SysView.of_current_namespace()
            on_error.pop_all()

    @contextmanager
    def _inside(self) -> Iterator[None]:
        entered = netns.inside(self._handle.fd, needed=not self._own)
        with refusing("enter a network namespace"), entered:
            yield

    @property
    def fd(self) -> int:
        return self._handle.fd

    @property
    def cookie(self) -> int:
        return self._handle.cookie

    def close(self) -> None:
        self._rtnl.close()
        self._sysfs.close()
        self._handle.close()

    # --- looking -----------------------------------------------------------------------------

    def link(self, *, name: str = "", ifindex: int = 0) -> Link | None:
        for _ in range(_RENAME_TRIES):
            link = self._link(name=name, ifindex=ifindex)
            whole = self._with_sysfs(link) if link else None
            if whole or not link:
                return whole
        raise KernelRefused(f"link {name or ifindex} is renamed all the time", errno.EAGAIN)

    def _link(self, *, name: str, ifindex: int) -> Link | None:
        what = f"look for link {name or f'with ifindex {ifindex}'}"
        reply = self._told(what, name=name, ifindex=ifindex)
        return rtnl.link_from(reply) if reply else None

    def _told(self, what: str, *, name: str = "", ifindex: int = 0) -> Any:
        """What netlink tells of a link; None when there is none."""
        query = rtnl.link_query(name=name, ifindex=ifindex)
        try:
            return self._rtnl.request(what, query, RTM_GETLINK, 0)[0]
        except KernelRefused as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def links(self) -> tuple[Link, ...]:
        replies = self._rtnl.request("list links", rtnl.link_dump(), RTM_GETLINK, NLM_F_DUMP)
        return _present(self._with_sysfs(rtnl.link_from(reply)) for reply in replies)

    def _with_sysfs(self, link: Link) -> Link | None:
        """None when the name is another link's by now, or nobody's."""
        name, told = link.name, link.identity
        seen = self._sysfs.identity(name)
        if seen is None or seen[1] != told.ifindex:
            return None
        identity = told._replace(inode=seen[0], bus=self._sysfs.bus(name))
        try:
            # Hardware only, so that the other links are not looked at for it.
            phy = self._phy(name, told.ifindex) if identity.bus and link.kind is None else None
        except KernelRefused as error:
            if error.errno != errno.ENODEV:
                raise
            return None
        return link._replace(
            phy=phy,
            identity=identity,
            driver=self._sysfs.driver(name),
            uppers=self._sysfs.uppers(name),
        )

    def _phy(self, name: str, ifindex: int) -> Phy | None:
        """Raises KernelRefused with ENODEV when the link has left since it was told of."""
        found = self._sysfs.phy(name)
        if found is None:
            return None
        number, called, mates = found
        with self._nl80211() as nl80211:
            return Phy(number, called, nl80211.type_of(ifindex), mates)

    def wlans(self, phy: int) -> tuple[str, ...] | None:
        return self._sysfs.wlans(phy)

    @contextmanager
    def _nl80211(self) -> Iterator[Nl80211]:
        from cni_netdev.core.nl80211 import Nl80211

        with self._inside():
            nl80211 = Nl80211()
        try:
            yield nl80211
        finally:
            nl80211.close()

    def find(self, identity: Identity) -> Link | None:
        link = self.link(ifindex=identity.ifindex)
        if link is not None and identity.same_link(link.identity):
            return link
        on_bus = [self.link(name=each) for each in self._by_bus(identity)]
        found = [each for each in on_bus if each and identity.same_link(each.identity)]
        # Links of one phy may have its permanent address, all of them.
        for each in sorted(found, key=lambda link: link.identity.inode != identity.inode):
            return each
        numbered = self._sysfs.by_inode(identity.inode)
        return self.link(ifindex=numbered) if numbered else None

    def may_have_made(self, link: Link) -> bool:
        if link.kind is None and link.identity.bus:
            return False
        # The namespace's first link, which can neither leave it nor be made anew.  What is made
        # later has a greater inode in sysfs (fs/kernfs/dir.c, __kernfs_new_node), wherever it is.
        loopback = self.link(ifindex=_LOOPBACK_IFINDEX)
        return loopback is None or link.identity.inode > loopback.identity.inode

    def holds(self, identity: Identity) -> bool:
        return bool(self._by_bus(identity) or self._sysfs.by_inode(identity.inode))

    def _by_bus(self, identity: Identity) -> tuple[str, ...]:
        return self._sysfs.by_bus(identity.bus) if identity.bus else ()

    def numbers(self, name: str) -> tuple[int, int]:
        return self._sysfs.identity(name) or (0, 0)

    def by_bus(self, address: str) -> tuple[str, ...]:
        return self._sysfs.by_bus(address)

    def has_bus(self, address: str) -> bool:
        return self._sysfs.has_bus(address)

    def driver_of_bus(self, address: str) -> str | None:
        return self._sysfs.driver_of_bus(address)

    def user_space(self, address: str) -> Link | None:
        from cni_netdev.core import userspace

        driver = self._sysfs.driver_of_bus(address)
        if driver is None or not userspace.is_driver(driver):
            return None
        inode = self._sysfs.network_function(address)
        return userspace.function(address, driver, inode) if inode else None

    def by_kernel_path(self, path: str) -> tuple[str, ...]:
        return self._sysfs.by_kernel_path(path)

    def virtual_function(self, address: str) -> VirtualFunction | None:
        from cni_netdev.core import virtual

        return virtual.look(self._rtnl, self._sysfs, address)

    def addresses(self, ifindex: int) -> tuple[Address, ...]:
        replies = self._list("addresses", rtnl.address_dump(ifindex), RTM_GETADDR, ifindex)
        return _present(rtnl.address_from(reply) for reply in replies if reply["index"] == ifindex)

    def routes(self, ifindex: int) -> tuple[Route, ...]:
        found: list[Route | None] = []
        for family in (AF_INET, AF_INET6):
            replies = self._list("routes", rtnl.route_dump(family, ifindex), RTM_GETROUTE, ifindex)
            found.extend(rtnl.route_from(reply, ifindex) for reply in replies)
        return _present(found)

    def neighbours(self, ifindex: int) -> tuple[Neighbour, ...]:
        found: list[Neighbour | None] = []
        for proxies in (False, True):
            query = rtnl.neighbour_dump(ifindex, proxies=proxies)
            replies = self._list("neighbours", query, RTM_GETNEIGH, ifindex)
            found.extend(rtnl.neighbour_from(reply, ifindex) for reply in replies)
        return _present(found)

    def await_dad(self, ifindex: int, seconds: int, in_time: Callable[[], None]) -> tuple[str, ...]:
        from cni_netdev.core import dad

        with self._inside(), refusing("listen for addresses"):
            events = dad.listen()
        try:
            return dad.settled(self._rtnl, events, ifindex, seconds, in_time)
        finally:
            events.close()

    def rules(self) -> tuple[Rule, ...]:
        from cni_netdev.core import rules

        found: list[Any] = []
        for family in (AF_INET, AF_INET6):
            found += self._rtnl.request("list rules", rules.dump(family), RTM_GETRULE, NLM_F_DUMP)
        return _present(map(rules.rule_from, found))

    def forwarding(self, ifindex: int) -> tuple[Forwarding, ...]:
        from cni_netdev.core import forwarding

        replies = self._list("MACs", forwarding.dump(ifindex), RTM_GETNEIGH, ifindex)
        found = forwarding.entries(replies, ifindex)
        if all(map(forwarding.is_always_joined, filter(forwarding.may_be_joined, found))):
            by_hand: frozenset[str] = frozenset()
        else:
            with (
                self._inside(),
                open(_MULTICAST, encoding="utf-8", errors="surrogateescape") as table,
            ):
                by_hand = forwarding.set_by_hand(ifindex, table.read())
        return tuple(
            each
            for each in found
            if not forwarding.may_be_joined(each) or each.mac.replace(":", "") in by_hand
        )

    def overheard(self, link: Link) -> bool:
        from cni_netdev.core import stacked

        return stacked.overheard(self._rtnl, link)

    def is_open(self, link: Link) -> bool:
        from cni_netdev.core import tuntap

        with self._inside():
            return tuntap.is_open(link.name, link)

    def knows_others(self, home: Netns) -> bool:
        from cni_netdev.core import stacked

        return bool(stacked.further(self._rtnl, descriptor(home)))

    def delete_stacked(self, ifindex: int, home: Netns) -> tuple[str, ...]:
        from cni_netdev.core import stacked

        place = None if home.cookie == self.cookie else descriptor(home)
        return stacked.delete(self._rtnl, ifindex, place)

    def _list(self, what: str, query: Any, kind: int, ifindex: int) -> list[Any]:
        return self._rtnl.request(f"list {what} of ifindex {ifindex}", query, kind, NLM_F_DUMP)

    def links_with(self, address: str) -> tuple[int, ...]:
        if not self._known_here(address):
            return ()
        family = AF_INET6 if ":" in address else AF_INET
        query = rtnl.address_family_dump(family)
        replies = self._rtnl.request("list addresses", query, RTM_GETADDR, NLM_F_DUMP)
        return tuple(reply["index"] for reply in replies if rtnl.has_address(reply, address))

    def _known_here(self, address: str) -> bool:
        """Cheaply, before any list is read: whether some link has the address."""
        # IPv6's local routes come late (DAD), but it can be asked for an address; IPv4 cannot.
        if ":" in address:
            query, kind = rtnl.address_lookup(address), RTM_GETADDR
        else:
            query, kind = rtnl.route_lookup(address), RTM_GETROUTE
        try:
            replies = self._rtnl.request(f"look up {address}", query, kind, 0)
        except KernelRefused as error:
            if error.errno in _NOT_LOCAL:
                return False
            raise
        return kind == RTM_GETADDR or any(reply["type"] == rtnl.RTN_LOCAL for reply in replies)

    def sysctls(self, name: str) -> tuple[tuple[str, str], ...]:
        from cni_netdev.core import devconf

        if self._sysctls is None:
            self._sysctls = devconf.Memory(self._arrays)
        with self._inside():
            return self._sysctls.read(name)

    def _arrays(self, name: str) -> dict[str, bytes]:
        reply = self._told(f"look for the sysctls of link {name}", name=name)
        return rtnl.devconf(reply) if reply else {}

    def ethtool(self, name: str) -> tuple[tuple[str, str], ...]:
        from cni_netdev.core import ethtool

        with self._inside():
            return ethtool.read(name)

    def tunables(self, name: str) -> tuple[Tunable, ...]:
        from cni_netdev.core import tuner

        with self._inside():
            return tuner.tunables(name)

    def rdma(self, link: Link) -> tuple[Rdma, ...]:
        candidates = self._sysfs.rdma(link.name)
        if not candidates:
            return ()
        with self._nldev() as nldev:
            return nldev.over(link.identity.ifindex, dict(candidates))

    def find_rdma(self, device: Rdma) -> Rdma | None:
        if not self._sysfs.rdma_devices():
            return None
        with self._nldev() as nldev:
            return nldev.find(device)

    @contextmanager
    def _nldev(self) -> Iterator[Nldev]:
        from cni_netdev.core.nldev import Nldev

        with self._inside():
            nldev = Nldev()
        try:
            yield nldev
        finally:
            nldev.close()

    def tcx(self, ifindex: int) -> tuple[tuple[str, int], ...]:
        from cni_netdev.core import bpf

        with self._inside():
            return bpf.tcx(ifindex)

    def on_links(self, ifindex: int) -> tuple[int, ...]:
        from cni_netdev.core import bpf

        with self._inside():
            return bpf.on_links(ifindex)

    def filters(self, ifindex: int) -> tuple[Filter, ...]:
        from cni_netdev.core import filters

        found: list[Filter] = []
        for side in filters.SIDES:
            query = filters.dump(ifindex, side)
            replies = self._list("filters", query, RTM_GETTFILTER, ifindex)
            found += filters.filters_from(replies, ifindex, side)
        return tuple(found)

    def qdiscs(self, ifindex: int) -> tuple[Qdisc, ...]:
        found = []
        for place in (qdisc.ROOT, qdisc.INGRESS):
            what = f"look for a qdisc of ifindex {ifindex}"
            query = qdisc.query(ifindex, place)
            try:
                # The answer comes only as an echo, and for a built-in one not at all.
                flags = NLM_F_ACK | NLM_F_ECHO
                found += self._rtnl.request(what, query, RTM_GETQDISC, flags)
            except KernelRefused as error:
                if error.errno != errno.ENOENT:
                    raise
        return _present(map(qdisc.qdisc_from, found))


def descriptor(namespace: Netns) -> int:
    """What the kernel is told of it.  Raises TypeError for what is no namespace of this machine."""
    if not isinstance(namespace, Looks):
        raise TypeError(f"{namespace!r} is no namespace of this machine")
    return namespace.fd


def _present(values: Any) -> tuple[Any, ...]:
    return tuple(value for value in values if value is not None)
