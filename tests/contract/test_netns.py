"""What the engine relies on, held against the real kernel and against the fake one."""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cni_netdev.core.errors import KernelRefused, NetnsError
from cni_netdev.core.kernel import SystemKernel
from cni_netdev.core.model import IFF_UP, Address, Forwarding, Link, Neighbour, Rdma, Route, Rule
from cni_netdev.core.tuning import unmet
from tests.fakes import FakeKernel, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_netdev.core.ports import Kernel, Netns
    from tests.host import Host

pytestmark = pytest.mark.kernel


class Stage(NamedTuple):
    """A host and a pod, real or not.

    older: an ifb on the host, made before the pod.
    add: a veth on the host; occupy: a link in the pod; stack: a macvlan on that veth, up in the
    pod, which gives its MAC.
    """

    kernel: Kernel
    host: Netns
    pod: Netns
    path: str
    older: Link
    add: Callable[[str], Link]
    occupy: Callable[[str], object]
    stack: Callable[[Link], str]


def real(host: Host) -> Stage:
    host.ip("link add older type ifb")
    kernel, pod = SystemKernel(), host.pod()

    def add(name: str) -> Link:
        host.veth(name)
        return there(kernel.host, name)

    def occupy(name: str) -> object:
        return pod.ip(f"link add {name} type ifb")

    def stack(link: Link) -> str:
        mac = "02:00:00:00:00:77"
        host.ip(f"link add mv link {link.name} address {mac} type macvlan mode bridge")
        host.ip(f"link set mv netns {pod.name}")
        pod.ip("link set mv up")
        return mac

    older = there(kernel.host, "older")
    return Stage(kernel, kernel.host, kernel.open(pod.path), pod.path, older, add, occupy, stack)


def fake() -> Stage:
    world, path = World(), "/run/netns/pod"
    older = world.add_link("older", kind="ifb").link
    cookie = world.add_namespace(path)
    kernel = FakeKernel(world)

    def add(name: str) -> Link:
        link = world.add_link(name)
        up = link.link.settings._replace(flags=link.link.settings.flags | IFF_UP)
        link.link = link.link._replace(settings=up)
        return link.link

    def occupy(name: str) -> object:
        return world.add_link(name, namespace=cookie, kind="ifb")

    def stack(link: Link) -> str:
        lower = world.namespaces[world.host][link.identity.ifindex]
        world.add_link("mv", namespace=cookie, kind="macvlan").on = lower
        lower.forwarding = [Forwarding(0x80, 2, (("NDA_LLADDR", "020000000077"),))]
        return lower.forwarding[0].mac

    return Stage(kernel, kernel.host, kernel.open(path), path, older, add, occupy, stack)


