"""A kernel and a journal in memory, for tests of the engine without root.

They keep to the measured behaviour of Linux where the engine depends on it: what a move keeps and
loses, when it fails before and when after having moved, what dies with a namespace.  The contract
suite (tests/contract) runs the same checks on them and on the real ones.

``World.interrupt`` makes the n-th change fail with an errno, or kills: ``Killed`` is no Exception,
so that nothing in the engine can catch it, just as nothing catches SIGKILL.
"""

from __future__ import annotations

import errno
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cni_netdev.core import vf
from cni_netdev.core.errors import KernelRefused, LockTimeout, NetnsError
from cni_netdev.core.model import (
    IFF_UP,
    STACKED,
    Address,
    Filter,
    Forwarding,
    Identity,
    Link,
    LinkSettings,
    Neighbour,
    Phy,
    Qdisc,
    Rdma,
    Record,
    Route,
    Rule,
    VirtualFunction,
    Vrf,
)
from cni_netdev.core.tuning import Tunable, meant, unmet
from cni_netdev.core.vrf import OUR_GROUP, has_table, is_ours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cni_netdev.core.ports import Key, Netns, Occupancy
    from cni_netdev.core.tuning import Pairs

HOST = "/proc/self/ns/net"
DEFAULT_ETHTOOL = {"features": "0f", "rings": "10"}
# By bit of "features", the last of which the driver keeps.
FIXED = "highdma"
FEATURES = ("tx-tcp-segmentation", "tx-tcp6-segmentation", "rx-gro", FIXED)
DEFAULT_SYSCTLS = {
    "ipv4/conf/arp_notify": "0",
    "ipv4/conf/rp_filter": "0",
    "ipv6/conf/accept_ra": "1",
    "ipv6/conf/ndisc_notify": "0",
    "ipv6/conf/optimistic_dad": "0",
    "ipv6/conf/use_optimistic": "0",
}


class Killed(BaseException):
    """The process died here."""


