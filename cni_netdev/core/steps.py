"""Steps: one change each, with its inverse beside it; values that can be printed and compared.

``place`` is where the link is when the step is done.
"""

from __future__ import annotations

from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Literal

    from cni_netdev.core.model import (
        Address,
        Filter,
        Forwarding,
        LinkSettings,
        Neighbour,
        Qdisc,
        Route,
        Rule,
        Vrf,
    )

    Place = Literal["host", "pod"]


class Move(NamedTuple):
    """Into the other namespace, with other settings, in one message.  place: where it starts."""

    place: Place
    before: LinkSettings
    after: LinkSettings

    def inverse(self) -> Move:
        return Move("pod" if self.place == "host" else "host", self.after, self.before)


class Change(NamedTuple):
    place: Place
    before: LinkSettings
    after: LinkSettings

    def inverse(self) -> Change:
        return Change(self.place, self.after, self.before)


class SetKindData(NamedTuple):
    """What only links of this kind have; see kinddata."""

    place: Place
    kind: str
    before: str
    after: str

    def inverse(self) -> SetKindData:
        return self._replace(before=self.after, after=self.before)


class Master(NamedTuple):
    """Enslave to the link with ifindex ``after``; 0 is none."""

    place: Place
    before: int
    after: int

    def inverse(self) -> Master:
        return Master(self.place, self.after, self.before)


class Altname(NamedTuple):
    place: Place
    name: str
    present: bool

    def inverse(self) -> Altname:
        return self._replace(present=not self.present)


class SetAddress(NamedTuple):
    place: Place
    address: Address
    present: bool

    def inverse(self) -> SetAddress:
        return self._replace(present=not self.present)


class SetRoute(NamedTuple):
    """append: beside another route to the same destination; see ports.Netns.set_route."""

    place: Place
    route: Route
    present: bool
    append: bool = False

    def inverse(self) -> SetRoute:
        return self._replace(present=not self.present)


class SetNeighbour(NamedTuple):
    place: Place
    neighbour: Neighbour
    present: bool

    def inverse(self) -> SetNeighbour:
        return self._replace(present=not self.present)


class SetRule(NamedTuple):
    """Of the namespace, not of the link."""

    place: Place
    rule: Rule
    present: bool

    def inverse(self) -> SetRule:
        return self._replace(present=not self.present)


class SetVrf(NamedTuple):
    """Of the namespace: one that is there already, of the same table, is as good."""

    place: Place
    vrf: Vrf
    present: bool

    def inverse(self) -> SetVrf:
        return self._replace(present=not self.present)


class Enslave(NamedTuple):
    """To a master that is there by then; "" is none."""

    place: Place
    before: str
    after: str

    def inverse(self) -> Enslave:
        return self._replace(before=self.after, after=self.before)


class SetForwarding(NamedTuple):
    place: Place
    entry: Forwarding
    present: bool

    def inverse(self) -> SetForwarding:
        return self._replace(present=not self.present)


class SetQdisc(NamedTuple):
    place: Place
    qdisc: Qdisc
    present: bool

    def inverse(self) -> SetQdisc:
        return self._replace(present=not self.present)


class Sysctl(NamedTuple):
    """Of the link where it is, and is called ``link``."""

    link: str
    key: str
    before: str
    after: str

    def inverse(self) -> Sysctl:
        return self._replace(before=self.after, after=self.before)


class SetEthtool(NamedTuple):
    """Of the link on the host, where it is called ``link``."""

    link: str
    key: str
    before: str
    after: str

    def inverse(self) -> SetEthtool:
        return self._replace(before=self.after, after=self.before)


class Tune(NamedTuple):
    """What ethtool sets, by name (see tuning), before the link leaves; settle is its inverse."""

    link: str
    wanted: tuple[tuple[str, str], ...]


class SetVf(NamedTuple):
    """Of the virtual function with this number; ``pf`` is the PCI address of its physical one."""

    pf: str
    number: int
    before: tuple[tuple[str, str], ...]
    after: tuple[tuple[str, str], ...]

    def inverse(self) -> SetVf:
        return self._replace(before=self.after, after=self.before)


class Xdp(NamedTuple):
    """Program ids; 0 is none.  Putting one back needs it to be still loaded."""

    place: Place
    mode: str
    before: int
    after: int

    def inverse(self) -> Xdp:
        return self._replace(before=self.after, after=self.before)


class RemoveTcx(NamedTuple):
    """Take away a TCX program."""

    place: Place
    attach: str
    program: int


class RemoveWlan(NamedTuple):
    """Take away a Wi-Fi link that a pod made; has no inverse and needs none."""

    place: Place
    name: str


class SetWlanType(NamedTuple):
    place: Place
    before: int
    after: int

    def inverse(self) -> SetWlanType:
        return self._replace(before=self.after, after=self.before)


class NamePhy(NamedTuple):
    place: Place
    number: int
    before: str
    after: str

    def inverse(self) -> NamePhy:
        return self._replace(before=self.after, after=self.before)


class MoveRdma(NamedTuple):
    """An RDMA device into the other namespace.  needed: else it may be refused by its driver."""

    place: Place
    number: int
    name: str
    needed: bool = True

    def inverse(self) -> MoveRdma:
        return self._replace(place="pod" if self.place == "host" else "host")


class NameRdma(NamedTuple):
    place: Place
    number: int
    before: str
    after: str

    def inverse(self) -> NameRdma:
        return self._replace(before=self.after, after=self.before)


class AddRdma(NamedTuple):
    """An RDMA device in software over the link called ``link``; it ends when that moves."""

    place: Place
    link: str
    name: str
    soft: str


class AddTcx(NamedTuple):
    """Put a TCX program back before ``before``, or last if that is 0; it must still be loaded."""

    place: Place
    attach: str
    program: int
    before: int = 0

    def inverse(self) -> RemoveTcx:
        return RemoveTcx(self.place, self.attach, self.program)


class AddFilter(NamedTuple):
    """Put a tc filter back that is a program, which must still be loaded."""

    place: Place
    filter: Filter


class HoldProgram(NamedTuple):
    """Keep a program loaded that the link with this inode is to lose; settled links let go."""

    inode: int
    program: int


Step = (
    Move
    | Change
    | SetKindData
    | Master
    | Altname
    | SetAddress
    | SetRoute
    | SetNeighbour
    | SetRule
    | SetVrf
    | Enslave
    | SetForwarding
    | SetQdisc
    | Sysctl
    | SetEthtool
    | Tune
    | SetVf
    | Xdp
    | RemoveTcx
    | MoveRdma
    | NameRdma
    | AddRdma
    | RemoveWlan
    | SetWlanType
    | NamePhy
    | AddTcx
    | HoldProgram
    | AddFilter
)
