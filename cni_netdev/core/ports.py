"""What the engine needs from the system: the kernel and the journal.

The engine is logic over these two.  ``netlink``/``netns`` and ``journal`` are the real ones;
``tests/fakes.py`` holds the ones for tests, and both pass ``tests/contract``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from cni_netdev.core.model import (
        Address,
        Filter,
        Forwarding,
        Granted,
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
    from cni_netdev.core.tuning import Pairs, Tunable

Occupancy = Literal["empty", "occupied", "unknown"]
Key = tuple[str, str, str]


class Netns(Protocol):
    """An open network namespace.  All methods raise KernelRefused with the kernel's errno.

    Look-ups of a single link return None when it is not there.
    """

    @property
    def cookie(self) -> int:
        """SO_NETNS_COOKIE: unique for the life of the kernel."""

    def link(self, *, name: str = "", ifindex: int = 0) -> Link | None:
        """The link of this name or altname, or of this ifindex."""

    def links(self) -> tuple[Link, ...]:
        """Every link.  Never called on the host, but for the ``hwaddr`` selector."""

    def find(self, identity: Identity) -> Link | None:
        """The link of this identity, whatever its name and ifindex are by now."""

    def may_have_made(self, link: Link) -> bool:
        """Whether one of its links can have been made in it, as hardware never is.

        What is older than the namespace itself cannot.
        """

    def holds(self, identity: Identity) -> bool:
        """Whether the link is here now; asked without waiting for moves that are under way."""

    def numbers(self, name: str) -> tuple[int, int]:
        """(inode, ifindex) of the link with this very name, no altname; zeros when there is none.

        Asked like holds().
        """

    def by_bus(self, address: str) -> tuple[str, ...]:
        """Names of the links of a PCI device; empty when there is none here."""

    def has_bus(self, address: str) -> bool:
        """Whether a device is at this address of some bus, whatever its driver makes of it."""

    def driver_of_bus(self, address: str) -> str | None:
        """The driver of a PCI device; None when there is no such device or driver."""

    def user_space(self, address: str) -> Link | None:
        """The PCI network function that a driver in user space has; see userspace."""

    def by_kernel_path(self, path: str) -> tuple[str, ...]:
        """Names of the links in a directory under /sys/devices."""

    def virtual_function(self, address: str) -> VirtualFunction | None:
        """The VF with this PCI address; None when that is none.

        Without settings where its physical function has no link in this namespace.
        """

    def addresses(self, ifindex: int) -> tuple[Address, ...]:
        """Its permanent addresses, in the kernel's order."""

    def routes(self, ifindex: int) -> tuple[Route, ...]:
        """Routes through it that an administrator or daemon set (not the kernel's own)."""

    def neighbours(self, ifindex: int) -> tuple[Neighbour, ...]:
        """Its permanent neighbours and proxy entries."""

    def await_dad(self, ifindex: int, seconds: int, in_time: Callable[[], None]) -> tuple[str, ...]:
        """Wait until none of its addresses is tentative: duplicate address detection is over.

        Gives a sentence for each that another host has, or that still is after so many seconds.
        in_time: called now and then, to raise when the caller has no more time.
        """

    def rules(self) -> tuple[Rule, ...]:
        """The namespace's policy routing rules that we set."""

    def forwarding(self, ifindex: int) -> tuple[Forwarding, ...]:
        """What somebody set in its own table of MACs; not what was learnt or joined.

        A macvlan, or a VLAN with a MAC of its own, that is up sets that, in whatever namespace.
        """

    def overheard(self, link: Link) -> bool:
        """Whether something hangs on the link and hears what it hears, in whatever namespace.

        Macvlans and their like and bridges do; VLANs are not told of, nor what hangs on a link
        that is a macvlan itself.
        """

    def is_open(self, link: Link) -> bool:
        """Whether a process has this TUN or TAP link open.  To be asked while it is down."""

    def knows_others(self, home: Netns) -> bool:
        """Whether links of this namespace have come from or gone to others than ``home``."""

    def delete_stacked(self, ifindex: int, home: Netns) -> tuple[str, ...]:
        """Delete what hangs on the link with this ifindex in ``home``; gives the names.

        Looked for here and, unless ``home`` is this namespace, in those that this one knows.
        """

    def links_with(self, address: str) -> tuple[int, ...]:
        """The ifindexes of the links that have this address."""

    def sysctls(self, name: str) -> tuple[tuple[str, str], ...]:
        """Its per-link sysctls; see model.Snapshot."""

    def ethtool(self, name: str) -> tuple[tuple[str, str], ...]:
        """What ethtool sets of it; see model.Snapshot.  Works on the host's namespace only."""

    def tunables(self, name: str) -> tuple[Tunable, ...]:
        """What ethtool could set of it, by name; see tuning."""

    def rdma(self, link: Link) -> tuple[Rdma, ...]:
        """The RDMA devices over the link that this namespace sees."""

    def find_rdma(self, device: Rdma) -> Rdma | None:
        """That RDMA device if this namespace sees it, whatever it is called by now."""

    def tcx(self, ifindex: int) -> tuple[tuple[str, int], ...]:
        """Its TCX programs; see model.Snapshot."""

    def filters(self, ifindex: int) -> tuple[Filter, ...]:
        """Those of its clsact; what is no program or more than one has none."""

    def add_filter(self, ifindex: int, value: Filter) -> None: ...

    def qdiscs(self, ifindex: int) -> tuple[Qdisc, ...]:
        """Those at its root and ingress that are not the kernel's default."""

    def set_qdisc(self, ifindex: int, discipline: Qdisc, *, present: bool) -> None: ...

    def move(self, ifindex: int, target: Netns, before: LinkSettings, after: LinkSettings) -> None:
        """One message: into ``target``, with what differs.  It may have moved even on error.

        A Wi-Fi link moves with its phy and all that is on it, and is set afterwards.
        """

    def change(self, ifindex: int, before: LinkSettings, after: LinkSettings) -> None:
        """One message with what differs."""

    def set_kind_data(self, ifindex: int, kind: str, before: str, after: str) -> None:
        """One message with what differs; see kinddata."""

    def set_master(self, ifindex: int, master: int) -> None: ...

    def set_altname(self, ifindex: int, altname: str, *, present: bool) -> None: ...

    def set_address(self, ifindex: int, address: Address, *, present: bool) -> None: ...

    def set_route(self, ifindex: int, route: Route, *, present: bool, append: bool = False) -> None:
        """append: beside another one to the same destination, as a further leg or choice."""

    def set_neighbour(self, ifindex: int, neighbour: Neighbour, *, present: bool) -> None:
        """present: in place of what is there for this address."""

    def set_rule(self, rule: Rule, *, present: bool) -> None:
        """Not present: the first that has at least what this one says is taken away."""

    def set_vrf(self, vrf: Vrf, *, present: bool) -> None:
        """present: make it, if there is none.  Else delete it, if we made it and it has no port.

        Raises KernelRefused with EEXIST when the name is another link's, or the table another.
        """

    def set_forwarding(self, ifindex: int, entry: Forwarding, *, present: bool) -> None: ...

    def set_sysctl(self, name: str, key: str, value: str) -> None: ...

    def set_ethtool(self, name: str, key: str, value: str) -> None: ...

    def tune(self, name: str, wanted: Pairs) -> None:
        """Also refuses what the driver did not do; see tuning."""

    def wlans(self, phy: int) -> tuple[str, ...] | None:
        """Names of the links on the phy of this number; None when that is not here."""

    def make_wlan(self, phy: Phy) -> Link | None:
        """A link of its type on a phy, under any name; the only one has the phy's own address."""

    def remove_wlan(self, name: str) -> None:
        """A Wi-Fi link of its phy; nothing happens when it is not there."""

    def set_wlan_type(self, ifindex: int, type_: int) -> None:
        """Of a Wi-Fi link that is down."""

    def rename_phy(self, number: int, before: str, after: str) -> None: ...

    def move_rdma(self, number: int, name: str, target: Netns) -> None:
        """Refused with EOPNOTSUPP in shared mode, and where its driver cannot."""

    def rename_rdma(self, number: int, before: str, after: str) -> None: ...

    def add_rdma(self, link: str, name: str, soft: str) -> None:
        """An RDMA device in software over the link of this name; the next move ends it."""

    def set_virtual_function(self, pf: str, number: int, before: Pairs, after: Pairs) -> None:
        """What differs, in a message for each of vf.GROUPS; refuses what the driver did not do."""

    def detach_xdp(self, ifindex: int, mode: str) -> None: ...

    def attach_xdp(self, ifindex: int, mode: str, program: int) -> None: ...

    def detach_tcx(self, ifindex: int, attach: str, program: int) -> None: ...

    def attach_tcx(self, ifindex: int, attach: str, program: int, before: int) -> None:
        """before: another program there, or 0: last."""

    def on_links(self, ifindex: int) -> tuple[int, ...]:
        """Those of its programs that hang on a bpf_link."""

    def hold_program(self, inode: int, program: int) -> None:
        """Keep it loaded for the link with this inode; see bpfpins."""

    def let_go_programs(self, inode: int) -> None: ...

    def close(self) -> None: ...


