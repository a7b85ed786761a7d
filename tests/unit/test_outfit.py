"""The extras of a request over the fake kernel: set in the pod, gone at home."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.errors import CannotApply, KernelRefused, OutOfTime, RequestError
from cni_netdev.core.model import THIS_LINK, Address, Extras, Neighbour, RouteRequest, Rule, Vrf
from tests.fakes import DEFAULT_SYSCTLS, FakeNetns, Killed
from tests.workbench import FULL, NO_POLICY, OWNER, PATH, POD, Bench, new_bench, request

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from tests.fakes import FakeLink

NEIGHBOUR = Neighbour(2, "192.168.2.9", "02:00:00:00:00:10", 0x80, 0)
ASKED = Extras(
    vrf=Vrf("red", 10),
    sysctls=(("ipv4/conf/rp_filter", "1"), ("ipv6/conf/accept_ra", "0")),
    txqlen=5,
    sizes=(("IFLA_GSO_MAX_SIZE", 30000),),
    altnames=("extra", "eth1", "eth1-alt"),
    rules=(
        Rule(2, 100, 30000, src="192.168.2.2/32"),
        Rule(2, 100, 30000, src="192.168.2.2/32", iif=THIS_LINK),
    ),
    neighbours=(NEIGHBOUR, Neighbour(10, "fd99::9", "02:00:00:00:00:11", 0x80, 0)),
)
ALL = FULL._replace(extras=ASKED)


@pytest.fixture
def sized(bench: Bench) -> Bench:
    """Links with sizes, as the kernel's have."""
    sizes = (("IFLA_GSO_MAX_SIZE", 65536), ("IFLA_GSO_IPV4_MAX_SIZE", 65536))
    for fake in (bench.first, bench.second):
        settings = fake.link.settings._replace(sizes=sizes)
        fake.link = fake.link._replace(settings=settings)
    return bench


def rules(bench: Bench) -> list[Rule]:
    return bench.world.rules.get(bench.world.paths[PATH], [])


def told(bench: Bench) -> tuple[str, ...]:
    return bench.engine.check(OWNER.key, PATH, {})


def test_they_are_set_and_gone_again(sized: Bench) -> None:
    before = sized.at_home()
    sized.attach(ALL)
    link = sized.first.link
    assert link.settings.txqlen == 5
    assert dict(link.settings.sizes)["IFLA_GSO_MAX_SIZE"] == 30000
    assert dict(link.settings.sizes)["IFLA_GSO_IPV4_MAX_SIZE"] == 65536
    assert set(link.altnames) == {"extra", "eth1", "eth1-alt"}
    assert tuple(sized.first.neighbours) == ASKED.neighbours
    assert sized.first.sysctls == {**DEFAULT_SYSCTLS, **dict(ASKED.sysctls)}
    assert rules(sized) == [ASKED.rules[0], ASKED.rules[1]._replace(iif="net1")]
    last = sized.world.events[-5:-1]
    assert [each.split()[0] for each in last] == ["rule", "rule", "neighbour", "neighbour"]
    assert told(sized) == ()
    release = sized.engine.detach(OWNER.key)
    assert release is not None
    assert (release.notes, release.complete) == ((), True)
    assert sized.at_home() == before
    assert rules(sized) == []


def test_check_notices_each(sized: Bench) -> None:
    sized.attach(ALL)
    link = sized.first.link
    sized.first.link = link._replace(
        settings=link.settings._replace(txqlen=6, sizes=(("IFLA_GSO_MAX_SIZE", 40000),)),
        altnames=("extra",),
    )
    rules(sized).pop()
    sized.first.sysctls["ipv6/conf/accept_ra"] = "2"
    sized.first.neighbours = [NEIGHBOUR._replace(mac="02:00:00:00:00:99")]
    assert told(sized) == (
        "net1 has gso_max_size 40000 instead of 30000",
        "net1 has txqlen 6 instead of 5",
        "net1 has lost altname eth1",
        "net1 has lost altname eth1-alt",
        "net1 has lost neighbor 192.168.2.9 with 02:00:00:00:00:10",
        "net1 has lost neighbor fd99::9 with 02:00:00:00:00:11",
        "net1 has ipv6/conf/accept_ra 2 instead of 0",
        "net1 has lost rule 30000 for table 100",
    )


