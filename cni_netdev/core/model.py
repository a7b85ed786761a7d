"""The values that the core works on; all immutable, none with behaviour beyond small questions.

``NamedTuple`` throughout: a dozen frozen dataclasses cost 21 ms of every pod's start, a dozen
of these 11.  Addresses and destinations are CIDR strings in canonical form
(``192.168.2.2/24``, ``fd00::1/64``), MACs are lower case with colons, sizes are bytes,
flags and scopes are the kernel's numbers (``linux/if.h``, ``linux/rtnetlink.h``).
"""

from __future__ import annotations

from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Literal

    # Where a request came from: the operator's conflist, a runtime's capability, a tenant's text.
    Source = Literal["config", "capability", "annotation"]
    SelectorKind = Literal["name", "hwaddr", "pci_address", "kernel_path"]

AF_INET, AF_INET6 = 2, 10  # as linux/socket.h has them; socket is not loaded for two numbers
IFF_UP = 0x1
IFF_NOARP = 0x80
IFF_PROMISC = 0x100
IFF_ALLMULTI = 0x200
# What `ip link` can set and the kernel keeps: UP DEBUG NOTRAILERS NOARP PROMISC ALLMULTI
# MULTICAST PORTSEL AUTOMEDIA DYNAMIC (net/core/dev.c, __dev_change_flags).
SETTABLE_FLAGS = 0x1 | 0x4 | 0x20 | 0x80 | 0x100 | 0x200 | 0x1000 | 0x2000 | 0x4000 | 0x8000


# Kinds that hang on a lower link and hear what it hears.
STACKED = frozenset(("macvlan", "macvtap", "vlan", "ipvlan", "ipvtap", "macsec"))


class Selector(NamedTuple):
    """How a request names its link; ``value`` is canonical (MAC and PCI address lower case)."""

    kind: SelectorKind
    value: str

    def __str__(self) -> str:
        return f"{self.kind} {self.value!r}"


class RouteRequest(NamedTuple):
    """A route asked for, with CNI's names.  ``dst`` is CIDR; None means: left to the kernel."""

    dst: str
    gw: str | None = None
    src: str | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None
    mtu: int | None = None
    advmss: int | None = None


class Rule(NamedTuple):
    """A policy routing rule that looks up ``table`` (linux/fib_rules.h).

    src, dst: CIDR, or None for any.  iif, oif: names, "" for any, THIS_LINK in a request.
    mark 0: any; mask 0: all of its bits.
    """

    family: int
    table: int
    priority: int
    src: str | None = None
    dst: str | None = None
    iif: str = ""
    oif: str = ""
    mark: int = 0
    mask: int = 0


THIS_LINK = "."  # the name of none


class Vrf(NamedTuple):
    """A VRF in the pod: its name, and the table that it looks up."""

    name: str
    table: int