class Kernel(Protocol):
    """Namespaces and what tells whether they live."""

    @property
    def host(self) -> Netns:
        """The namespace that the process runs in."""

    @property
    def initial_netns(self) -> bool:
        """Whether the host's namespace is the initial one, where hardware returns to by itself."""

    @property
    def boot_id(self) -> str: ...

    def open(self, path: str) -> Netns:
        """The namespace at a path.  Raises NetnsError."""

    def search(self, cookie: int) -> Netns | None:
        """A namespace that has no path any more, by the processes in it (scans /proc)."""

    def await_hardware(self, identity: Identity) -> Link | None:
        """The link on the host once the kernel has taken its dead namespace apart.

        Waits a few seconds at the most: hardware in it is in sight of nobody until then.
        """

    def holder(self, identity: Identity, *, thorough: bool = True) -> Netns | None:
        """Whichever namespace that can be found has the link (scans /proc): the last resort.

        thorough: those too that only a descriptor or socket keeps.
        """

    def rdma_holder(self, device: Rdma) -> Netns | None:
        """Whichever namespace sees the RDMA device; None when that is the host, or none.

        Scans /proc, and waits a moment: the kernel returns it from a dead namespace.
        """

    def hunt(self, link: Link) -> tuple[str, ...]:
        """Delete what hangs on this link of the host, in every namespace that can be found.

        Scans /proc, and waits a moment for namespaces that are dying; gives the names.
        """

    def cookie_at(self, path: str) -> int:
        """The cookie of the namespace at a path, or 0 when there is none; cheaper than open.

        Raises NetnsError when that cannot be told.
        """

    def occupancy(self, cookie: int) -> Occupancy:
        """Whether processes are inside; ``unknown`` when the scan of /proc was refused anything."""


