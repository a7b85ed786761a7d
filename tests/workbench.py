"""A host with two configured links and two pods, over the fakes: where the engine is tested."""

from __future__ import annotations

from typing import NamedTuple

from cni_netdev.core.engine import Injector
from cni_netdev.core.model import (
    IFF_UP,
    Address,
    DeviceRequest,
    LinkSettings,
    Neighbour,
    Owner,
    Qdisc,
    Route,
    RouteRequest,
    Selector,
)
from cni_netdev.core.policy import Pod, parse_policy
from tests.fakes import FakeJournal, FakeKernel, FakeLink, World
from tests.oracle import Scene

OWNER = Owner("cni", "net", "c1", "eth0")
OTHER = Owner("cni", "net", "c2", "eth0")
PATH, OTHER_PATH = "/run/netns/pod", "/run/netns/other"
NO_POLICY = parse_policy({}, "policy")
POD = Pod(None, None, None)


class Bench(NamedTuple):
    """A host with two configured links, and two pods."""

    world: World
    kernel: FakeKernel
    journal: FakeJournal
    engine: Injector
    first: FakeLink
    second: FakeLink

    def attach(self, *requests: DeviceRequest, owner: Owner = OWNER, path: str = PATH) -> None:
        self.engine.attach(owner, path, requests, NO_POLICY, POD)

    def at_home(self) -> tuple[object, ...]:
        """Everything of both links, which must be on the host."""
        for fake in (self.first, self.second):
            assert fake.ifindex in self.world.namespaces[self.world.host]
        return (self.first.everything(), self.second.everything())

    def scene(self) -> Scene:
        """What there is, for the oracle; pods by the cookies of their namespaces."""
        home: dict[str, object] = {}
        inside: dict[str, str] = {}
        for name, fake in (("eth1", self.first), ("eth2", self.second)):
            where = self.world.where(fake.link.identity.inode)
            if where is not None and where[0] == self.world.host:
                home[name] = fake.everything()
            elif where is not None:
                inside[name] = str(where[0])
        records = self.journal.kept.values()
        named = {
            lent.home.link.name: str(record.netns.cookie)
            for record in records
            if record.complete
            for lent in record.devices
        }
        return Scene(home, inside, named, self._litter())

    def _litter(self) -> list[str]:
        kept, paths = self.journal.kept, self.world.paths
        of_pods = {cookie for path, cookie in paths.items() if not path.startswith("pins/")}
        return [
            *(f"lock {each}" for each in self.journal.locks),
            *(f"half a record of {each.owner}" for each in kept.values() if not each.complete),
            *(f"pin {each}" for each in self.journal.pins if each not in kept),
            *(f"namespace {each}" for each in self.world.namespaces if each not in of_pods),
        ]

    def nothing_left(self) -> None:
        assert not self.journal.kept
        assert not self.journal.pins
        assert not self.journal.locks


def configured(world: World, name: str, number: int) -> FakeLink:
    mac = f"02:00:00:00:01:{number:02x}"
    settings = LinkSettings(name, 1400, mac, "uplink B", 500, 3, 0x1000 | IFF_UP | 0x100)
    fake = world.add_link(name, settings=settings, altnames=(f"{name}-alt",))
    fake.addresses = [
        Address(2, f"10.0.{number}.1", 24, label=f"{name}:x"),
        Address(2, f"10.0.{number}.2", 24),
        Address(10, f"fd00:{number}::2", 64),
        Address(10, f"fd00:{number}::1", 64),
    ]
    fake.routes = [Route(2, f"172.{number}.0.0/16", gateway=f"10.0.{number}.254", priority=5)]
    fake.neighbours = [Neighbour(2, f"10.0.{number}.9", "02:00:00:00:00:09", 0x80, 0)]
    fake.sysctls["ipv4/conf/rp_filter"] = "2"
    fake.qdiscs = [Qdisc("fq", 0x80010000, 0xFFFFFFFF, "")]
    return fake


def new_bench() -> Bench:
    world = World()
    world.add_namespace(PATH)
    world.add_namespace(OTHER_PATH)
    kernel, journal = FakeKernel(world), FakeJournal(world)
    first, second = configured(world, "eth1", 1), configured(world, "eth2", 2)
    return Bench(world, kernel, journal, Injector(kernel, journal), first, second)


def request(name: str = "eth1", **wishes: object) -> DeviceRequest:
    plain = DeviceRequest(Selector("name", name), where="devices[0]")
    return plain._replace(**wishes)  # type: ignore[arg-type]


FULL = request(
    new_name="net1",
    addresses=("192.168.2.2/24", "fd99::2/64"),
    mtu=1300,
    mac="02:aa:00:00:00:01",
    routes=(RouteRequest("10.9.0.0/16", gw="192.168.2.1"),),
)


def tamper(fake: FakeLink) -> None:
    """All that a pod with CAP_NET_ADMIN can do to a link."""
    settings = fake.link.settings._replace(
        name="mine", mtu=9000, mac="02:bb:00:00:00:01", alias="eth0", flags=0x200, txqlen=1, group=9
    )
    fake.link = fake.link._replace(settings=settings, altnames=("evil", "eth2"), xdp=(("skb", 7),))
    fake.tcx = [("ingress", 8)]
    fake.addresses = [Address(2, "6.6.6.6", 32)]
