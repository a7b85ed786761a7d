"""The kernel as the engine sees it: ports.Kernel and ports.Netns over netlink, sysfs and bpf.

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
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_ECHO,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Connection,
)
from cni_netdev.core.sysfs import SysView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from cni_netdev.core.model import (
        Address,
        Filter,
        Forwarding,
        Identity,
        Link,
        LinkSettings,
        Neighbour,
        Qdisc,
        Rdma,
        Route,
        Rule,
        VirtualFunction,
        Vrf,
    )
    from cni_netdev.core.nl80211 import Nl80211
    from cni_netdev.core.nldev import Nldev
    from cni_netdev.core.ports import Netns, Occupancy
    from cni_netdev.core.tuning import Pairs, Tunable

# linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_GETTFILTER = 44, 46
RTM_NEWLINKPROP, RTM_DELLINKPROP = 108, 109

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
_SCAN = "look through /proc for network namespaces"
# The kernel takes a dead namespace apart in a worker of its own, in 7 to 40 ms when idle.
_DEAD_NAMESPACE_SECONDS, _LOOK_AGAIN_SECONDS = 2.0, 0.02
_MULTICAST = "/proc/thread-self/net/dev_mcast"
_NEW = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """What the system refuses in the block, files too, is a KernelRefused."""
    try:
        yield
    except OSError as error:
        raise KernelRefused(what, error.errno or 0) from error


class SystemNetns:
    """A network namespace of this machine (ports.Netns).  Owns ``handle``; close() lets it go."""

    def __init__(self, handle: netns.Handle, *, own: bool) -> None:
        """own: it is the calling process's own namespace, so that nothing needs entering."""
        self._handle = handle
        self._own = own
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
        with _refusing("enter a network namespace"), entered:
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
        query = rtnl.link_query(name=name, ifindex=ifindex)
        try:
            replies = self._rtnl.request(what, query, RTM_GETLINK, 0)
        except KernelRefused as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return rtnl.link_from(replies[0])

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

    def inode(self, name: str) -> int:
        seen = self._sysfs.identity(name)
        return seen[0] if seen else 0

    def by_bus(self, address: str) -> tuple[str, ...]:
        return self._sysfs.by_bus(address)

    def has_bus(self, address: str) -> bool:
        return self._sysfs.has_bus(address)

    def driver_of_bus(self, address: str) -> str | None:
        return self._sysfs.driver_of_bus(address)

    def user_space(self, address: str) -> Link | None:
        driver = self._sysfs.driver_of_bus(address)
        from cni_netdev.core import userspace

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

        with self._inside(), _refusing("listen for addresses"):
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

        return bool(stacked.further(self._rtnl, _descriptor(home)))

    def delete_stacked(self, ifindex: int, home: Netns) -> tuple[str, ...]:
        from cni_netdev.core import stacked

        place = None if home.cookie == self.cookie else _descriptor(home)
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
        from cni_netdev.core import sysctl

        with self._inside():
            return sysctl.read(name)

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

    # --- changing ----------------------------------------------------------------------------

    def move(self, ifindex: int, target: Netns, before: LinkSettings, after: LinkSettings) -> None:
        link = self.link(ifindex=ifindex) if self._sysfs.phy(before.name) else None
        if link and link.phy:
            self._move_phy(link, link.phy.number, target, after)
            return
        message = rtnl.link_move(ifindex, _descriptor(target), before, after)
        self._send(f"move link {before.name} as {after.name}", message, RTM_NEWLINK)

    def _move_phy(self, link: Link, phy: int, target: Netns, after: LinkSettings) -> None:
        with self._nl80211() as nl80211:
            nl80211.move(phy, _descriptor(target))
        arrived = target.find(link.identity)
        if arrived is None:
            raise KernelRefused(f"find link {link.name}, whose phy was moved", errno.ENODEV)
        if arrived.settings != after:
            target.change(arrived.identity.ifindex, arrived.settings, after)

    def wlans(self, phy: int) -> tuple[str, ...] | None:
        return self._sysfs.wlans(phy)

    def make_wlan(self, phy: Phy) -> Link | None:
        with self._nl80211() as nl80211:
            return self.link(ifindex=nl80211.make(phy.number, phy.type))

    def remove_wlan(self, name: str) -> None:
        link = self.link(name=name)
        if link is not None:
            with self._nl80211() as nl80211:
                nl80211.remove(link.identity.ifindex)

    def set_wlan_type(self, ifindex: int, type_: int) -> None:
        with self._nl80211() as nl80211:
            nl80211.set_type(ifindex, type_)

    def rename_phy(self, number: int, before: str, after: str) -> None:
        with self._nl80211() as nl80211:
            nl80211.rename(number, before, after)

    def change(self, ifindex: int, before: LinkSettings, after: LinkSettings) -> None:
        message = rtnl.link_settings(ifindex, before, after)
        self._send(f"set {_differing(before, after)} of link {before.name}", message, RTM_NEWLINK)

    def set_kind_data(self, ifindex: int, kind: str, before: str, after: str) -> None:
        from cni_netdev.core import kinddata

        if kind == "tun":  # whose kernel code takes no such message
            self._set_tun(ifindex, before, after)
            return
        message = rtnl.kind_data(ifindex, kind, kinddata.change(kind, before, after))
        self._send(f"set what only a {kind} has", message, RTM_NEWLINK)

    def _set_tun(self, ifindex: int, before: str, after: str) -> None:
        from cni_netdev.core import tuntap

        link = self.link(ifindex=ifindex)
        if link is not None and not link.settings.up:  # or its carrier would come and go
            with self._inside():
                tuntap.restore(link.name, before, after)

    def set_qdisc(self, ifindex: int, discipline: Qdisc, *, present: bool) -> None:
        kind = RTM_NEWQDISC if present else RTM_DELQDISC
        what = f"{'add' if present else 'remove'} qdisc {discipline.kind}"
        flags = _NEW if present else NLM_F_ACK
        self._send(what, qdisc.qdisc(ifindex, discipline), kind, flags)

    def set_master(self, ifindex: int, master: int) -> None:
        message = rtnl.link_only(ifindex, ("IFLA_MASTER", master))
        self._send(f"set master {master} of ifindex {ifindex}", message, RTM_NEWLINK)

    def set_altname(self, ifindex: int, altname: str, *, present: bool) -> None:
        kind = RTM_NEWLINKPROP if present else RTM_DELLINKPROP
        flags = _NEW | NLM_F_APPEND if present else NLM_F_ACK
        what = f"{'add' if present else 'remove'} altname {altname}"
        self._send(what, rtnl.altname(ifindex, altname), kind, flags)

    def set_address(self, ifindex: int, address: Address, *, present: bool) -> None:
        kind = RTM_NEWADDR if present else RTM_DELADDR
        what = f"{'add' if present else 'remove'} address {address.cidr}"
        self._send(what, rtnl.address(ifindex, address), kind, _NEW if present else NLM_F_ACK)

    def set_route(self, ifindex: int, route: Route, *, present: bool, append: bool = False) -> None:
        kind = RTM_NEWROUTE if present else RTM_DELROUTE
        via = f" via {route.gateway}" if route.gateway else ""
        what = f"{'add' if present else 'remove'} route {route.dst}{via}"
        new = NLM_F_ACK | NLM_F_CREATE | (NLM_F_APPEND if append else NLM_F_EXCL)
        self._send(what, rtnl.route(ifindex, route), kind, new if present else NLM_F_ACK)

    def set_neighbour(self, ifindex: int, neighbour: Neighbour, *, present: bool) -> None:
        kind = RTM_NEWNEIGH if present else RTM_DELNEIGH
        what = f"{'add' if present else 'remove'} neighbour {neighbour.address}"
        # The kernel may have begun to look for its address by itself.
        flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE if present else NLM_F_ACK
        self._send(what, rtnl.neighbour(ifindex, neighbour), kind, flags)

    def set_rule(self, rule: Rule, *, present: bool) -> None:
        from cni_netdev.core import rules

        kind = RTM_NEWRULE if present else RTM_DELRULE
        what = f"{'add' if present else 'remove'} rule {rule.priority} for table {rule.table}"
        self._send(what, rules.rule(rule), kind, _NEW if present else NLM_F_ACK)

    def set_vrf(self, vrf: Vrf, *, present: bool) -> None:
        from cni_netdev.core import vrf as vrfs

        link = self.link(name=vrf.name)
        what = f"{'add' if present else 'remove'} VRF {vrf.name}"
        if present and link is None:
            self._send(what, vrfs.creation(vrf.name, vrf.table), RTM_NEWLINK, _NEW)
        elif present and link and not vrfs.has_table(link, vrf.table):
            raise KernelRefused(f"{what} of table {vrf.table}", errno.EEXIST)
        elif not present and link and vrfs.is_ours(link):
            ifindex = link.identity.ifindex
            if not any(each.master == ifindex for each in self.links()):
                self._send(what, rtnl.link_only(ifindex), RTM_DELLINK)

    def set_forwarding(self, ifindex: int, entry: Forwarding, *, present: bool) -> None:
        from cni_netdev.core import forwarding

        kind = RTM_NEWNEIGH if present else RTM_DELNEIGH
        flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND if present else NLM_F_ACK
        what = f"{'add' if present else 'remove'} MAC {entry.mac}"
        self._send(what, forwarding.change(ifindex, entry), kind, flags)

    def set_sysctl(self, name: str, key: str, value: str) -> None:
        from cni_netdev.core import sysctl

        with self._inside():
            sysctl.write(name, key, value)

    def set_ethtool(self, name: str, key: str, value: str) -> None:
        from cni_netdev.core import ethtool

        with self._inside():
            ethtool.write(name, key, value)

    def tune(self, name: str, wanted: Pairs) -> None:
        from cni_netdev.core import tuner

        with self._inside():
            tuner.tune(name, wanted)

    def move_rdma(self, number: int, name: str, target: Netns) -> None:
        with self._nldev() as nldev:
            nldev.move(number, name, _descriptor(target))

    def rename_rdma(self, number: int, before: str, after: str) -> None:
        with self._nldev() as nldev:
            nldev.rename(number, before, after)

    def add_rdma(self, link: str, name: str, soft: str) -> None:
        with self._nldev() as nldev:
            nldev.add(link, name, soft)

    def set_virtual_function(self, pf: str, number: int, before: Pairs, after: Pairs) -> None:
        from cni_netdev.core import virtual

        virtual.change(self._rtnl, self._sysfs, (pf, number), before, after)

    def detach_xdp(self, ifindex: int, mode: str) -> None:
        from cni_netdev.core import bpf

        message = rtnl.xdp(ifindex, mode, -1)
        try:
            self._send(f"remove the {mode} XDP program", message, RTM_NEWLINK)
        except KernelRefused as error:
            if error.errno != errno.EBUSY:
                raise
            # A program on a bpf_link: netlink may not touch it, bpf(2) may.
            with self._inside():
                bpf.detach_xdp_link(ifindex)

    def attach_xdp(self, ifindex: int, mode: str, program: int) -> None:
        import os

        from cni_netdev.core import bpf

        fd = bpf.program_fd(program)
        try:
            message = rtnl.xdp(ifindex, mode, fd)
            self._send(f"attach {mode} XDP program {program}", message, RTM_NEWLINK)
        finally:
            os.close(fd)

    def detach_tcx(self, ifindex: int, attach: str, program: int) -> None:
        from cni_netdev.core import bpf

        with self._inside():
            bpf.detach_tcx(ifindex, attach, program)

    def attach_tcx(self, ifindex: int, attach: str, program: int, before: int) -> None:
        from cni_netdev.core import bpf

        with self._inside():
            bpf.attach_tcx(ifindex, attach, program, before)

    def add_filter(self, ifindex: int, value: Filter) -> None:
        import os

        from cni_netdev.core import bpf, filters

        fd = bpf.program_fd(value.program)
        try:
            message = filters.change(ifindex, value, fd)
            self._send(f"add filter {value.name or value.program}", message, RTM_NEWTFILTER, _NEW)
        finally:
            os.close(fd)

    def on_links(self, ifindex: int) -> tuple[int, ...]:
        from cni_netdev.core import bpf

        with self._inside():
            return bpf.on_links(ifindex)

    def hold_program(self, inode: int, program: int) -> None:
        from cni_netdev.core import bpfpins

        bpfpins.hold(inode, program)

    def let_go_programs(self, inode: int) -> None:
        from cni_netdev.core import bpfpins

        bpfpins.let_go(inode)

    def _send(self, what: str, message: Any, kind: int, flags: int = NLM_F_ACK) -> None:
        self._rtnl.request(what, message, kind, flags)


