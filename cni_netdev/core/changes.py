"""A network namespace of this machine, and what netlink, sysctl and bpf change in it."""

from __future__ import annotations

import errno

from cni_netdev.core import qdisc, rtnl
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.looks import Looks, descriptor
from cni_netdev.core.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELLINKPROP,
    RTM_DELNEIGH,
    RTM_DELQDISC,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWLINKPROP,
    RTM_NEWNEIGH,
    RTM_NEWQDISC,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RTM_NEWTFILTER,
)

if TYPE_CHECKING:
    from typing import Any

    from cni_netdev.core.model import (
        Address,
        Filter,
        Forwarding,
        Link,
        LinkSettings,
        Neighbour,
        Phy,
        Qdisc,
        Route,
        Rule,
        Vrf,
    )
    from cni_netdev.core.ports import Netns
    from cni_netdev.core.tuning import Pairs

_NEW = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL


class SystemNetns(Looks):
    """ports.Netns: looks, and changes."""

    def move(self, ifindex: int, target: Netns, before: LinkSettings, after: LinkSettings) -> None:
        link = self.link(ifindex=ifindex) if self._sysfs.phy(before.name) else None
        if link and link.phy:
            self._move_phy(link, link.phy.number, target, after)
            return
        message = rtnl.link_move(ifindex, descriptor(target), before, after)
        self._send(f"move link {before.name} as {after.name}", message, RTM_NEWLINK)

    def _move_phy(self, link: Link, phy: int, target: Netns, after: LinkSettings) -> None:
        with self._nl80211() as nl80211:
            nl80211.move(phy, descriptor(target))
        arrived = target.find(link.identity)
        if arrived is None:
            raise KernelRefused(f"find link {link.name}, whose phy was moved", errno.ENODEV)
        if arrived.settings != after:
            target.change(arrived.identity.ifindex, arrived.settings, after)

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
            nldev.move(number, name, descriptor(target))

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
        from cni_netdev.core import bpf

        with bpf.opened(program) as fd:
            message = rtnl.xdp(ifindex, mode, fd)
            self._send(f"attach {mode} XDP program {program}", message, RTM_NEWLINK)

    def detach_tcx(self, ifindex: int, attach: str, program: int) -> None:
        from cni_netdev.core import bpf

        with self._inside():
            bpf.detach_tcx(ifindex, attach, program)

    def attach_tcx(self, ifindex: int, attach: str, program: int, before: int) -> None:
        from cni_netdev.core import bpf

        with self._inside():
            bpf.attach_tcx(ifindex, attach, program, before)

    def add_filter(self, ifindex: int, value: Filter) -> None:
        from cni_netdev.core import bpf, filters

        with bpf.opened(value.program) as fd:
            message = filters.change(ifindex, value, fd)
            self._send(f"add filter {value.name or value.program}", message, RTM_NEWTFILTER, _NEW)

    def hold_program(self, inode: int, program: int) -> None:
        from cni_netdev.core import bpfpins

        bpfpins.hold(inode, program)

    def let_go_programs(self, inode: int) -> None:
        from cni_netdev.core import bpfpins

        bpfpins.let_go(inode)

    def _send(self, what: str, message: Any, kind: int, flags: int = NLM_F_ACK) -> None:
        self._rtnl.request(what, message, kind, flags)


def _differing(before: LinkSettings, after: LinkSettings) -> str:
    pairs = zip(before._fields, before, after, strict=True)
    return ", ".join(f"{name} {new}" for name, old, new in pairs if old != new)