def test_an_attachment_that_differs_is_another_request(sized: Bench) -> None:
    sized.attach(ALL)
    with pytest.raises(CannotApply, match="by another request"):
        sized.attach(FULL)


THERE = Rule(2, 7, 5, src="10.0.0.0/8", dst="10.9.0.0/16")
REFUSED = [
    (Extras(sizes=(("IFLA_GRO_IPV4_MAX_SIZE", 30000),)), r"gro_ipv4_max_size: is not known"),
    (Extras(altnames=("taken",)), r"altnames: 'taken' is the name or altname of another"),
    (Extras(sysctls=(("ipv4/conf/odd", "1"),)), r"sysctls: this kernel has no ipv4/conf/odd"),
    (Extras(vrf=Vrf("taken", 10)), r"vrf: 'taken' is another link in the pod than a VRF"),
    (Extras(rules=(THERE,)), r"rules\[0\]: is there already"),
    (Extras(rules=(THERE._replace(iif=THIS_LINK),)), r"rules\[0\]: is there already"),
    (Extras(rules=(THERE._replace(dst=None),)), r"rules\[0\]: is there already"),
]


@pytest.mark.parametrize(("extras", "said"), REFUSED)
def test_what_cannot_be_is_said_before_anything_moves(
    sized: Bench, extras: Extras, said: str
) -> None:
    sized.world.add_link("taken", namespace=sized.world.paths[PATH])
    sized.world.rules[sized.world.paths[PATH]] = [THERE]
    before, events = sized.at_home(), len(sized.world.events)
    with pytest.raises(CannotApply, match=rf"devices\[1\]\.{said}"):
        sized.attach(request("eth1"), request("eth2", where="devices[1]", extras=extras))
    assert sized.at_home() == before
    assert len(sized.world.events) == events
    assert rules(sized) == [THERE]


def test_a_name_is_asked_for_once_in_a_pod(sized: Bench) -> None:
    for first, second in (
        (Extras(altnames=("net1",)), None),
        (Extras(altnames=("eth2",)), None),
        (Extras(altnames=("same",)), Extras(altnames=("same",))),
    ):
        with pytest.raises(RequestError, match="is also the name in the pod of"):
            sized.attach(request(new_name="net1", extras=first), request("eth2", extras=second))


def test_an_altname_of_one_device_may_be_the_hosts_of_another(sized: Bench) -> None:
    before = sized.at_home()
    sized.attach(request("eth1"), request("eth2", extras=Extras(altnames=("eth1-alt",))))
    assert sized.first.link.altnames == ()
    assert set(sized.second.link.altnames) == {"eth2-alt", "eth1-alt"}
    sized.engine.detach(OWNER.key)
    assert sized.at_home() == before


def test_whatever_fails_nothing_stays(sized: Bench) -> None:
    """The last device of several, at each of its steps."""
    before = sized.at_home()
    asked = (FULL, request("eth2", new_name="net2", extras=ASKED._replace(altnames=("extra",))))
    sized.attach(*asked)
    steps = len(sized.world.events)
    sized.engine.detach(OWNER.key)
    for number in range(1, steps + 1):
        sized.world.fail_at(number, errno.EINVAL)
        with pytest.raises((CannotApply, KernelRefused)):
            sized.attach(*asked)
        assert sized.at_home() == before, number
        assert rules(sized) == []
        assert vrf(sized) is None
        sized.nothing_left()


def test_rules_of_others_stay(sized: Bench) -> None:
    sized.world.rules[sized.world.paths[PATH]] = others = [
        Rule(2, 100, 29999, src="192.168.2.2/32"),
        Rule(2, 101, 30000, src="192.168.2.2/32"),
    ]
    before = list(others)
    sized.attach(ALL)
    assert len(rules(sized)) == 4
    sized.engine.detach(OWNER.key)
    assert rules(sized) == before


def test_a_rule_that_is_refused_for_a_moment_is_taken_back_all_the_same(sized: Bench) -> None:
    sized.attach(ALL)
    start = len(sized.world.events)
    sized.engine.detach(OWNER.key)
    number = [each.split()[0] for each in sized.world.events[start:]].index("rule") + 1
    sized.attach(ALL)
    sized.world.fail_at(number, errno.ENOMEM)
    release = sized.engine.detach(OWNER.key)
    assert release is not None
    assert release.notes == ()
    assert rules(sized) == []


