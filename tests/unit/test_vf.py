"""What the host sets of a VF: what may be asked for and by whom, set, checked and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core import plan
from cni_netdev.core.errors import CannotApply, Fault, PolicyRefused
from cni_netdev.core.model import Identity, VirtualFunction
from cni_netdev.core.objects import Object
from cni_netdev.core.policy import parse_policy
from cni_netdev.core.steps import Move
from cni_netdev.core.vf import GROUPS, KEYS, changes, differing, parse, touched, wanted
from tests.fakes import Killed
from tests.unit.test_vfinfo import VF0
from tests.workbench import OWNER, PATH, POD, Bench, new_bench, request

if TYPE_CHECKING:
    from collections.abc import Callable

PF, BUS = "0000:03:00.0", "0000:03:10.0"
ASKED = (("trust", "on"), ("mac", "02:00:00:00:00:55"), ("vlan", "100"), ("max_tx_rate", "500"))


def parsed(value: object) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    found: list[Fault] = []
    return parse(Object(value, "d.vf", found)), [str(each) for each in found]


def test_what_is_asked_for_has_one_form_and_an_order() -> None:
    asked = {
        "link_state": "Enable",
        "max_tx_rate": "500",
        "proto": "802.1q",
        "qos": 3,
        "vlan": 100,
        "mac": "02-00-00-00-00-55",
        "trust": True,
        "spoofchk": "off",
    }
    assert parsed(asked) == (
        (
            ("spoofchk", "off"),
            ("trust", "on"),
            ("mac", "02:00:00:00:00:55"),
            ("vlan", "100"),
            ("qos", "3"),
            ("proto", "802.1Q"),
            ("max_tx_rate", "500"),
            ("link_state", "enable"),
        ),
        [],
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("x", "d.vf: must be an object, not 'x'"),
        ({"vlna": 1}, "d.vf.vlna: unknown key; did you mean vlan?"),
        ({"vlan": 4095}, "d.vf.vlan: 4095 is above 4094"),
        ({"vlan": 1, "qos": 8}, "d.vf.qos: 8 is above 7"),
        ({"qos": 1}, "d.vf.qos: belongs to a vlan, and there is none"),
        ({"proto": "802.1Q"}, "d.vf.proto: belongs to a vlan, and there is none"),
        ({"vlan": 1, "proto": "qinq"}, "d.vf.proto: 'qinq' is none of 802.1Q, 802.1ad"),
        ({"mac": "01:00:00:00:00:00"}, "d.vf.mac: 01:00:00:00:00:00 is a multicast address"),
        ({"trust": "maybe"}, "d.vf.trust: 'maybe' is neither on nor off"),
        ({"link_state": "up"}, "d.vf.link_state: 'up' is none of auto, enable, disable"),
        ({"min_tx_rate": 9, "max_tx_rate": 8}, "d.vf.min_tx_rate: 9 is above max_tx_rate 8"),
    ],
)
def test_what_is_wrong_is_told(value: object, said: str) -> None:
    _, found = parsed(value)
    assert len(found) == 1
    assert said in found[0]


@given(st.dictionaries(st.sampled_from(KEYS), st.none() | st.integers() | st.text(max_size=9)))
def test_whatever_is_given_only_faults_come_of_it(value: dict[str, Any]) -> None:
    parsed(value)


# --- settings --------------------------------------------------------------------------------

_settings = st.tuples(*(st.sampled_from(("0", "1")) for _ in KEYS)).map(
    lambda values: tuple(zip(KEYS, values, strict=True))
)


@given(_settings, _settings, st.data())
def test_what_is_sent_makes_of_one_the_other(before: Any, after: Any, data: st.DataObject) -> None:
    kept = data.draw(st.sets(st.sampled_from(GROUPS)))
    after = tuple(pair for pair in after if any(pair[0] in group for group in kept))
    now = dict(before)
    for group in changes(before, after):
        assert {key for key, _ in group} in [set(each) for each in GROUPS]
        now.update(group)
    assert now == {**dict(before), **dict(after)}
    assert changes(tuple(now.items()), after) == ()


def test_a_vlan_that_is_asked_for_is_plain_unless_it_says_otherwise() -> None:
    had = (("vlan", "7"), ("qos", "5"), ("proto", "802.1ad"))
    assert wanted((("vlan", "8"),), had) == (("vlan", "8"), ("qos", "0"), ("proto", "802.1Q"))
    assert wanted((), had) == had


def test_only_what_goes_together_with_what_is_asked_for_is_kept() -> None:
    assert touched((("vlan", "8"),), VF0) == (("vlan", "0"), ("qos", "0"), ("proto", "802.1Q"))
    assert touched((), VF0) == ()


def test_what_differs_is_told() -> None:
    assert differing((("vlan", "8"), ("trust", "off")), VF0[1:]) == ("vlan is 0 instead of 8",)
    assert differing((("vlan", "8"),), ()) == ("vlan is not told instead of 8",)


# --- the engine ------------------------------------------------------------------------------


def with_vf() -> Bench:
    """Whose first link is hardware, VF 3 of a card."""
    bench = new_bench()
    link = bench.first.link
    identity = Identity(link.identity.ifindex, link.identity.inode, "02:00:00:00:00:09", BUS)
    bench.first.link = link._replace(kind=None, identity=identity)
    bench.first.vf = VirtualFunction(PF, 3, VF0)
    bench.world.buses.add(BUS)
    return bench


def test_it_is_set_checked_and_put_back() -> None:
    bench = with_vf()
    before = bench.at_home()
    bench.attach(request(new_name="net1", vf=ASKED))
    assert bench.first.vf is not None
    assert differing(ASKED, bench.first.vf.settings) == ()
    assert bench.first.link.settings.mac == "02:00:00:00:00:55", "else its frames are spoofed"
    assert bench.engine.check(OWNER.key, PATH, {}) == ()
    bench.kernel.host.set_virtual_function(PF, 3, ASKED, (("vlan", "7"),))
    assert bench.engine.check(OWNER.key, PATH, {}) == ("net1: VF's vlan is 7 instead of 100",)
    bench.engine.detach(OWNER.key)
    assert bench.at_home() == before


def test_what_is_not_asked_for_is_left_alone() -> None:
    """It is somebody else's on the host, who may change it meanwhile."""
    bench = with_vf()
    bench.attach(request(new_name="net1", vf=ASKED))
    bench.kernel.host.set_virtual_function(PF, 3, (), (("spoofchk", "off"),))
    bench.engine.detach(OWNER.key)
    assert bench.first.vf is not None
    assert bench.first.vf.settings == tuple({**dict(VF0), "spoofchk": "off"}.items())