class FakeLink:
    """One link, wherever it is."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.addresses: list[Address] = []
        self.routes: list[Route] = []
        self.neighbours: list[Neighbour] = []
        self.sysctls = dict(DEFAULT_SYSCTLS)
        self.ethtool = dict(DEFAULT_ETHTOOL)
        self.tcx: list[tuple[str, int]] = []
        self.qdiscs: list[Qdisc] = []
        self.filters: list[Filter] = []
        self.forwarding: list[Forwarding] = []
        self.on: FakeLink | None = None
        self.made_in = 0
        self.duplicates: list[str] = []
        self.vf: VirtualFunction | None = None

    @property
    def ifindex(self) -> int:
        return self.link.identity.ifindex

    def everything(self) -> tuple[object, ...]:
        """All that a restore must bring back; the ifindex may differ."""
        return (
            self.link.settings,
            frozenset(self.link.altnames),
            self.link.master,
            self.link.xdp,
            self.link.data,
            self.link.phy,
            tuple(self.addresses),
            frozenset(self.routes),
            frozenset(self.neighbours),
            tuple(sorted(self.sysctls.items())),
            tuple(sorted(self.ethtool.items())),
            tuple(self.tcx),
            frozenset(self.qdiscs),
            tuple(self.filters),
            frozenset(self.forwarding),
            self.vf,
        )


class FakeRdma:
    """An RDMA device over a link, in a namespace of its own."""

    def __init__(self, device: Rdma, link: FakeLink, cookie: int) -> None:
        self.device = device
        self.link = link
        self.cookie = cookie
        self.movable = True


class FakePhy:
    """A radio: where it is, and what its links have of it."""

    def __init__(self, cookie: int, identity: Identity) -> None:
        self.cookie = cookie
        self.identity = identity


class World:
    """All namespaces of a machine.  Its first is the host's and the initial one."""

    def __init__(self) -> None:
        self._cookies = 0
        self._inodes = 100
        self.namespaces: dict[int, dict[int, FakeLink]] = {}
        self.paths: dict[str, int] = {}
        self.occupied: set[int] = set()
        self.events: list[str] = []
        self.buses: set[str] = set()
        # What drivers in user space have.
        self.functions: list[FakeLink] = []
        # Programs on bpf_links, and (inode of a link, program) that are held for it.
        self.linked: set[int] = set()
        self.held: set[tuple[int, int]] = set()
        # By namespace: those that links went to from there.
        self.known: dict[int, set[int]] = {}
        self.rules: dict[int, list[Rule]] = {}
        self.out_of_sight: set[int] = set()
        # Namespaces where nothing can be taken off a phy.
        self.clinging: set[int] = set()
        self.phys: dict[int, FakePhy] = {}
        self.rdma_shared = True
        self.rdma: list[FakeRdma] = []
        self._interrupts: dict[int, Callable[[], None]] = {}
        self.host = self.add_namespace(HOST)

    # --- for tests ---------------------------------------------------------------------------

    def add_namespace(self, path: str) -> int:
        self._cookies += 1
        self.namespaces[self._cookies] = {}
        self.paths[path] = self._cookies
        return self._cookies

    def remove_path(self, path: str) -> None:
        """`ip netns delete`: the namespace dies unless something still holds it."""
        cookie = self.paths.pop(path)
        self.settle_death(cookie)

    def settle_death(self, cookie: int) -> None:
        if cookie in self.paths.values() or cookie in self.occupied:
            return
        self.rules.pop(cookie, None)
        for fake in reversed([*self.namespaces.pop(cookie, {}).values()]):
            if fake.link.kind is None:
                self._return_hardware(fake)
        movable: list[FakeRdma | FakePhy] = [*self.rdma, *self.phys.values()]
        for each in movable:
            if each.cookie == cookie:
                each.cookie = self.host

    def _return_hardware(self, fake: FakeLink) -> None:
        name = fake.link.name
        if self.named(self.host, name):
            name = self.free_name(self.host, name) if fake.link.phy else f"dev{fake.ifindex}"
        self._put(self.host, fake, name)

    def add_link(
        self,
        name: str,
        *,
        namespace: int = 0,
        kind: str | None = "veth",
        bus: str | None = None,
        altnames: tuple[str, ...] = (),
        settings: LinkSettings | None = None,
        on: FakeLink | None = None,
    ) -> FakeLink:
        """on: the link that it is stacked on."""
        cookie = namespace or self.host
        self._inodes += 1
        ifindex = self._free_ifindex(cookie, 0)
        mac = f"02:00:00:00:00:{self._inodes % 256:02x}"
        link = Link(
            identity=Identity(ifindex, self._inodes, mac if kind is None else None, bus),
            settings=settings or LinkSettings(name, 1500, mac, "", 1000, 0, 0x1000),
            altnames=altnames,
            kind=kind,
            min_mtu=68,
            max_mtu=9000,
        )
        fake = FakeLink(link)
        fake.made_in = cookie
        self.namespaces[cookie][ifindex] = fake
        if on is not None:
            fake.on = on
            on.link = on.link._replace(uppers=(*on.link.uppers, name))
        return fake

    def add_rdma(self, link: FakeLink, name: str, soft: str = "") -> FakeRdma:
        """On the host, or wherever there is no other place for it."""
        self._inodes += 1
        made = FakeRdma(Rdma(self._inodes, name, self._inodes, soft), link, self.host)
        self.rdma.append(made)
        return made

    def stacked_on(self, lower: FakeLink, cookie: int) -> list[FakeLink]:
        """What hangs on a link, of one namespace."""
        there = self.namespaces.get(cookie, {}).values()
        return [fake for fake in there if fake.on is lower and fake.link.kind in STACKED]

    def delete_stacked(self, lower: FakeLink, cookies: Iterable[int]) -> tuple[str, ...]:
        deleted = []
        for cookie in cookies:
            for fake in self.stacked_on(lower, cookie):
                del self.namespaces[cookie][fake.ifindex]
                deleted.append(fake.link.name)
        return tuple(deleted)

    def where(self, inode: int) -> tuple[int, FakeLink] | None:
        for cookie, links in self.namespaces.items():
            for fake in links.values():
                if fake.link.identity.inode == inode:
                    return cookie, fake
        return None

    def interrupt(self, number: int, action: Callable[[], None]) -> None:
        """Call ``action`` (which raises) instead of the n-th event, counted from 1 from now on."""
        self._interrupts[len(self.events) + number] = action

    def kill_at(self, number: int) -> None:
        def die() -> None:
            raise Killed

        self.interrupt(number, die)

    def fail_at(self, number: int, code: int) -> None:
        def refuse() -> None:
            raise KernelRefused("injected", code)

        self.interrupt(number, refuse)

    def event(self, what: str) -> None:
        self.events.append(what)
        action = self._interrupts.pop(len(self.events), None)
        if action:
            action()

    # --- the kernel's rules ------------------------------------------------------------------

    def named(self, cookie: int, name: str) -> FakeLink | None:
        for fake in self.namespaces[cookie].values():
            if name in fake.link.names:
                return fake
        return None

    def _free_ifindex(self, cookie: int, wanted: int) -> int:
        taken = self.namespaces[cookie]
        if wanted and wanted not in taken:
            return wanted
        return max(taken, default=1) + 1

    def move(self, source: int, ifindex: int, target: int, after: LinkSettings) -> None:
        fake = self.namespaces[source][ifindex]
        if fake.link.phy:
            self._move_phy(source, fake, target)
            self.apply(target, fake, after)
            return
        if fake.link.immutable:
            raise KernelRefused("move", errno.EINVAL)
        arriving = fake.link.name
        if self.named(target, arriving):
            arriving = after.name
            if self.named(target, arriving):
                raise KernelRefused("move", errno.EEXIST)
        if any(self.named(target, each) for each in fake.link.altnames):
            raise KernelRefused("move", errno.EEXIST)
        del self.namespaces[source][ifindex]
        self.known.setdefault(source, set()).add(target)
        self._put(target, fake, arriving)
        self.apply(target, fake, after)

    def _move_phy(self, source: int, fake: FakeLink, target: int) -> None:
        """The newest link of it first (net/wireless/core.c, cfg80211_switch_netns)."""
        if fake.link.phy and fake.link.phy.number in self.phys:
            self.phys[fake.link.phy.number].cookie = target
        for each in (*reversed(self.mates(source, fake)), fake):
            del self.namespaces[source][each.ifindex]
            self._put(target, each, self.free_name(target, each.link.name))

    def mates(self, cookie: int, fake: FakeLink) -> list[FakeLink]:
        """The other links of its phy."""
        if fake.link.phy is None:
            return []
        number = fake.link.phy.number
        every = self.namespaces[cookie].values()
        return [x for x in every if x is not fake and x.link.phy and x.link.phy.number == number]

    def free_name(self, cookie: int, name: str) -> str:
        candidates = [name, *(f"wlan{number}" for number in range(9))]
        return next(each for each in candidates if not self.named(cookie, each))

    def shown(self, cookie: int, fake: FakeLink) -> Link:
        """The link as a look tells it."""
        phy, mates = fake.link.phy, self.mates(cookie, fake)
        named = tuple(each.link.name for each in mates)
        return fake.link._replace(phy=phy and phy._replace(mates=named))

    def _put(self, cookie: int, fake: FakeLink, name: str) -> None:
        settings = fake.link.settings
        fake.link = fake.link._replace(
            identity=fake.link.identity._replace(
                ifindex=self._free_ifindex(cookie, fake.link.identity.ifindex)
            ),
            settings=settings._replace(name=name, flags=settings.flags & ~IFF_UP, token=""),
            master=0,
            uppers=(),
        )
        fake.addresses, fake.routes, fake.neighbours, fake.qdiscs = [], [], [], []
        fake.filters = []
        fake.sysctls = dict(DEFAULT_SYSCTLS)
        self.rdma = [each for each in self.rdma if each.link is not fake or not each.device.soft]
        fake.forwarding = fake.forwarding if fake.link.kind == "vxlan" else []
        self.namespaces[cookie][fake.ifindex] = fake

    def apply(self, cookie: int, fake: FakeLink, after: LinkSettings) -> None:
        """In do_setlink's order: MAC, MTU, group, name, alias, flags, queue and offload sizes."""
        self._set(fake, mac=after.mac)
        limit = fake.link.max_mtu or after.mtu
        if not fake.link.min_mtu <= after.mtu <= limit:
            raise KernelRefused("set mtu", errno.EINVAL)
        self._set(fake, mtu=after.mtu, group=after.group)
        if after.name != fake.link.name:
            if self.named(cookie, after.name):
                raise KernelRefused("rename", errno.EEXIST)
            self._set(fake, name=after.name)
        self._set(fake, alias=after.alias, flags=after.flags)
        self._set(fake, txqlen=after.txqlen, sizes=after.sizes, broadcast=after.broadcast)
        self._set(fake, linkmode=after.linkmode)
        self._set(fake, protodown_reason=after.protodown_reason, protodown=after.protodown)
        self._set(fake, token=after.token)

    def _set(self, fake: FakeLink, **settings: object) -> None:
        replaced = fake.link.settings._replace(**settings)  # type: ignore[arg-type]
        fake.link = fake.link._replace(settings=replaced)