def test_a_rule_that_must_stay_is_said(sized: Bench, mocker: MockerFixture) -> None:
    before = sized.at_home()
    sized.attach(ALL)
    refused = KernelRefused("remove rule", errno.EPERM)
    mocker.patch.object(FakeNetns, "set_rule", side_effect=refused)
    release = sized.engine.detach(OWNER.key)
    assert release is not None
    assert release.complete
    assert [each.partition(":")[0] for each in release.notes] == ["left in the pod's namespace"] * 2
    assert sized.at_home() == before


def test_a_namespace_that_is_gone_took_its_rules_along(sized: Bench) -> None:
    before = sized.at_home()
    sized.attach(ALL)
    sized.world.remove_path(PATH)
    release = sized.engine.detach(OWNER.key)
    assert release is not None
    assert (release.notes, release.complete) == ((), True)
    assert sized.at_home() == before


def test_sysctls_are_set_before_it_goes_up(sized: Bench) -> None:
    sized.attach(ALL)
    order = [each.split()[0] for each in sized.world.events if each.split()[0] != "journal"]
    assert order[:11] == [
        "pin",
        "move",
        "altname",
        "altname",
        "vrf",
        "master",
        "sysctl",
        "sysctl",
        "address",
        "address",
        "change",
    ]
    assert sized.first.link.settings.up


def test_a_link_that_is_to_stay_down_does(sized: Bench) -> None:
    sized.attach(request(up=False, extras=Extras(sysctls=ASKED.sysctls)))
    assert not sized.first.link.settings.up
    assert not any(each.startswith("change") for each in sized.world.events)


# --- duplicate address detection and announcements -------------------------------------------

V6 = ("192.168.2.2/24", "fd99::2/64")


@pytest.mark.parametrize(("dad", "flags"), [("off", [0, 2]), ("optimistic", [0, 4])])
def test_flags_of_addresses(sized: Bench, dad: str, flags: list[int]) -> None:
    before = sized.at_home()
    sized.attach(request(addresses=V6, extras=Extras(dad=dad)))
    assert [each.flags for each in sized.first.addresses] == flags
    values = [
        sized.first.sysctls[f"ipv6/conf/{key}"] for key in ("use_optimistic", "optimistic_dad")
    ]
    assert values == ["1" if dad == "optimistic" else "0"] * 2
    sized.engine.detach(OWNER.key)
    assert sized.at_home() == before


def test_an_address_that_is_kept_and_has_no_detection_is_not_optimistic(sized: Bench) -> None:
    sized.first.addresses = [Address(10, "fd00::1", 64, flags=2), Address(10, "fd00::2", 64)]
    sized.attach(request(keep_addresses=True, extras=Extras(dad="optimistic")))
    assert [each.flags for each in sized.first.addresses] == [2, 4]


def test_announcing_is_the_kernels(sized: Bench) -> None:
    sized.attach(request(addresses=V6, extras=Extras(announce=True)))
    announcing = {"ipv4/conf/arp_notify": "1", "ipv6/conf/ndisc_notify": "1"}
    assert sized.first.sysctls == {**DEFAULT_SYSCTLS, **announcing}
    assert told(sized) == ()


def test_what_is_asked_for_by_name_counts(sized: Bench) -> None:
    asked = Extras(announce=True, sysctls=(("ipv4/conf/arp_notify", "0"),))
    sized.attach(request(extras=asked))
    assert sized.first.sysctls["ipv4/conf/arp_notify"] == "0"
    assert told(sized) == ()


def test_an_address_that_another_host_has_undoes_all(sized: Bench) -> None:
    before = sized.at_home()
    sized.second.duplicates = ["fd99::2/64"]
    waiting = request("eth2", where="devices[1]", extras=Extras(dad="wait", dad_seconds=3))
    with pytest.raises(CannotApply, match=r"devices\[1\].dad: fd99::2/64 is used by another"):
        sized.attach(FULL, waiting)
    assert sized.at_home() == before
    sized.nothing_left()