class Extras(NamedTuple):
    """What few requests ask for besides; see extras and outfit.

    txqlen in packets.  sizes: (IFLA name, bytes) pairs of the GSO and GRO limits.
    neighbours: permanent ones.  sysctls: as in a Snapshot.
    dad: ``off``, ``optimistic``, ``wait`` (for so many seconds at the most), or "" for as ever.
    announce: tell the neighbours of the link's addresses when it goes up.
    """

    txqlen: int | None = None
    sizes: tuple[tuple[str, int], ...] = ()
    altnames: tuple[str, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    rules: tuple[Rule, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    dad: str = ""
    dad_seconds: int = 0
    announce: bool = False
    vrf: Vrf | None = None


class DeviceRequest(NamedTuple):
    """One device asked for, validated.

    new_name: its name in the pod, or None for the host's name.
    addresses: CIDR, in the order given (``address`` first).
    mtu in bytes; mac ``aa:bb:cc:dd:ee:ff``.
    ethtool: ((``features.tso``, ``off``), ...); see tuning.
    rdma: True: its RDMA device must be of use in the pod; None: goes along if it can; see rdma.
    vf: ((``vlan``, ``100``), ...), set through the physical function; see vf.
    ebpf: ``detach``: without the host's own XDP and TCX programs while it is away; or "".
    where: the path of the device in its source, for messages (``devices[0]``).
    ipam: it has no address of its own and gets one of the network's IPAM plugin.
    """

    selector: Selector
    new_name: str | None = None
    addresses: tuple[str, ...] = ()
    mtu: int | None = None
    mac: str | None = None
    routes: tuple[RouteRequest, ...] = ()
    up: bool = True
    keep_addresses: bool = False
    extras: Extras | None = None
    rdma: bool | None = None
    source: Source = "config"
    where: str = ""
    ethtool: tuple[tuple[str, str], ...] = ()
    vf: tuple[tuple[str, str], ...] = ()
    ebpf: str = ""
    ipam: bool = False

    @property
    def privileges(self) -> tuple[str, ...]:
        """What of it a tenant gets only where a rule grants it by name; see policy."""
        private = any(key.startswith("private_flags.") for key, _ in self.ethtool)
        needed = (("vf", self.vf), ("private_flags", private), ("ebpf", self.ebpf))
        return tuple(name for name, asked in needed if asked)

    @property
    def wish(self) -> DeviceRequest:
        """What it asks for, without where that was written: to compare with another's.

        Without the network's IPAM plugin too, which the other front end does not know of.
        """
        return self._replace(source="config", where="", ipam=False)


class Address(NamedTuple):
    """One address of a link as the kernel has it (linux/if_addr.h).

    family: 2 or 10.  address: the link's own (IFA_LOCAL).  peer: the other end, or None.
    deprecated: kept, but not to be chosen as a source (preferred lifetime 0).
    """

    family: int
    address: str
    prefix: int
    peer: str | None = None
    broadcast: str | None = None
    label: str | None = None
    flags: int = 0
    scope: int = 0
    priority: int = 0
    proto: int = 0
    deprecated: bool = False

    @property
    def cidr(self) -> str:
        return f"{self.address}/{self.prefix}"


class NextHop(NamedTuple):
    """One leg of a multipath route.  ifindex 0 stands for the link that holds the route."""

    ifindex: int
    gateway: str | None
    weight: int
    flags: int


class Route(NamedTuple):
    """One route through a link as the kernel has it (linux/rtnetlink.h).

    gateway may be of the other family (RTA_VIA).  metrics: (name, value) as in RTAX_*, lower
    case without the prefix (``mtu``, ``advmss``).  protocol 4 is static, 3 boot, 2 kernel.
    partial: it has more than these fields say (encapsulation, a source, a nexthop object), and
    must not be put back as something else.
    """

    family: int
    dst: str
    gateway: str | None = None
    prefsrc: str | None = None
    priority: int = 0
    table: int = 254
    scope: int = 0
    type: int = 1
    protocol: int = 4
    tos: int = 0
    flags: int = 0
    pref: int = 0
    metrics: tuple[tuple[str, int], ...] = ()
    nexthops: tuple[NextHop, ...] = ()
    partial: bool = False


class Neighbour(NamedTuple):
    """A permanent neighbour or proxy entry (linux/neighbour.h)."""

    family: int
    address: str
    mac: str | None
    state: int
    flags: int


class Forwarding(NamedTuple):
    """An entry of a link's own table of MACs (linux/neighbour.h).

    attributes: (NDA name, the kernel's bytes in hexadecimal).
    """

    state: int
    flags: int
    attributes: tuple[tuple[str, str], ...]

    @property
    def mac(self) -> str:
        digits = dict(self.attributes).get("NDA_LLADDR", "")
        return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))


class Qdisc(NamedTuple):
    """A queueing discipline that somebody set; options: the kernel's bytes, in hexadecimal."""

    kind: str
    handle: int
    parent: int
    options: str