def test_the_pod_gets_the_link_when_that_is_so_and_the_host_when_it_is_back() -> None:
    """A pod never holds the link with what the host has, and the MAC comes back after the VF's."""
    bench = with_vf()
    bench.attach(request(new_name="net1", vf=ASKED))
    bench.engine.detach(OWNER.key)
    told = [each for each in bench.world.events if each.startswith(("vf ", "move ", "change "))]
    moves = [told.index(each) for each in ("move eth1 as net1", "move net1 as eth1")]
    sets = [at for at, each in enumerate(told) if each.startswith("vf ")]
    assert moves[0] > max(sets[:4])
    assert moves[1] < min(sets[4:])
    last_change = max(at for at, each in enumerate(told) if each.startswith("change"))
    assert last_change > max(sets)


def test_on_the_way_home_the_mac_stays_as_the_physical_function_has_it() -> None:
    bench = with_vf()
    bench.attach(request(new_name="net1", vf=ASKED))
    (lent,) = bench.journal.kept[OWNER.key].devices
    *_, move = plan.leave_pod(lent, bench.first.link, "eth1", frozenset())
    assert isinstance(move, Move)
    assert move.after.mac == "02:00:00:00:00:55"


@pytest.mark.parametrize("recovery", ["detach", "namespace gone"])
def test_killed_at_any_step_it_is_put_back(recovery: str) -> None:
    def attach(bench: Bench) -> None:
        bench.attach(request(new_name="net1", vf=ASKED))

    number = 0
    while True:
        number += 1
        bench = with_vf()
        before = bench.at_home()
        bench.world.kill_at(number)
        try:
            attach(bench)
        except Killed:
            bench.journal.locks.clear()
        else:
            break
        if recovery == "namespace gone":
            bench.world.remove_path(PATH)
            bench.engine.recover()
        bench.engine.detach(OWNER.key)
        assert bench.at_home() == before, number
        bench.nothing_left()
    assert number > len(GROUPS)


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda _: None, "eth1 is no SR-IOV virtual function"),
        (
            lambda found: found._replace(settings=()),
            f"eth1's physical function {PF} has no link here that tells of its VFs",
        ),
        (
            lambda found: found._replace(settings=(VF0[0], *VF0[2:])),
            f"vf.trust: the driver of eth1's physical function {PF} has none",
        ),
    ],
)
def test_what_cannot_be_set_is_refused_before_anything_is(
    prepare: Callable[[VirtualFunction], VirtualFunction | None], said: str
) -> None:
    bench = with_vf()
    assert bench.first.vf is not None
    bench.first.vf = prepare(bench.first.vf)
    with pytest.raises(CannotApply) as refused:
        bench.attach(request(new_name="net1", vf=ASKED))
    assert said in str(refused.value)
    assert bench.world.events == []


@pytest.mark.parametrize("source", ["annotation", "capability"])
@pytest.mark.parametrize(
    ("asked", "privilege"),
    [
        ({"vf": ASKED}, "vf"),
        ({"ethtool": (("private_flags.legacy-rx", "on"),)}, "private_flags"),
    ],
)
def test_a_tenant_has_it_only_where_a_rule_grants_it(
    source: str, asked: dict[str, Any], privilege: str
) -> None:
    matches: tuple[dict[str, Any], ...] = ({}, {"grants": []}, {"names": ["none"]})
    for match in matches:
        bench = with_vf()
        policy = parse_policy({"rules": [{"allow": match}]})
        with pytest.raises(PolicyRefused, match=f"does not grant {privilege}, as only a rule"):
            bench.engine.attach(OWNER, PATH, (request(source=source, **asked),), policy, POD)
        assert bench.world.events == []


def test_a_rule_that_grants_it_and_the_nodes_own_configuration() -> None:
    granting = parse_policy({"rules": [{"allow": {"grants": ["vf"]}}]})
    for source, policy in (("annotation", granting), ("config", parse_policy({}))):
        bench = with_vf()
        bench.engine.attach(OWNER, PATH, (request(source=source, vf=ASKED),), policy, POD)
        assert bench.first.vf is not None
        assert differing(ASKED, bench.first.vf.settings) == ()