def test_waiting_ends_when_the_time_is_up(sized: Bench) -> None:
    before, calls = sized.at_home(), []
    asked = request(extras=Extras(dad="wait", dad_seconds=30))

    def in_time() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise OutOfTime("no time left")

    with pytest.raises(OutOfTime):
        sized.engine.attach(OWNER, PATH, (asked,), NO_POLICY, POD, in_time)
    assert sized.at_home() == before


def test_a_small_mtu_at_home_hides_the_sysctls_of_ipv6(sized: Bench) -> None:
    for mtu, gone in ((1400, True), (1000, False)):
        settings = sized.first.link.settings._replace(mtu=mtu)
        sized.first.link = sized.first.link._replace(settings=settings)
        sized.first.sysctls = {"ipv4/conf/rp_filter": "0"}
        for asked, key in (
            (Extras(sysctls=(("ipv6/conf/accept_ra", "0"),)), "sysctls"),
            (Extras(dad="optimistic"), "dad"),
        ):
            wish = request(mtu=1500, extras=asked)
            if gone:
                with pytest.raises(CannotApply, match=rf"devices\[0\].{key}: this kernel"):
                    sized.attach(wish)
            else:
                sized.attach(wish)
                sized.engine.detach(OWNER.key)


# --- VRFs ------------------------------------------------------------------------------------

RED = Extras(vrf=Vrf("red", 10))
IN_RED = request(
    "eth1", new_name="net1", extras=RED, routes=(RouteRequest("10.9.0.0/16", gw="10.0.0.9"),)
)


def vrf(bench: Bench, name: str = "red") -> FakeLink | None:
    return bench.world.named(bench.world.paths[PATH], name)


def test_a_vrf_is_made_for_its_links_and_gone_with_them(sized: Bench) -> None:
    before = sized.at_home()
    sized.attach(IN_RED, request("eth2", extras=RED))
    made = vrf(sized)
    assert made is not None
    assert sized.first.link.master == sized.second.link.master == made.ifindex
    assert [each.table for each in sized.first.routes] == [10]
    assert told(sized) == ()
    sized.engine.detach(OWNER.key)
    assert sized.at_home() == before
    assert vrf(sized) is None


def test_a_vrf_stays_as_long_as_another_attachment_has_a_link_in_it(sized: Bench) -> None:
    another = OWNER._replace(ifname="eth7")
    sized.attach(IN_RED)
    sized.attach(request("eth2", extras=RED), owner=another)
    sized.engine.detach(OWNER.key)
    assert vrf(sized) is not None
    sized.engine.detach(another.key)
    assert vrf(sized) is None


def test_a_vrf_of_the_pods_own_is_used_and_stays(sized: Bench) -> None:
    pod = sized.kernel.open(PATH)
    pod.set_vrf(Vrf("red", 10), present=True)
    made = vrf(sized)
    assert made is not None
    made.link = made.link._replace(settings=made.link.settings._replace(group=0))
    sized.attach(IN_RED)
    assert sized.first.link.master == made.ifindex
    sized.engine.detach(OWNER.key)
    assert vrf(sized) is made


def test_check_notices_a_link_that_left_its_vrf(sized: Bench) -> None:
    sized.attach(IN_RED)
    sized.first.link = sized.first.link._replace(master=0)
    assert told(sized) == ("net1 is not in VRF red any more",)
    made = vrf(sized)
    assert made is not None
    made.link = made.link._replace(data="")
    assert told(sized) == ("net1 has lost VRF red of table 10",)


def test_two_tables_for_one_vrf_undo_all(sized: Bench) -> None:
    before = sized.at_home()
    with pytest.raises(CannotApply):
        sized.attach(IN_RED, request("eth2", extras=Extras(vrf=Vrf("red", 11))))
    assert sized.at_home() == before
    assert vrf(sized) is None


def test_killed_at_every_event() -> None:
    made = new_bench()
    made.attach(ALL._replace(extras=ASKED._replace(sizes=())))
    for number in range(1, len(made.world.events) + 1):
        made = new_bench()
        before = made.at_home()
        made.world.kill_at(number)
        with pytest.raises(Killed):
            made.attach(ALL._replace(extras=ASKED._replace(sizes=())))
        made.journal.locks.clear()
        made.engine.detach(OWNER.key)
        assert made.at_home() == before, number
        assert rules(made) == []
        assert vrf(made) is None
        made.nothing_left()