class Rdma(NamedTuple):
    """An RDMA device over a link (rdma/rdma_netlink.h).

    number: the kernel's for it in all namespaces.  guid: of the node; 0 is none.
    soft: what made it in software over the link (``rxe``); "" for hardware's, which stays when the
    link moves.  shared: every namespace sees it.  alone: it serves no other link.
    """

    number: int
    name: str
    guid: int = 0
    soft: str = ""
    shared: bool = False
    alone: bool = True

    def same_device(self, seen: Rdma) -> bool:
        """Whether both are one device: by number, or by GUID if its driver was loaded anew."""
        return self.number == seen.number or bool(self.guid and self.guid == seen.guid)


class Phy(NamedTuple):
    """The radio that a Wi-Fi link is on (linux/nl80211.h), and what the link is there.

    number: the kernel's for it in all namespaces.  type: the link's, NL80211_IFTYPE_*.
    mates: names of its other links.
    """

    number: int
    name: str
    type: int
    mates: tuple[str, ...] = ()


class Filter(NamedTuple):
    """A tc filter.  program: its id, of one that is a BPF program and nothing else; 0 otherwise.

    info: priority and protocol, as the kernel packs them.  skips: hardware 1, software 2.
    """

    parent: int
    handle: int
    info: int
    program: int = 0
    name: str = ""
    skips: int = 0
    classid: int = 0


class Identity(NamedTuple):
    """What a link is, whatever a pod renames or forges.

    ifindex: on the host, before it was lent; 0: there is no link, see userspace.
    inode: of its sysfs directory; kept over moves and renames, never that of a link made anew.
    perm_mac: the permanent address of hardware, or None.  bus: e.g. ``0000:3b:02.1``, or None.
    """

    ifindex: int
    inode: int
    perm_mac: str | None = None
    bus: str | None = None

    def same_link(self, seen: Identity) -> bool:
        """Whether both are one link: the same sysfs directory, or one piece of hardware.

        Hardware gets a new directory when its driver is bound anew; its permanent address on
        the same bus path is still it.  A virtual link made anew is another link.
        """
        if self.inode and self.inode == seen.inode:
            return True
        hardware = (self.bus, self.perm_mac)
        return None not in hardware and hardware == (seen.bus, seen.perm_mac)


class LinkSettings(NamedTuple):
    """What one RTM_NEWLINK message sets, along with the namespace.

    flags: only the bits of SETTABLE_FLAGS.  alias: "" for none.  sizes: (IFLA name, bytes or
    segments) pairs of the GSO and GRO limits.  mac is None for links without an address.
    token: the IPv6 address whose end is that of those made by router advertisements, "" for none.
    """

    name: str
    mtu: int
    mac: str | None
    alias: str
    txqlen: int
    group: int
    flags: int
    sizes: tuple[tuple[str, int], ...] = ()
    broadcast: str | None = None
    linkmode: int = 0
    protodown_reason: int = 0
    protodown: int = 0
    token: str = ""

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)


class Link(NamedTuple):
    """A link as one RTM_GETLINK and its sysfs directory tell it.

    kind: IFLA_INFO_KIND (``veth``), None for hardware.  max_mtu 0: no limit.
    master, lower: ifindex or 0; lower_elsewhere: the lower link is in another namespace.
    immutable: the kernel refuses to move it.  ethernet: its hardware type (ARPHRD_ETHER).
    xdp: (mode, program id) with mode skb, drv or hw.
    uppers: names of the links on top of it in its own namespace (masters included).
    data: what only its kind has; see kinddata.  opened: a TUN or TAP link looks as if a process
    has it open; True where that was not asked.  phy: of a Wi-Fi link only.
    """

    identity: Identity
    settings: LinkSettings
    altnames: tuple[str, ...] = ()
    kind: str | None = None
    driver: str | None = None
    min_mtu: int = 0
    max_mtu: int = 0
    master: int = 0
    lower: int = 0
    lower_elsewhere: bool = False
    immutable: bool = False
    loopback: bool = False
    ethernet: bool = False
    xdp: tuple[tuple[str, int], ...] = ()
    uppers: tuple[str, ...] = ()
    data: str = ""
    opened: bool = True
    phy: Phy | None = None

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def names(self) -> tuple[str, ...]:
        """Its name and its altnames."""
        return (self.settings.name, *self.altnames)