class FakeNetns:
    """ports.Netns over one namespace of a world."""

    def __init__(self, world: World, cookie: int) -> None:
        self._world = world
        self._cookie = cookie

    @property
    def cookie(self) -> int:
        return self._cookie

    @property
    def _links(self) -> dict[int, FakeLink]:
        return self._world.namespaces[self._cookie]

    def _at(self, ifindex: int) -> FakeLink:
        if ifindex not in self._links:
            raise KernelRefused(f"ifindex {ifindex}", errno.ENODEV)
        return self._links[ifindex]

    def link(self, *, name: str = "", ifindex: int = 0) -> Link | None:
        fake = self._world.named(self._cookie, name) if name else self._links.get(ifindex)
        return self._world.shown(self._cookie, fake) if fake else None

    def links(self) -> tuple[Link, ...]:
        return tuple(self._world.shown(self._cookie, fake) for fake in self._links.values())

    def find(self, identity: Identity) -> Link | None:
        for fake in self._links.values():
            if identity.same_link(fake.link.identity):
                return self._world.shown(self._cookie, fake)
        return None

    def may_have_made(self, link: Link) -> bool:
        hardware = link.kind is None and link.identity.bus
        return not hardware and self._at(link.identity.ifindex).made_in == self._cookie

    def holds(self, identity: Identity) -> bool:
        return self.find(identity) is not None

    def numbers(self, name: str) -> tuple[int, int]:
        link = self.link(name=name)
        there = link is not None and link.name == name
        return (link.identity.inode, link.identity.ifindex) if link and there else (0, 0)

    def by_bus(self, address: str) -> tuple[str, ...]:
        return tuple(each.name for each in self.links() if each.identity.bus == address)

    def has_bus(self, address: str) -> bool:
        return address in self._world.buses

    def driver_of_bus(self, address: str) -> str | None:
        function = self.user_space(address)
        return function.driver if function else None

    def user_space(self, address: str) -> Link | None:
        found = [each.link for each in self._world.functions if each.link.name == address]
        return found[0] if found else None

    def by_kernel_path(self, path: str) -> tuple[str, ...]:
        return tuple(each.name for each in self.links() if path.endswith(f"/net/{each.name}"))

    def virtual_function(self, address: str) -> VirtualFunction | None:
        """Wherever its link is: the physical function is the host's."""
        found = [each.vf for each in self._everywhere() if each.link.identity.bus == address]
        return found[0] if found else None

    def set_virtual_function(self, pf: str, number: int, before: Pairs, after: Pairs) -> None:
        for group in vf.changes(before, after):
            self._world.event(f"vf {group[0][0]}")
            for fake in self._everywhere():
                if fake.vf and fake.vf[:2] == (pf, number):
                    changed = {**dict(fake.vf.settings), **dict(group)}
                    fake.vf = fake.vf._replace(settings=tuple(changed.items()))

    def _everywhere(self) -> list[FakeLink]:
        there = [fake for links in self._world.namespaces.values() for fake in links.values()]
        return there + self._world.functions

    def addresses(self, ifindex: int) -> tuple[Address, ...]:
        return tuple(self._at(ifindex).addresses)

    def routes(self, ifindex: int) -> tuple[Route, ...]:
        return tuple(self._at(ifindex).routes)

    def neighbours(self, ifindex: int) -> tuple[Neighbour, ...]:
        return tuple(self._at(ifindex).neighbours)

    def await_dad(self, ifindex: int, seconds: int, in_time: Callable[[], None]) -> tuple[str, ...]:  # noqa: ARG002
        in_time()
        duplicates = self._at(ifindex).duplicates
        return tuple(f"{each} is used by another host" for each in duplicates)

    def rules(self) -> tuple[Rule, ...]:
        return tuple(self._world.rules.get(self._cookie, ()))

    def forwarding(self, ifindex: int) -> tuple[Forwarding, ...]:
        return tuple(self._at(ifindex).forwarding)

    def overheard(self, link: Link) -> bool:
        lower = self._at(link.identity.ifindex)
        world = self._world
        above = [each for place in world.namespaces for each in world.stacked_on(lower, place)]
        return any(each.link.kind != "vlan" for each in above)

    def is_open(self, link: Link) -> bool:
        return self._at(link.identity.ifindex).link.opened

    def knows_others(self, home: Netns) -> bool:
        return bool(self._world.known.get(self._cookie, set()) - {home.cookie})

    def delete_stacked(self, ifindex: int, home: Netns) -> tuple[str, ...]:
        self._world.event(f"delete what is on {ifindex}")
        known = self._world.known.get(self._cookie, set()) if home.cookie != self._cookie else ()
        lower = self._world.namespaces[home.cookie][ifindex]
        return self._world.delete_stacked(lower, (self._cookie, *known))

    def links_with(self, address: str) -> tuple[int, ...]:
        return tuple(
            fake.ifindex
            for fake in self._links.values()
            if address in [each.address for each in fake.addresses]
        )

    def sysctls(self, name: str) -> tuple[tuple[str, str], ...]:
        fake = self._world.named(self._cookie, name)
        return tuple(sorted(fake.sysctls.items())) if fake else ()

    def ethtool(self, name: str) -> tuple[tuple[str, str], ...]:
        fake = self._world.named(self._cookie, name)
        return tuple(sorted(fake.ethtool.items())) if fake else ()

    def tunables(self, name: str) -> tuple[Tunable, ...]:
        fake = self._world.named(self._cookie, name)
        if fake is None:
            return ()
        bits, ring = (int(fake.ethtool[key], 16) for key in ("features", "rings"))
        features = [
            Tunable(f"features.{each}", "on" if bits >> at & 1 else "off", 0, each == FIXED)
            for at, each in enumerate(FEATURES)
        ]
        return (*features, Tunable("rings.rx", str(ring), most=64))

    def wlans(self, phy: int) -> tuple[str, ...] | None:
        if phy not in self._world.phys or self._world.phys[phy].cookie != self._cookie:
            return None
        phys = {each.link.name: each.link.phy for each in self._links.values()}
        return tuple(name for name, its in phys.items() if its and its.number == phy)

    def make_wlan(self, phy: Phy) -> Link | None:
        self._world.event(f"make a link on {phy.number}")
        name = self._world.free_name(self._cookie, "wlan0")
        made = self._world.add_link(name, namespace=self._cookie, kind=None)
        of_phy = self._world.phys[phy.number].identity
        own = made.link.identity._replace(perm_mac=of_phy.perm_mac, bus=of_phy.bus)
        settings = made.link.settings._replace(mac=of_phy.perm_mac)
        made.link = made.link._replace(identity=own, phy=phy, settings=settings)
        return made.link

    def remove_wlan(self, name: str) -> None:
        self._world.event(f"remove {name}")
        if self._cookie in self._world.clinging:
            raise KernelRefused(f"remove {name}", errno.EBUSY)
        fake = self._world.named(self._cookie, name)
        if fake is not None:
            del self._links[fake.ifindex]

    def set_wlan_type(self, ifindex: int, type_: int) -> None:
        self._world.event(f"wlan type {type_}")
        fake = self._at(ifindex)
        if fake.link.settings.up:
            raise KernelRefused("wlan type", errno.EBUSY)
        self._set_phy(fake, type=type_)

    def rename_phy(self, number: int, before: str, after: str) -> None:
        self._world.event(f"rename phy {before}")
        for fake in self._links.values():
            if fake.link.phy and fake.link.phy.number == number:
                self._set_phy(fake, name=after)

    @staticmethod
    def _set_phy(fake: FakeLink, **changes: Any) -> None:
        if fake.link.phy is not None:
            fake.link = fake.link._replace(phy=fake.link.phy._replace(**changes))

    def _rdma_seen(self) -> list[FakeRdma]:
        world = self._world
        return [each for each in world.rdma if world.rdma_shared or each.cookie == self._cookie]

    def rdma(self, link: Link) -> tuple[Rdma, ...]:
        fake = self._links.get(link.identity.ifindex)
        return tuple(
            each.device._replace(shared=self._world.rdma_shared)
            for each in self._rdma_seen()
            if each.link is fake
        )

    def find_rdma(self, device: Rdma) -> Rdma | None:
        seen = (each.device for each in self._rdma_seen() if device.same_device(each.device))
        return next(seen, None)

    def move_rdma(self, number: int, name: str, target: Netns) -> None:
        self._world.event(f"move rdma {name}")
        fake = self._rdma_at(number)
        if self._world.rdma_shared or fake.device.soft or not fake.movable:
            raise KernelRefused(f"move {name}", errno.EOPNOTSUPP)
        fake.cookie = target.cookie

    def _rdma_at(self, number: int) -> FakeRdma:
        for each in self._rdma_seen():
            if each.device.number == number:
                return each
        raise KernelRefused(f"RDMA device {number}", errno.EINVAL)

    def rename_rdma(self, number: int, before: str, after: str) -> None:
        self._world.event(f"rename rdma {before}")
        self._refuse_known(after)
        fake = self._rdma_at(number)
        fake.device = fake.device._replace(name=after)

    def _refuse_known(self, name: str) -> None:
        if name in [each.device.name for each in self._world.rdma]:
            raise KernelRefused(f"RDMA device {name}", errno.EEXIST)

    def add_rdma(self, link: str, name: str, soft: str) -> None:
        self._world.event(f"add rdma {name}")
        self._refuse_known(name)
        fake = self._world.named(self._cookie, link)
        if fake is None:
            raise KernelRefused(f"RDMA device over {link}", errno.ENODEV)
        self._world.add_rdma(fake, name, soft)

    def tcx(self, ifindex: int) -> tuple[tuple[str, int], ...]:
        return tuple(self._at(ifindex).tcx)

    def filters(self, ifindex: int) -> tuple[Filter, ...]:
        return tuple(self._at(ifindex).filters)

    def add_filter(self, ifindex: int, value: Filter) -> None:
        self._world.event(f"filter {value.name}")
        fake = self._at(ifindex)
        if "clsact" not in [each.kind for each in fake.qdiscs]:
            raise KernelRefused("filter", errno.EINVAL)
        _toggle(fake.filters, value, present=True)

    def qdiscs(self, ifindex: int) -> tuple[Qdisc, ...]:
        return tuple(self._at(ifindex).qdiscs)

    def set_qdisc(self, ifindex: int, discipline: Qdisc, *, present: bool) -> None:
        self._world.event(f"qdisc {discipline.kind}")
        _toggle(self._at(ifindex).qdiscs, discipline, present=present)

    def move(self, ifindex: int, target: Netns, before: LinkSettings, after: LinkSettings) -> None:
        self._world.event(f"move {before.name} as {after.name}")
        self._at(ifindex)
        self._world.move(self._cookie, ifindex, target.cookie, after)

    def change(self, ifindex: int, before: LinkSettings, after: LinkSettings) -> None:
        self._world.event(f"change {before.name}")
        self._world.apply(self._cookie, self._at(ifindex), after)

    def set_kind_data(self, ifindex: int, kind: str, before: str, after: str) -> None:
        self._world.event(f"data of {kind} {before} to {after}")
        fake = self._at(ifindex)
        fake.link = fake.link._replace(data=after)

    def set_master(self, ifindex: int, master: int) -> None:
        self._world.event(f"master {master}")
        fake = self._at(ifindex)
        fake.link = fake.link._replace(master=master)

    def set_altname(self, ifindex: int, altname: str, *, present: bool) -> None:
        self._world.event(f"altname {altname}")
        fake = self._at(ifindex)
        if present and self._world.named(self._cookie, altname):
            raise KernelRefused("altname", errno.EEXIST)
        rest = tuple(each for each in fake.link.altnames if each != altname)
        fake.link = fake.link._replace(altnames=(*rest, altname) if present else rest)

    def set_address(self, ifindex: int, address: Address, *, present: bool) -> None:
        self._world.event(f"address {address.cidr}")
        there = self._at(ifindex).addresses
        known = [each.cidr for each in there]
        if not present:
            there[:] = [each for each in there if each.cidr != address.cidr]
        elif address.cidr in known:
            raise KernelRefused("address", errno.EEXIST)
        else:  # IPv4 after the others of its kind, IPv6 before them
            there.insert(sum(":" not in each for each in known), address)

    def set_route(
        self,
        ifindex: int,
        route: Route,
        *,
        present: bool,
        append: bool = False,  # noqa: ARG002
    ) -> None:
        self._world.event(f"route {route.dst}")
        fake = self._at(ifindex)
        if not fake.link.settings.up:
            raise KernelRefused("route", errno.ENETDOWN)
        _toggle(fake.routes, route, present=present)

    def set_neighbour(self, ifindex: int, neighbour: Neighbour, *, present: bool) -> None:
        self._world.event(f"neighbour {neighbour.address}")
        there = self._at(ifindex).neighbours
        if present:
            there[:] = [each for each in there if each.address != neighbour.address]
        _toggle(there, neighbour, present=present)

    def set_rule(self, rule: Rule, *, present: bool) -> None:
        self._world.event(f"rule {rule.priority}")
        there = self._world.rules.setdefault(self._cookie, [])
        if present and rule in there:
            raise KernelRefused("rule", errno.EEXIST)
        if present:
            there.append(rule)
            return
        for each in there:
            if all(said in (has, None, "", 0) for said, has in zip(rule, each, strict=True)):
                there.remove(each)
                return
        raise KernelRefused("rule", errno.ENOENT)

    def set_vrf(self, vrf: Vrf, *, present: bool) -> None:
        self._world.event(f"vrf {vrf.name}")
        fake = self._world.named(self._cookie, vrf.name)
        if present and fake is None:
            settings = LinkSettings(vrf.name, 65575, None, "", 1000, OUR_GROUP, 0x1000 | IFF_UP)
            made = self._world.add_link(
                vrf.name, namespace=self._cookie, kind="vrf", settings=settings
            )
            data = f"08000100{vrf.table.to_bytes(4, sys.byteorder).hex()}"
            made.link = made.link._replace(data=data, immutable=True)
        elif present and fake and not has_table(fake.link, vrf.table):
            raise KernelRefused("vrf", errno.EEXIST)
        elif not present and fake and is_ours(fake.link) and not self._ports_of(fake):
            del self._links[fake.ifindex]

    def _ports_of(self, master: FakeLink) -> list[FakeLink]:
        return [each for each in self._links.values() if each.link.master == master.ifindex]

    def set_forwarding(self, ifindex: int, entry: Forwarding, *, present: bool) -> None:
        self._world.event(f"forwarding {entry.mac}")
        there = self._at(ifindex).forwarding
        there[:] = [each for each in there if each != entry] + [entry] * present

    def set_sysctl(self, name: str, key: str, value: str) -> None:
        self._world.event(f"sysctl {key}")
        fake = self._world.named(self._cookie, name)
        if fake is None:
            raise KernelRefused(f"sysctl of {name}", errno.ENOENT)
        fake.sysctls[key] = value

    def set_ethtool(self, name: str, key: str, value: str) -> None:
        self._world.event(f"ethtool {key}")
        fake = self._world.named(self._cookie, name)
        if fake is None:
            raise KernelRefused(f"ethtool of {name}", errno.ENODEV)
        fake.ethtool[key] = value

    def tune(self, name: str, wanted: Pairs) -> None:
        self._world.event(f"tune {name}")
        fake = self._world.named(self._cookie, name)
        if fake is None:
            raise KernelRefused(f"ethtool of {name}", errno.ENODEV)
        keys = [f"features.{each}" for each in FEATURES if each != FIXED]
        for key, value in wanted:
            if key == "rings.rx":
                fake.ethtool["rings"] = f"{int(value):02x}"
            for each in meant(key, keys):
                bit = 1 << keys.index(each)
                bits = int(fake.ethtool["features"], 16)
                bits = bits | bit if value == "on" else bits & ~bit
                fake.ethtool["features"] = f"{bits:02x}"
        if unmet(wanted, self.tunables(name)):
            raise KernelRefused(f"ethtool of {name}", errno.EOPNOTSUPP)

    def detach_xdp(self, ifindex: int, mode: str) -> None:
        self._world.event(f"detach xdp {mode}")
        fake = self._at(ifindex)
        rest = tuple(each for each in fake.link.xdp if each[0] != mode)
        fake.link = fake.link._replace(xdp=rest)

    def attach_xdp(self, ifindex: int, mode: str, program: int) -> None:
        self._world.event(f"attach xdp {mode}")
        fake = self._at(ifindex)
        fake.link = fake.link._replace(xdp=(*fake.link.xdp, (mode, program)))

    def detach_tcx(self, ifindex: int, attach: str, program: int) -> None:
        self._world.event(f"detach tcx {attach}")
        self._at(ifindex).tcx.remove((attach, program))

    def attach_tcx(self, ifindex: int, attach: str, program: int, before: int) -> None:
        self._world.event(f"attach tcx {attach}")
        there = self._at(ifindex).tcx
        if (attach, program) in there:
            raise KernelRefused("tcx", errno.EEXIST)
        own = [at for at, each in enumerate(there) if each[0] == attach]
        if before:
            there.insert(there.index((attach, before)), (attach, program))
        else:  # ingress is listed before egress
            there.insert(
                own[-1] + 1 if own else len(there) * (attach == "egress"), (attach, program)
            )

    def on_links(self, ifindex: int) -> tuple[int, ...]:
        self._at(ifindex)
        return tuple(sorted(self._world.linked))

    def hold_program(self, inode: int, program: int) -> None:
        self._world.event(f"hold program {program}")
        self._world.held.add((inode, program))

    def let_go_programs(self, inode: int) -> None:
        self._world.event("let programs go")
        self._world.held = {each for each in self._world.held if each[0] != inode}

    def close(self) -> None:
        """Nothing is held."""


