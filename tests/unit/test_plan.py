"""Plans are values: each step's inverse undoes it, and settling twice changes nothing."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core import plan
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.execute import perform
from cni_netdev.core.model import (
    IFF_UP,
    Address,
    DeviceRequest,
    LinkSettings,
    Neighbour,
    Phy,
    Route,
    RouteRequest,
    Rule,
    Selector,
    Snapshot,
    Vrf,
)
from cni_netdev.core.steps import (
    Altname,
    Change,
    Enslave,
    Master,
    Move,
    NamePhy,
    NameRdma,
    SetAddress,
    SetNeighbour,
    SetRoute,
    SetRule,
    SetVrf,
    SetWlanType,
    Sysctl,
    Xdp,
)
from tests.fakes import FakeKernel, FakeLink, World

if TYPE_CHECKING:
    from cni_netdev.core.steps import Step

_NAMES = st.sampled_from(("nic1", "net1", "eth9"))
_SETTINGS = st.builds(
    LinkSettings,
    name=_NAMES,
    mtu=st.sampled_from((1300, 1500)),
    mac=st.sampled_from(("02:00:00:00:00:01", "02:00:00:00:00:02")),
    alias=st.sampled_from(("", "x")),
    txqlen=st.integers(0, 3),
    group=st.integers(0, 3),
    flags=st.sampled_from((0x1000, 0x1000 | IFF_UP, 0x1100 | IFF_UP)),
)
_ADDRESSES = st.sampled_from(
    (
        Address(2, "10.0.0.1", 24),
        Address(2, "10.0.0.2", 24),
        Address(2, "10.0.1.1", 32),
        Address(10, "fd00::1", 64),
        Address(10, "fd00::2", 64),
    )
)
_ROUTES = st.sampled_from((Route(2, "10.9.0.0/16"), Route(2, "10.8.0.0/16", gateway="10.9.0.1")))
_NEIGHBOURS = st.sampled_from(
    (Neighbour(2, "10.0.0.9", None, 128, 0), Neighbour(2, "10.0.0.8", None, 0, 8))
)
_ALTNAMES = st.sampled_from(("alt1", "alt2", "planted"))


@st.composite
def states(draw: st.DrawFn) -> tuple[World, FakeLink]:
    """A link on the host in any state that could be seen there."""
    world = World()
    settings = draw(_SETTINGS)
    fake = world.add_link(settings.name, settings=settings)
    fake.link = fake.link._replace(
        altnames=tuple(draw(st.lists(_ALTNAMES, unique=True))),
        xdp=(("skb", 7),) if draw(st.booleans()) else (),
        phy=Phy(0, draw(st.sampled_from(("phy0", "mine"))), draw(st.sampled_from((2, 6)))),
    )
    world.add_rdma(fake, draw(st.sampled_from(("mlx5_0", "mine"))))
    if draw(st.booleans()):
        world.add_rdma(fake, "rxe0", "rxe")
    fake.addresses = _as_the_kernel_lists(draw(st.lists(_ADDRESSES, unique=True)))
    fake.routes = draw(st.lists(_ROUTES, unique=True)) if settings.up else []
    fake.neighbours = draw(st.lists(_NEIGHBOURS, unique=True))
    fake.sysctls["ipv4/conf/rp_filter"] = draw(st.sampled_from("012"))
    fake.tcx = [("ingress", 8)] if draw(st.booleans()) else []
    return world, fake


def _as_the_kernel_lists(addresses: list[Address]) -> list[Address]:
    return sorted(addresses, key=lambda each: each.family)


def look(world: World, fake: FakeLink) -> Snapshot:
    host = FakeKernel(world).host
    return Snapshot(
        link=fake.link,
        addresses=host.addresses(fake.ifindex),
        routes=host.routes(fake.ifindex),
        neighbours=host.neighbours(fake.ifindex),
        sysctls=host.sysctls(fake.link.name),
        tcx=host.tcx(fake.ifindex),
        rdma=host.rdma(fake.link),
    )


def names(now: Snapshot) -> set[tuple[str, str]]:
    return {(each.name, each.soft) for each in now.rdma}


def do(world: World, fake: FakeLink, step: Step, pod: int = 0) -> None:
    """On whichever side the step says."""
    kernel = FakeKernel(world)
    host, other = kernel.host, type(kernel.host)(world, pod or world.host)
    here, target = (host, other) if getattr(step, "place", "host") == "host" else (other, host)
    perform(step, here, target, fake.ifindex)


def do_if_missing(world: World, fake: FakeLink, step: Step) -> None:
    """As settle does: what is there already is as good as added."""
    try:
        do(world, fake, step)
    except KernelRefused as error:
        assert error.errno == errno.EEXIST  # noqa: PT017 - any other is a failure


@given(states(), st.data())
def test_the_inverse_of_a_step_undoes_it(
    state: tuple[World, FakeLink], data: st.DataObject
) -> None:
    world, fake = state
    pod = world.add_namespace("pod")
    world.add_link("master9")
    settings = fake.link.settings
    other = data.draw(_SETTINGS)
    free = [each for each in ("alt1", "alt2") if each not in fake.link.altnames]
    missing = (Address(2, "10.7.0.1", 24), Address(10, "fd07::1", 64))
    candidates: list[Any] = [
        Change("host", settings, other),
        Sysctl(settings.name, "ipv4/conf/rp_filter", fake.sysctls["ipv4/conf/rp_filter"], "1"),
        Master("host", fake.link.master, 3),
        Xdp("host", "drv", 0, 9),
        NamePhy("host", 0, fake.link.phy.name if fake.link.phy else "", "phy9"),
        NameRdma("host", world.rdma[0].device.number, world.rdma[0].device.name, "mlx5_9"),
        *(Altname("host", each, True) for each in free),
        *(SetAddress("host", each, True) for each in missing),
        *([] if fake.link.master else [Enslave("host", "", "master9")]),
        SetVrf("host", Vrf("red", 10), True),
        SetRule("host", Rule(2, 7, 5, src="10.0.0.0/8"), True),
        SetNeighbour("host", Neighbour(2, "10.0.0.7", "02:00:00:00:00:07", 128, 0), True),
    ]
    if settings.up:
        candidates.append(SetRoute("host", Route(2, "10.6.0.0/16"), True))
    else:
        candidates.append(SetWlanType("host", fake.link.phy.type if fake.link.phy else 0, 3))
    bare = not (fake.addresses or fake.routes or fake.neighbours)
    if bare and fake.sysctls["ipv4/conf/rp_filter"] == "0":
        candidates.append(Move("host", settings, other))
    step = data.draw(st.sampled_from(candidates))
    before, devices = fake.everything(), look(world, fake).rdma
    do(world, fake, step, pod)
    do(world, fake, step.inverse(), pod)
    assert fake.everything() == before
    assert not any(world.rules.values())
    assert look(world, fake).rdma == devices or isinstance(step, Move)
    assert step.inverse().inverse() == step


@given(states(), states())
def test_settling_gives_the_snapshot_from_any_state_and_then_rests(
    home_state: tuple[World, FakeLink], now_state: tuple[World, FakeLink]
) -> None:
    """What the host itself added meanwhile (addresses, routes, neighbours) is left alone."""
    home = look(*home_state)
    world, fake = now_state
    for step in plan.settle(home, look(world, fake), home.link.name):
        do_if_missing(world, fake, step)
    now = look(world, fake)
    assert now.link.settings == home.link.settings
    assert set(now.link.altnames) == set(home.link.altnames)
    assert now.sysctls == home.sysctls
    assert set(now.addresses) >= set(home.addresses)
    assert set(now.neighbours) >= set(home.neighbours)
    assert set(now.tcx) <= set(home.tcx)
    assert now.link.xdp == home.link.xdp
    assert now.link.phy == home.link.phy
    assert names(now) >= names(home)
    assert plan.settle(home, now, home.link.name) == []


@given(states())
def test_from_bare_every_address_comes_back_in_its_order(state: tuple[World, FakeLink]) -> None:
    world, fake = state
    home = look(world, fake)
    fake.addresses, fake.routes, fake.neighbours = [], [], []
    for step in plan.settle(home, look(world, fake), home.link.name):
        do(world, fake, step)
    assert look(world, fake).addresses == home.addresses
    assert set(fake.routes) == set(home.routes)


def test_an_attach_plan_moves_all_before_it_sets_addresses_and_routes_last() -> None:
    world = World()
    devices = []
    for name in ("a", "b"):
        link = world.add_link(name)
        wish = DeviceRequest(
            Selector("name", name),
            new_name=f"{name}1",
            addresses=("10.0.0.1/24", "fd00::1/64"),
            routes=(RouteRequest("10.9.0.0/16", gw="10.8.0.1"), RouteRequest("10.8.0.0/16")),
        )
        devices.append(plan.lend(wish, look(world, link)))
    steps = plan.attach(tuple(devices), (frozenset(["alt"]), frozenset()))
    order = [(position, type(step).__name__) for position, step in steps]
    assert order[:3] == [(0, "Altname"), (0, "Move"), (1, "Move")]
    assert [name for _, name in order[3:]] == ["SetAddress"] * 4 + ["SetRoute"] * 4
    routes = [step.route for _, step in steps if isinstance(step, SetRoute)]
    assert [each.gateway for each in routes] == [None, None, "10.8.0.1", "10.8.0.1"]
    assert [each.scope for each in routes] == [253, 253, 0, 0]


def test_addresses_get_the_usual_broadcast() -> None:
    assert plan.address_of("192.168.2.2/24").broadcast == "192.168.2.255"
    assert plan.address_of("10.0.0.1/31").broadcast is None
    assert plan.address_of("10.0.0.1/32").broadcast is None
    assert plan.address_of("fd00::1/64").broadcast is None


def test_leaving_a_pod_drops_what_was_planted_and_what_would_clash() -> None:
    world = World()
    fake = world.add_link("nic1", altnames=("mine", "taken"))
    lent = plan.lend(DeviceRequest(Selector("name", "nic1"), new_name="net1"), look(world, fake))
    seen = fake.link._replace(
        altnames=("mine", "taken", "planted"), settings=fake.link.settings._replace(name="evil")
    )
    steps = plan.leave_pod(lent, seen, "nic1", frozenset(["taken"]))
    assert {step.name for step in steps if isinstance(step, Altname)} == {"planted", "taken"}
    move = steps[-1]
    assert isinstance(move, Move)
    assert (move.before, move.after) == (seen.settings, fake.link.settings)
