"""The links of the soak's node: of every kind that this kernel has, each configured its own way.

A link's mark is a queue length that no other link has and nothing in the soak changes: by it the
link is known wherever it is and whatever it is called there, without our own netlink code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.wait import until

if TYPE_CHECKING:
    from tests.host import Host

_FIRST_MARK = 2001
_MAKE = {
    "veth": ("link add {name} type veth peer name {name}p", "link set {name}p up"),
    "ifb": ("link add {name} type ifb",),
    "macvlan": ("link add {name} link below type macvlan mode bridge",),
    "tap": ("tuntap add dev {name} mode tap",),
    "vxlan": ("link add {name} type vxlan id {number} local 127.0.0.1 dstport 4789",),
}
# In turns, so that each kind has each of them.
_SETTINGS = (
    (
        "link property add dev {name} altname {name}alt",
        "link set {name} mtu 1400 group 7 up",
        "addr add 10.20.{number}.1/24 dev {name}",
        "addr add 10.20.{number}.2/24 dev {name}",
        "-6 addr add fd20:{number}::1/64 dev {name} nodad",
        "route add 172.20.{number}.0/24 via 10.20.{number}.254 metric 9 proto 99",
        "-6 route add fd21:{number}::/64 dev {name} metric 11",
    ),
    (
        "link set {name} alias lab-{name} promisc on",
        "link set {name} up",
        "addr add 10.20.{number}.1/32 dev {name}",
        "neigh add 10.20.{number}.9 lladdr 02:00:00:00:00:09 dev {name}",
        "route add 172.20.{number}.0/24 dev {name} table 77",
    ),
    ("link set {name} alias down-{name} mtu 1300 allmulticast on",),
)
_SYSCTLS = {"ipv4/conf/{name}/rp_filter": "2", "ipv6/conf/{name}/accept_ra": "0"}


class Link(NamedTuple):
    """One that could be lent, and how it is told apart."""

    name: str
    kind: str
    number: int

    @property
    def mark(self) -> int:
        """Its txqueuelen."""
        return _FIRST_MARK + self.number

    @property
    def altname(self) -> str | None:
        """A second name that it has on the host, if it has one."""
        return f"{self.name}alt" if self.rich or self.number % len(_SETTINGS) == 0 else None

    @property
    def rich(self) -> bool:
        """Whether it has all that an administrator may have set (``Host.configured``)."""
        return self.kind == "veth"


def _numbered(*groups: tuple[str, str, int]) -> tuple[Link, ...]:
    named = [(f"{name}{n}", kind) for name, kind, count in groups for n in range(count)]
    return tuple(Link(name, kind, number) for number, (name, kind) in enumerate(named, 1))


LENDABLE = _numbered(
    ("nic", "veth", 8),
    ("soft", "ifb", 3),
    ("mv", "macvlan", 3),
    ("tap", "tap", 3),
    ("vx", "vxlan", 3),
)
DENIED = "secret0"  # by a rule of POLICY
GUARDED = ("uplink0", "port0", "below", "bridge0")
MISSING = "nope0"
WITHOUT_MAC = "soft0"  # an ifb, whose driver sets none
POLICY = {"rules": [{"deny": {"names": ["secret*"]}}]}
BY_NAME = {link.name: link for link in LENDABLE}
BY_MARK = {link.mark: link.name for link in LENDABLE}


def make(host: Host) -> None:
    """All of them, settled: no address or carrier is still to come when this returns."""
    _make_what_stays(host)
    for link in LENDABLE:
        _make(host, link)
    seen: list[object] = []

    def settled() -> bool:
        seen.append(host.json("addr"))
        return len(seen) > 1 and seen[-1] == seen[-2] and _every_carrier_has_its_address(seen[-1])

    until(settled, lambda: seen[-1])


def _every_carrier_has_its_address(links: object) -> bool:
    """The kernel makes a link-local one when the carrier comes."""
    assert isinstance(links, list)
    return all(
        any(each["scope"] == "link" for each in link["addr_info"])
        for link in links
        if "LOWER_UP" in link["flags"] and "NOARP" not in link["flags"] and link["ifname"] != "lo"
    )


def _make_what_stays(host: Host) -> None:
    for arguments in (
        "link add below type veth peer name belowp",
        "link set below up",
        "link set belowp up",
        f"link add {DENIED} type ifb",
        "link add uplink0 type veth peer name uplink0p",
        "link set uplink0 up",
        "addr add 10.30.0.1/24 dev uplink0",
        "route add default via 10.30.0.254 dev uplink0",
        "link add bridge0 type bridge",
        "link add port0 type veth peer name port0p",
        "link set port0 master bridge0 up",
    ):
        host.ip(arguments)


def _make(host: Host, link: Link) -> None:
    known = {"name": link.name, "number": link.number}
    if link.rich:
        host.configured(link.name, link.number)
    else:
        for command in (*_MAKE[link.kind], *_SETTINGS[link.number % len(_SETTINGS)]):
            host.ip(command.format(**known))
        for key, value in _SYSCTLS.items():
            Path("/proc/sys/net", key.format(**known)).write_text(value)
    host.ip(f"link set {link.name} txqueuelen {link.mark}")