class Leases(Protocol):
    """Who gives devices their addresses, and takes them back: an IPAM plugin."""

    @property
    def ipam(self) -> str:
        """Its configuration as JSON, to be kept in the record."""

    @property
    def needs_the_link(self) -> bool:
        """Whether it asks through the link itself, which must be in the pod by then."""

    def lease(self, ifname: str) -> Granted:
        """Raises LeaseRefused; then it may have given something all the same."""

    def release(self, record: Record) -> dict[str, str]:
        """Give back what may be held by it, as often as one likes; what went wrong, by ifname."""


class Journal(Protocol):
    """Records, locks and pins in the state directory.  Raises StateError and LockTimeout."""

    def has(self, key: Key) -> bool:
        """Whether there is a record, readable or not; changes nothing, not even the directory.

        Raises StateError when that cannot be told.
        """

    def read(self, key: Key) -> Record | None:
        """The record of an attachment; None when there is none.  Raises RecordUnreadable."""

    def write(self, record: Record) -> None:
        """Atomically, in place of what was there."""

    def forget(self, key: Key) -> None:
        """Remove the record; nothing happens when there is none."""

    def records(self) -> tuple[Record, ...]:
        """All that can be read, in a stable order."""

    def unreadable(self) -> tuple[tuple[str, str], ...]:
        """(file name, reason) of what cannot."""

    def set_aside(self, key: Key) -> str | None:
        """Keep an unreadable record for people under another name; returns its new path."""

    def orphans(self) -> tuple[Key, ...]:
        """The attachments that have a pin here, but no record, readable or not.

        A record stands before its pin is made and until that is dropped: it was taken away.
        """

    def sweep(self) -> None:
        """Clear temporary files and locks of killed processes, and what is nobody's pin."""

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Hold the lock of this name.  Raises LockTimeout: after the limit, or at once."""

    @property
    def mount_namespace(self) -> int:
        """The inode of the mount namespace in which pins are made and seen."""

    def pin(self, key: Key, netns: Netns) -> None:
        """Keep the namespace alive for as long as this record stands."""

    def pinned(self, key: Key) -> str | None:
        """The path of the record's pin, if it is there."""

    def pinned_elsewhere(self, key: Key, mount_namespace: int) -> bool:
        """Whether its pin may be in that other mount namespace; when in doubt, yes."""

    def unpin(self, key: Key) -> None:
        """Let it go; nothing happens when there is none."""

    def probe(self) -> None:
        """Raises StateError when the directory cannot be made or written."""