def _toggle(values: list[Any], value: Any, *, present: bool) -> None:
    if present and value in values:
        raise KernelRefused("add", errno.EEXIST)
    if present:
        values.append(value)
    else:
        values.remove(value)


class FakeKernel:
    """ports.Kernel over a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.initial_netns = True
        self.boot_id = "this-boot"
        self.scan_refused = False

    @property
    def host(self) -> FakeNetns:
        return FakeNetns(self.world, self.world.host)

    def open(self, path: str) -> FakeNetns:
        if path not in self.world.paths:
            raise NetnsError(f"{path!r} is no network namespace")
        return FakeNetns(self.world, self.world.paths[path])

    def search(self, cookie: int) -> FakeNetns | None:
        return FakeNetns(self.world, cookie) if cookie in self.world.occupied else None

    def await_hardware(self, identity: Identity) -> Link | None:
        return self.host.find(identity)

    def holder(self, identity: Identity, *, thorough: bool = True) -> FakeNetns | None:  # noqa: ARG002
        for cookie in sorted(self.world.occupied - {self.world.host}):
            namespace = FakeNetns(self.world, cookie)
            if namespace.find(identity):
                return namespace
        return None

    def rdma_holder(self, device: Rdma) -> FakeNetns | None:
        for cookie in sorted(self.world.occupied - {self.world.host}):
            namespace = FakeNetns(self.world, cookie)
            if namespace.find_rdma(device):
                return namespace
        return None

    def hunt(self, link: Link) -> tuple[str, ...]:
        self.world.event(f"hunt for what is on {link.name}")
        lower = self.world.namespaces[self.world.host][link.identity.ifindex]
        found = set(self.world.namespaces) - self.world.out_of_sight
        return self.world.delete_stacked(lower, found)

    def cookie_at(self, path: str) -> int:
        return self.world.paths.get(path, 0)

    def occupancy(self, cookie: int) -> Occupancy:
        if cookie in self.world.occupied:
            return "occupied"
        return "unknown" if self.scan_refused else "empty"


class FakeJournal:
    """ports.Journal in memory; its changes are events of the world, so that they can be killed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kept: dict[Key, Record] = {}
        self.pins: dict[Key, int] = {}
        self.locks: set[str] = set()
        self.mount_namespace = 1
        self.living_mount_namespaces = {1}

    def enter_new_mount_namespace(self) -> None:
        """As a container that is started anew; the pins die with the old one."""
        self.mount_namespace += 1
        self.living_mount_namespaces.discard(self.mount_namespace - 1)
        for key in list(self.pins):
            self._drop(key)

    def has(self, key: Key) -> bool:
        return key in self.kept

    def read(self, key: Key) -> Record | None:
        return self.kept.get(key)

    def write(self, record: Record) -> None:
        self.world.event("journal write")
        self.kept[record.owner.key] = record

    def forget(self, key: Key) -> None:
        self.world.event("journal forget")
        self.kept.pop(key, None)

    def records(self) -> tuple[Record, ...]:
        return tuple(self.kept[key] for key in sorted(self.kept))

    def unreadable(self) -> tuple[tuple[str, str], ...]:
        return ()

    def set_aside(self, key: Key) -> str | None:  # noqa: ARG002
        return None

    def orphans(self) -> tuple[Key, ...]:
        return tuple(sorted(set(self.pins) - set(self.kept)))

    def sweep(self) -> None:
        """Nothing is left by the dead but locks, which tests clear."""

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[None]:  # noqa: ARG002
        if name in self.locks:
            raise LockTimeout(f"{name} is locked")
        self.locks.add(name)
        try:
            yield
        finally:
            self.locks.remove(name)

    def pin(self, key: Key, netns: Netns) -> None:
        self.world.event("pin")
        self.pins[key] = netns.cookie
        self.world.paths[self._path(key)] = netns.cookie

    def pinned(self, key: Key) -> str | None:
        return self._path(key) if key in self.pins else None

    def pinned_elsewhere(self, key: Key, mount_namespace: int) -> bool:  # noqa: ARG002
        others = self.living_mount_namespaces - {self.mount_namespace}
        return mount_namespace in others

    def unpin(self, key: Key) -> None:
        self.world.event("unpin")
        self._drop(key)

    def _drop(self, key: Key) -> None:
        cookie = self.pins.pop(key, None)
        if cookie is not None:
            self.world.remove_path(self._path(key))

    def probe(self) -> None:
        """Memory can always be written."""

    @staticmethod
    def _path(key: Key) -> str:
        return "pins/" + "@".join(key)