@pytest.fixture(params=["real", "fake"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    if request.param == "fake":
        yield fake()
        return
    made = real(request.getfixturevalue("host"))
    yield made
    made.pod.close()
    made.host.close()


def there(namespace: Netns, name: str) -> Link:
    link = namespace.link(name=name)
    assert link is not None
    return link


def move(stage: Stage, link: Link, **settings: object) -> None:
    after = link.settings._replace(**settings)  # type: ignore[arg-type]
    stage.host.move(link.identity.ifindex, stage.pod, link.settings, after)


def refusal(act: Callable[[], object]) -> int:
    with pytest.raises(KernelRefused) as caught:
        act()
    return caught.value.errno


def test_namespaces_are_told_apart_by_their_cookie(stage: Stage) -> None:
    assert stage.pod.cookie != stage.host.cookie
    assert stage.kernel.cookie_at(stage.path) == stage.pod.cookie
    assert stage.kernel.cookie_at("/run/none") == 0
    with pytest.raises(NetnsError):
        stage.kernel.open("/run/none")


def test_a_link_that_is_older_than_the_namespace_was_not_made_in_it(stage: Stage) -> None:
    move(stage, stage.older, name="moved")
    assert not stage.pod.may_have_made(there(stage.pod, "moved"))
    stage.occupy("own")
    assert stage.pod.may_have_made(there(stage.pod, "own"))


def test_look_ups(stage: Stage) -> None:
    link = stage.add("nic1")
    stage.host.set_altname(link.identity.ifindex, "a-name-of-more-than-15-bytes", present=True)
    by_name = there(stage.host, "nic1")
    assert by_name.altnames == ("a-name-of-more-than-15-bytes",)
    assert stage.host.link(name="a-name-of-more-than-15-bytes") == by_name
    assert stage.host.link(ifindex=link.identity.ifindex) == by_name
    assert stage.host.find(link.identity) == by_name
    assert by_name in stage.host.links()
    assert stage.host.link(name="none") is None
    assert stage.host.link(ifindex=9999) is None


def test_a_move_takes_settings_along_and_loses_contents(stage: Stage) -> None:
    link = stage.add("nic1")
    ifindex = link.identity.ifindex
    stage.host.set_address(ifindex, Address(2, "10.0.0.1", 24), present=True)
    stage.host.set_route(ifindex, Route(2, "10.9.0.0/16", scope=253), present=True)
    stage.host.set_neighbour(
        ifindex, Neighbour(2, "10.0.0.9", "02:00:00:00:00:09", 128, 0), present=True
    )
    move(stage, link, name="net1", mtu=1300, mac="02:aa:00:00:00:01", alias="x", flags=0x1000)
    assert stage.host.link(name="nic1") is None
    moved = there(stage.pod, "net1")
    assert moved.settings == link.settings._replace(
        name="net1", mtu=1300, mac="02:aa:00:00:00:01", alias="x", flags=0x1000
    )
    assert moved.identity.inode == link.identity.inode
    assert stage.pod.find(link.identity) == moved
    now = moved.identity.ifindex
    assert (stage.pod.addresses(now), stage.pod.routes(now), stage.pod.neighbours(now)) == (
        (),
        (),
        (),
    )


def test_a_move_can_bring_the_link_up(stage: Stage) -> None:
    link = stage.add("nic1")
    move(stage, link, flags=link.settings.flags | IFF_UP)
    assert there(stage.pod, "nic1").settings.up


def test_name_taken_but_own_name_free_has_moved(stage: Stage) -> None:
    link = stage.add("nic1")
    stage.occupy("net1")
    assert refusal(lambda: move(stage, link, name="net1")) == errno.EEXIST
    assert there(stage.pod, "nic1").identity.inode == link.identity.inode


def test_own_name_taken_but_new_name_free_works(stage: Stage) -> None:
    link = stage.add("nic1")
    stage.occupy("nic1")
    move(stage, link, name="net1")
    assert there(stage.pod, "net1").identity.inode == link.identity.inode


def test_both_names_taken_has_not_moved(stage: Stage) -> None:
    link = stage.add("nic1")
    stage.occupy("nic1")
    stage.occupy("net1")
    assert refusal(lambda: move(stage, link, name="net1")) == errno.EEXIST
    assert there(stage.host, "nic1").identity == link.identity


def test_altname_taken_has_not_moved(stage: Stage) -> None:
    link = stage.add("nic1")
    stage.host.set_altname(link.identity.ifindex, "alt", present=True)
    stage.occupy("alt")
    assert refusal(lambda: move(stage, link, name="net1")) == errno.EEXIST
    assert stage.host.link(name="nic1") is not None


def test_mtu_out_of_range_has_moved(stage: Stage) -> None:
    link = stage.add("nic1")
    assert refusal(lambda: move(stage, link, mtu=link.max_mtu + 1)) == errno.EINVAL
    assert stage.host.link(name="nic1") is None
    assert there(stage.pod, "nic1").settings.mtu == link.settings.mtu


def test_addresses_keep_their_order(stage: Stage) -> None:
    """IPv4 appends, IPv6 puts a new one before the others."""
    ifindex = stage.add("nic1").identity.ifindex
    for address in (
        Address(2, "10.0.0.1", 24, label="nic1"),
        Address(2, "10.0.0.2", 24, label="nic1"),
        Address(10, "fd00::1", 64, flags=2),
        Address(10, "fd00::2", 64, flags=2),
    ):
        stage.host.set_address(ifindex, address, present=True)
        again = partial(stage.host.set_address, ifindex, address, present=True)
        assert refusal(again) == errno.EEXIST
    assert [each.cidr for each in stage.host.addresses(ifindex)] == [
        "10.0.0.1/24",
        "10.0.0.2/24",
        "fd00::2/64",
        "fd00::1/64",
    ]
    for known in ("10.0.0.2", "fd00::1"):
        assert stage.host.links_with(known) == (ifindex,)
    assert stage.host.links_with("10.0.0.3") == ()
    assert stage.host.links_with("fd00::3") == ()


def test_routes_need_a_link_that_is_up(stage: Stage) -> None:
    link = stage.add("nic1")
    down = link.settings._replace(flags=link.settings.flags & ~IFF_UP)
    stage.host.change(link.identity.ifindex, link.settings, down)
    route = Route(2, "10.9.0.0/16", scope=253)
    assert (
        refusal(lambda: stage.host.set_route(link.identity.ifindex, route, present=True))
        == errno.ENETDOWN
    )


def test_routes_and_neighbours_come_and_go(stage: Stage) -> None:
    ifindex = stage.add("nic1").identity.ifindex
    route = Route(
        2, "10.9.0.0/16", scope=253, priority=7, table=99, protocol=99, metrics=(("mtu", 1400),)
    )
    neighbour = Neighbour(2, "10.0.0.9", "02:00:00:00:00:09", 128, 0)
    for present in (True, False):
        stage.host.set_route(ifindex, route, present=present)
        stage.host.set_neighbour(ifindex, neighbour, present=present)
        assert stage.host.routes(ifindex) == ((route,) if present else ())
        assert stage.host.neighbours(ifindex) == ((neighbour,) if present else ())


def test_addresses_that_are_settled_are_not_waited_for(stage: Stage) -> None:
    ifindex = stage.add("nic1").identity.ifindex
    stage.host.set_address(ifindex, Address(10, "fd00::1", 64, flags=2), present=True)
    assert stage.host.await_dad(ifindex, 10, lambda: None) == ()


RULES = (
    Rule(2, 77, 5, src="10.0.0.1/32"),
    Rule(2, 77, 5, src="10.0.0.1/32", dst="10.9.0.0/16"),
    Rule(2, 2**32 - 2, 32765, iif="nic1"),
    Rule(2, 254, 1, oif="none", mark=0x10, mask=0xFF),
    Rule(2, 77, 6, mark=2**32 - 1),
    Rule(10, 77, 5, src="fd00::1/128", dst="fd09::/64"),
    Rule(10, 300, 30000, iif="nic1", oif="nic2"),
)


def test_rules_come_and_go_and_are_the_namespaces_own(stage: Stage) -> None:
    assert stage.pod.rules() == ()
    for each in RULES:
        stage.pod.set_rule(each, present=True)
        again = partial(stage.pod.set_rule, each, present=True)
        assert refusal(again) == errno.EEXIST
    assert set(stage.pod.rules()) == set(RULES)
    assert stage.host.rules() == ()
    for each in sorted(RULES, key=lambda rule: sum(map(bool, rule)), reverse=True):
        stage.pod.set_rule(each, present=False)
        assert each not in stage.pod.rules()
    assert stage.pod.rules() == ()
    assert refusal(lambda: stage.pod.set_rule(RULES[0], present=False)) == errno.ENOENT


def test_a_rule_that_says_more_is_taken_away_for_one_that_says_less(stage: Stage) -> None:
    less, more = RULES[:2]
    stage.pod.set_rule(more, present=True)
    stage.pod.set_rule(less, present=False)
    assert stage.pod.rules() == ()


def test_a_neighbour_takes_the_place_of_another(stage: Stage) -> None:
    ifindex = stage.add("nic1").identity.ifindex
    first = Neighbour(2, "10.0.0.9", "02:00:00:00:00:09", 128, 0)
    second = first._replace(mac="02:00:00:00:00:10")
    for each in (first, first, second):
        stage.host.set_neighbour(ifindex, each, present=True)
        assert stage.host.neighbours(ifindex) == (each,)


def test_sysctls_are_reset_by_a_move(stage: Stage) -> None:
    link = stage.add("nic1")
    key = "ipv4/conf/rp_filter"
    default = dict(stage.host.sysctls("nic1"))[key]
    stage.host.set_sysctl("nic1", key, "2")
    assert dict(stage.host.sysctls("nic1"))[key] == "2"
    move(stage, link)
    there_now = there(stage.pod, "nic1")
    stage.pod.move(there_now.identity.ifindex, stage.host, there_now.settings, there_now.settings)
    assert dict(stage.host.sysctls("nic1"))[key] == default


def test_what_is_stacked_on_a_link_elsewhere_shows_by_its_mac_until_that_moves(
    stage: Stage,
) -> None:
    """A move flushes them, so that a macvlan is deaf even when the link below is back."""
    link = stage.add("nic1")
    ifindex = link.identity.ifindex
    assert stage.host.forwarding(ifindex) == ()
    mac = stage.stack(link)
    assert [each.mac for each in stage.host.forwarding(ifindex)] == [mac]
    assert stage.host.overheard(link)
    assert there(stage.host, "nic1").uppers == ()
    move(stage, link)
    gone = there(stage.pod, "nic1")
    stage.pod.move(gone.identity.ifindex, stage.host, gone.settings, gone.settings)
    back = there(stage.host, "nic1").identity.ifindex
    assert stage.host.forwarding(back) == ()


def test_what_is_not_there_cannot_be_changed(stage: Stage) -> None:
    assert refusal(lambda: stage.host.set_altname(9999, "x", present=True)) in (
        errno.ENODEV,
        errno.EINVAL,
    )
    with pytest.raises(KernelRefused):
        stage.host.set_sysctl("none", "ipv4/conf/rp_filter", "1")


def test_what_is_stacked_is_deleted_wherever_it_is_known_to_be(stage: Stage) -> None:
    link = stage.add("nic1")
    stage.occupy("own")
    assert not stage.host.overheard(link)
    stage.stack(link)
    assert not stage.pod.knows_others(stage.host)
    assert stage.pod.delete_stacked(link.identity.ifindex, stage.host) == ("mv",)
    assert stage.pod.delete_stacked(link.identity.ifindex, stage.host) == ()
    assert not stage.host.overheard(link)
    assert stage.pod.link(name="own") is not None


def test_what_is_stacked_is_hunted_for(stage: Stage) -> None:
    link = stage.add("nic1")
    stage.stack(link)
    assert stage.kernel.hunt(link) == ("mv",)
    assert stage.kernel.hunt(link) == ()


def test_numbers_are_asked_for_by_the_very_name(stage: Stage) -> None:
    link = stage.add("nic1")
    stage.host.set_altname(link.identity.ifindex, "other", present=True)
    assert stage.host.numbers("nic1") == (link.identity.inode, link.identity.ifindex)
    assert stage.host.numbers("other") == stage.host.numbers("none") == (0, 0)


def test_a_namespace_knows_where_links_went(stage: Stage) -> None:
    link = stage.add("nic1")
    assert not stage.host.knows_others(stage.pod)
    move(stage, link)
    assert not stage.host.knows_others(stage.pod)
    assert stage.host.knows_others(stage.host)
    identity = link.identity
    assert (stage.host.holds(identity), stage.pod.holds(identity)) == (False, True)


def test_macs_come_and_go(stage: Stage) -> None:
    ifindex = stage.add("nic1").identity.ifindex
    unicast = Forwarding(0x80, 2, (("NDA_LLADDR", "020000000066"),))
    multicast = Forwarding(0x80, 2, (("NDA_LLADDR", "010203040506"),))
    for present in (True, False):
        for each in (unicast, multicast):
            stage.host.set_forwarding(ifindex, each, present=present)
        there_now = set(stage.host.forwarding(ifindex))
        assert there_now == ({unicast, multicast} if present else set())


def test_what_ethtool_set_stays_over_a_move(stage: Stage) -> None:
    link = stage.add("nic1")
    before = dict(stage.host.ethtool("nic1"))
    stage.host.set_ethtool("nic1", "features", before["features"])
    move(stage, link)
    assert dict(stage.pod.ethtool("nic1")) == before


def test_what_ethtool_sets_is_set_by_name(stage: Stage) -> None:
    link = stage.add("nic1")
    wanted = (("features.tso", "off"), ("features.rx-gro", "off"))
    before = stage.host.tunables("nic1")
    assert unmet((("features.tso", "on"),), before) == ()
    stage.host.tune("nic1", wanted)
    assert unmet(wanted, stage.host.tunables("nic1")) == ()
    move(stage, link)
    assert unmet(wanted, stage.pod.tunables("nic1")) == ()
    stage.pod.tune("nic1", (("features.tso", "on"),))
    assert unmet((("features.tso", "on"),), stage.pod.tunables("nic1")) == ()
    assert stage.pod.tunables("none") == ()


def test_what_the_driver_does_not_do_is_refused(stage: Stage) -> None:
    stage.add("nic1")
    features = [each for each in stage.host.tunables("nic1") if "features." in each.key]
    fixed = next(each for each in features if each.fixed)
    wanted = ((fixed.key, "off" if fixed.value == "on" else "on"),)
    assert refusal(lambda: stage.host.tune("nic1", wanted)) == errno.EOPNOTSUPP
    assert refusal(lambda: stage.host.tune("none", wanted)) == errno.ENODEV


def test_a_link_without_rdma_has_none(stage: Stage) -> None:
    """What there is with some: tests/vm/test_rdma.py and tests/unit/test_rdma.py."""
    assert stage.host.rdma(stage.add("nic1")) == ()
    assert stage.host.find_rdma(Rdma(1, "mlx5_0")) is None
    assert stage.kernel.rdma_holder(Rdma(1, "mlx5_0")) is None