class VirtualFunction(NamedTuple):
    """An SR-IOV virtual function by its physical one, which alone may set these of it.

    pf: PCI address.  settings: those of them that were looked at; see vf.
    """

    pf: str
    number: int
    settings: tuple[tuple[str, str], ...]


class Snapshot(NamedTuple):
    """Everything of a link on the host that lending it can lose.

    sysctls: (path below /proc/sys/net with the link's name left out, value), as
    ``("ipv4/conf/rp_filter", "1")``.  tcx: ((attach type, program id), ...).
    forwarding: None when that was not looked at.  ethtool: (what, bytes in hexadecimal); see there.
    rdma: its RDMA devices.
    quiet: it was seen that nothing on it hears what it hears, in no namespace; what does so when it
    comes home was planted.
    vf: None unless something of it was asked for; then what that changes.
    filters: of its clsact, None unless programs are to be detached.
    """

    link: Link
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    tcx: tuple[tuple[str, int], ...] = ()
    qdiscs: tuple[Qdisc, ...] = ()
    forwarding: tuple[Forwarding, ...] | None = None
    ethtool: tuple[tuple[str, str], ...] = ()
    rdma: tuple[Rdma, ...] = ()
    quiet: bool = False
    vf: VirtualFunction | None = None
    filters: tuple[Filter, ...] | None = None


class Owner(NamedTuple):
    """Whose attachment it is.

    front: which front end made it.  network: the conflist's name, "" for NRI.
    sandbox: the CNI container id, which is also NRI's pod id.  ifname: CNI_IFNAME, "" for NRI.
    pod: ``namespace/name`` where known, for people to read.
    """

    front: Literal["cni", "nri"]
    network: str
    sandbox: str
    ifname: str
    pod: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.front, self.sandbox, self.ifname)

    def __str__(self) -> str:
        who = f"{self.sandbox}/{self.ifname}" if self.ifname else self.sandbox
        return f"{who} ({self.pod})" if self.pod else who


class NetnsRef(NamedTuple):
    """A namespace by what cannot be forged: its SO_NETNS_COOKIE; the path is only where to look."""

    path: str
    cookie: int


class Lent(NamedTuple):
    """One device of an attachment: what was asked, how it was at home, how it is in the pod.

    expected: the settings, addresses and routes that the pod's side was given.
    """

    request: DeviceRequest
    home: Snapshot
    expected: LinkSettings
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()


class Lease(NamedTuple):
    """What one device has of an IPAM plugin.

    ifname: the CNI_IFNAME under which the plugin keeps it; the device's name in the pod.
    gateways: (an address as CIDR, its gateway).  dns: a CNI result's ``dns`` as JSON, or "".
    """

    ifname: str
    gateways: tuple[tuple[str, str], ...] = ()
    dns: str = ""


class Granted(NamedTuple):
    """A lease, and the addresses (CIDR) and routes that the device gets with it."""

    lease: Lease
    addresses: tuple[str, ...] = ()
    routes: tuple[RouteRequest, ...] = ()


class Record(NamedTuple):
    """What the journal keeps of one attachment; the way back needs nothing else.

    complete: False from the first intent until every step was done.
    boot_id: of the boot whose kernel state it describes.
    host: the cookie of the namespace that the devices belong to.
    pinned_in: inode of the mount namespace in which the sandbox's is pinned; 0: it is not.
    leases: those that may be held; they may outlive the devices, and then the record does.
    ipam: the configuration of the plugin that has them, as JSON; "" when there are none.
    """

    owner: Owner
    netns: NetnsRef
    boot_id: str
    complete: bool
    devices: tuple[Lent, ...]
    host: int = 0
    pinned_in: int = 0
    leases: tuple[Lease, ...] = ()
    ipam: str = ""