class SystemKernel:
    """This machine's kernel (ports.Kernel)."""

    def __init__(self) -> None:
        self._host: SystemNetns | None = None
        self._boot_id = ""

    @property
    def host(self) -> SystemNetns:
        if self._host is None:
            with _refusing("open the host's network namespace"):
                handle = netns.current()
            self._host = SystemNetns(handle, own=True)
        return self._host

    @property
    def initial_netns(self) -> bool:
        with _refusing("look for the initial network namespace"):
            return netns.is_initial(self.host.fd)

    @property
    def boot_id(self) -> str:
        if not self._boot_id:
            path = "/proc/sys/kernel/random/boot_id"
            with _refusing(f"read {path}"), open(path, encoding="ascii") as file:
                self._boot_id = file.read().strip()
        return self._boot_id

    def open(self, path: str) -> SystemNetns:
        return SystemNetns(netns.open_namespace(path), own=False)

    def cookie_at(self, path: str) -> int:
        return netns.cookie_at(path)

    @_refusing(_SCAN)
    def search(self, cookie: int) -> SystemNetns | None:
        from cni_netdev.core import processes

        handle = processes.find_namespace(cookie)
        return SystemNetns(handle, own=False) if handle else None

    def await_hardware(self, identity: Identity) -> Link | None:
        import time

        from cni_netdev.core.values import is_pci

        deadline = time.monotonic() + _DEAD_NAMESPACE_SECONDS
        while (link := self.host.find(identity)) is None and time.monotonic() < deadline:
            if is_pci(identity.bus or "") and not self.host.has_bus(identity.bus or ""):
                return None  # unplugged; what is not on PCI need not be on any bus
            time.sleep(_LOOK_AGAIN_SECONDS)
        return link

    @_refusing(_SCAN)
    def holder(self, identity: Identity, *, thorough: bool = True) -> SystemNetns | None:
        from cni_netdev.core import hidden, processes

        found = hidden.namespaces() if thorough else processes.namespaces(mounted=True)
        return _first(found, lambda candidate: candidate.holds(identity))

    @_refusing(_SCAN)
    def rdma_holder(self, device: Rdma) -> SystemNetns | None:
        import time

        from cni_netdev.core import hidden

        found = _first(hidden.namespaces(), lambda each: each.find_rdma(device) is not None)
        deadline = time.monotonic() + _DEAD_NAMESPACE_SECONDS
        while found is None and self.host.find_rdma(device) is None and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)
        return found

    @_refusing(_SCAN)
    def hunt(self, link: Link) -> tuple[str, ...]:
        from cni_netdev.core import hidden

        host = self.host
        ifindex = link.identity.ifindex
        return hidden.delete_stacked(ifindex, host.fd, lambda: host.overheard(link))

    @_refusing(_SCAN)
    def occupancy(self, cookie: int) -> Occupancy:
        from cni_netdev.core import processes

        return processes.occupancy(cookie)

    def close(self) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None


def _first(
    handles: Iterator[netns.Handle], wanted: Callable[[SystemNetns], bool]
) -> SystemNetns | None:
    """The first of these namespaces that is wanted; the receiver closes it."""
    for handle in handles:
        with ExitStack() as otherwise:
            candidate = SystemNetns(handle, own=False)
            otherwise.callback(candidate.close)
            if wanted(candidate):
                otherwise.pop_all()
                return candidate
    return None


def _descriptor(namespace: Netns) -> int:
    if not isinstance(namespace, SystemNetns):
        raise TypeError(f"{namespace!r} is no namespace of this machine")
    return namespace.fd


def _present(values: Any) -> tuple[Any, ...]:
    return tuple(value for value in values if value is not None)


def _differing(before: LinkSettings, after: LinkSettings) -> str:
    pairs = zip(before._fields, before, after, strict=True)
    return ", ".join(f"{name} {new}" for name, old, new in pairs if old != new)
