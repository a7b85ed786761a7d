"""Taking over what the Go injector lent: a link in the pod whose alias is its name at home."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.errors import LockTimeout, NetnsError, StateError
from cni_netdev.core.model import IFF_UP, Owner, Selector
from cni_netdev.core.policy import Pod, parse_policy
from tests.fakes import HOST, Killed
from tests.workbench import (
    NO_POLICY,
    OTHER,
    OTHER_PATH,
    OWNER,
    PATH,
    POD,
    Bench,
    new_bench,
    request,
    tamper,
)

if TYPE_CHECKING:
    from cni_netdev.core.engine import Attachment
    from cni_netdev.core.model import DeviceRequest
    from cni_netdev.core.policy import Policy
    from tests.fakes import FakeLink

NRI = Owner("nri", "", "c1", "", "lab/solver")
NET1, NET2 = request("eth1", new_name="net1"), request("eth2", new_name="net2")


def lend_as_go_does(bench: Bench, fake: FakeLink, name: str, path: str = PATH) -> None:
    """One move with the new name, and the old one as the alias; then up."""
    home = fake.link.settings
    there = home._replace(name=name, alias=home.name, flags=home.flags | IFF_UP)
    bench.world.move(bench.world.host, fake.ifindex, bench.world.paths[path], there)


def forge(bench: Bench, name: str, alias: str, kind: str = "veth") -> FakeLink:
    """A link that the pod made itself and gave an alias."""
    fake = bench.world.add_link(name, namespace=bench.world.paths[PATH], kind=kind)
    settings = fake.link.settings._replace(alias=alias)
    fake.link = fake.link._replace(settings=settings)
    return fake


def adopt(
    bench: Bench, *requests: DeviceRequest, policy: Policy = NO_POLICY, pod: Pod = POD
) -> Attachment:
    attachment = bench.engine.adopt(NRI, PATH, requests, policy, pod)
    assert attachment is not None
    assert not bench.journal.locks
    return attachment


def adopted(attachment: Attachment) -> list[str]:
    return [lent.home.link.name for lent in attachment.record.devices]


def refusal(bench: Bench, asked: DeviceRequest, policy: Policy = NO_POLICY, pod: Pod = POD) -> str:
    """Why the only request is not adopted; nothing is on record then."""
    before = dict(bench.journal.kept)
    attachment = adopt(bench, asked, policy=policy, pod=pod)
    assert adopted(attachment) == []
    assert bench.journal.kept == before
    assert NRI.key not in bench.journal.pins
    (note,) = attachment.notes
    return note


def home_again(bench: Bench) -> None:
    release = bench.engine.detach(NRI.key)
    assert release is not None
    assert (release.complete, release.notes) == (True, ())
    bench.nothing_left()


def test_adopting_writes_a_record_and_moves_nothing(bench: Bench) -> None:
    lend_as_go_does(bench, bench.first, "net1")
    there = bench.first.link
    attachment = adopt(bench, NET1)
    assert (adopted(attachment), attachment.notes) == (["eth1"], ())
    assert bench.world.events == ["journal write", "pin"]
    assert bench.first.link == there
    assert bench.journal.kept == {NRI.key: attachment.record}
    assert bench.journal.pins == {NRI.key: bench.world.paths[PATH]}
    assert attachment.record.complete
    assert (attachment.record.owner, attachment.record.netns.path) == (NRI, PATH)
    assert bench.engine.missing("c1", (NET1,)) == ()
    assert bench.engine.alive(attachment.record)


def test_an_adopted_link_comes_home_under_its_own_name_without_the_alias(bench: Bench) -> None:
    lend_as_go_does(bench, bench.first, "net1")
    there = bench.first.link.settings
    adopt(bench, NET1)
    tamper(bench.first)
    home_again(bench)
    home = bench.kernel.host.link(name="eth1")
    assert home is not None
    assert home.identity.inode == bench.first.link.identity.inode
    assert home.settings == there._replace(name="eth1", alias="")
    assert home.altnames == ("eth1-alt",)


def test_an_adopted_link_outlives_its_pod(bench: Bench) -> None:
    lend_as_go_does(bench, bench.first, "net1")
    adopt(bench, NET1)
    bench.world.remove_path(PATH)
    (release,) = bench.engine.recover()
    assert (release.devices, release.notes) == (("eth1",), ())
    assert bench.kernel.host.link(name="eth1") is not None
    bench.nothing_left()


def test_hardware_is_adopted_without_a_pin(bench: Bench) -> None:
    nic = bench.world.add_link("nic0", kind=None, bus="0000:01:00.0")
    lend_as_go_does(bench, nic, "net0")
    attachment = adopt(bench, request("nic0", new_name="net0"))
    assert (adopted(attachment), attachment.record.pinned_in) == (["nic0"], 0)
    assert not bench.journal.pins
    bench.world.remove_path(PATH)
    assert bench.engine.recover()[0].devices == ("nic0",)
    assert nic.link.settings.alias == ""


def test_without_a_new_name_it_is_looked_for_under_its_own(bench: Bench) -> None:
    lend_as_go_does(bench, bench.first, "eth1")
    assert adopted(adopt(bench, request("eth1"))) == ["eth1"]
    home_again(bench)


def test_the_second_adopt_finds_the_record(bench: Bench) -> None:
    lend_as_go_does(bench, bench.first, "net1")
    adopt(bench, NET1)
    events = len(bench.world.events)
    assert bench.engine.adopt(NRI, PATH, (NET1,), NO_POLICY, POD) is None
    assert len(bench.world.events) == events
    assert not bench.journal.locks


def test_what_is_on_record_by_an_attach_is_not_adopted(bench: Bench) -> None:
    bench.attach(NET1, owner=NRI)
    assert bench.engine.adopt(NRI, PATH, (NET1,), NO_POLICY, POD) is None


def test_one_that_is_missing_keeps_no_other_back(bench: Bench) -> None:
    third = bench.world.add_link("eth3")
    lend_as_go_does(bench, bench.first, "net1")
    lend_as_go_does(bench, third, "net3")
    attachment = adopt(bench, NET1, NET2._replace(where="[1]"), request("eth3", new_name="net3"))
    assert adopted(attachment) == ["eth1", "eth3"]
    (note,) = attachment.notes
    assert note.startswith("[1]: the pod has no link 'net2' with the alias 'eth2'")
    assert bench.engine.missing("c1", (NET1, NET2)) == ("name 'eth2'",)
    home_again(bench)
    assert {"eth1", "eth3"} <= {each.name for each in bench.kernel.host.links()}


@pytest.mark.parametrize("alias", ["", "eth2", "eth1 "])
def test_without_the_mark_it_is_not_adopted(bench: Bench, alias: str) -> None:
    lend_as_go_does(bench, bench.first, "net1")
    settings = bench.first.link.settings._replace(alias=alias)
    bench.first.link = bench.first.link._replace(settings=settings)
    assert "has no link 'net1' with the alias 'eth1'" in refusal(bench, NET1)


@pytest.mark.parametrize("kind", ["hwaddr", "pci_address", "kernel_path"])
def test_only_what_is_asked_for_by_name_has_a_mark(bench: Bench, kind: str) -> None:
    lend_as_go_does(bench, bench.first, "net1")
    selector = Selector(kind, "eth1")  # type: ignore[arg-type]
    assert "has no link" in refusal(bench, NET1._replace(selector=selector))


def test_the_loopback_link_is_not_adopted(bench: Bench) -> None:
    fake = forge(bench, "lo", "eth7")
    fake.link = fake.link._replace(loopback=True)
    assert "has no link 'lo'" in refusal(bench, request("eth7", new_name="lo"))


def test_an_alias_that_is_a_name_on_the_host_is_forged(bench: Bench) -> None:
    forge(bench, "net1", "eth1")
    assert "'eth1' is the name of another link on the host" in refusal(bench, NET1)
    forge(bench, "net2", "eth2-alt")
    altname = request("eth2-alt", new_name="net2")
    assert "'eth2-alt' is the name of another link on the host" in refusal(bench, altname)


@pytest.mark.parametrize("alias", ["eth1", "eth1-alt"])
def test_an_alias_that_is_the_name_of_a_lent_link_is_forged(bench: Bench, alias: str) -> None:
    bench.attach(request("eth1"), owner=OTHER, path=OTHER_PATH)
    forge(bench, "net1", alias)
    note = refusal(bench, request(alias, new_name="net1"))
    assert f"name '{alias}' is held by c2/eth0" in note


def test_a_link_that_the_pod_can_have_made_is_not_adopted(bench: Bench) -> None:
    forge(bench, "net7", "eth7")
    asked = request("eth7", new_name="net7")
    assert "devices[0]: 'net7' is younger than its pod's network namespace" in refusal(bench, asked)


def test_a_link_that_is_on_anothers_record_is_not_adopted(bench: Bench) -> None:
    bench.attach(NET1)
    settings = bench.first.link.settings._replace(alias="eth7")
    bench.first.link = bench.first.link._replace(settings=settings)
    assert "net1 is held by c1/eth0" in refusal(bench, request("eth7", new_name="net1"))
    assert list(bench.journal.kept) == [OWNER.key]


def test_one_link_or_name_is_adopted_once(bench: Bench) -> None:
    lend_as_go_does(bench, bench.first, "net1")
    lend_as_go_does(bench, bench.second, "net2")
    settings = bench.second.link.settings._replace(alias="eth1")
    bench.second.link = bench.second.link._replace(settings=settings)
    twin = request("eth1", new_name="net2")._replace(where="[1]")
    attachment = adopt(bench, NET1, twin, NET1._replace(where="[2]"))
    assert adopted(attachment) == ["eth1"]
    assert attachment.notes == (
        "[1]: eth1 is adopted already by devices[0]",
        "[2]: eth1 is adopted already by devices[0]",
    )
    home_again(bench)


@pytest.mark.parametrize(
    ("policy", "namespace", "allowed"),
    [
        ({"default": "deny"}, "lab", False),
        ({"default": "deny", "rules": [{"allow": {"names": ["eth1"]}}]}, "lab", True),
        ({"default": "deny", "rules": [{"allow": {"names": ["net1"]}}]}, "lab", False),
        ({"rules": [{"deny": {"kinds": ["veth"]}}]}, "lab", False),
        ({"default": "deny", "rules": [{"allow": {"namespaces": ["lab"]}}]}, "lab", True),
        ({"default": "deny", "rules": [{"allow": {"namespaces": ["lab"]}}]}, "web", False),
    ],
)
def test_policy_judges_it_by_its_name_at_home(
    bench: Bench, policy: object, namespace: str, *, allowed: bool
) -> None:
    lend_as_go_does(bench, bench.first, "net1")
    asked, pod = NET1._replace(source="annotation"), Pod("solver", namespace, None)
    if allowed:
        attachment = adopt(bench, asked, policy=parse_policy(policy, "policy"), pod=pod)
        assert adopted(attachment) == ["eth1"]
    else:
        note = refusal(bench, asked, parse_policy(policy, "policy"), pod)
        assert "link eth1 stays on the host: policy" in note


def test_what_policy_refuses_keeps_no_other_back(bench: Bench) -> None:
    lend_as_go_does(bench, bench.first, "net1")
    lend_as_go_does(bench, bench.second, "net2")
    policy = parse_policy({"rules": [{"deny": {"names": ["eth1"]}}]}, "policy")
    asked = [each._replace(source="annotation") for each in (NET1, NET2)]
    attachment = adopt(bench, *asked, policy=policy)
    assert adopted(attachment) == ["eth2"]
    assert "policy.rules[0] (deny)" in attachment.notes[0]


# What Linux tells of a link is told in the numbers of the namespace that it is seen from.
SEEN_IN_THE_POD: dict[str, tuple[str, dict[str, object]]] = {
    "veth, its peer on the host": ("veth", {"lower": 2, "lower_elsewhere": True}),
    "veth, its peer in the pod": ("veth", {"lower": 2}),
    "macvlan of a link on the host": ("macvlan", {"lower": 2, "lower_elsewhere": True}),
    "vlan": ("vlan", {"lower": 3, "lower_elsewhere": True}),
    "in a bridge of the pod": ("dummy", {"master": 9, "uppers": ("br0",)}),
    "below a macvlan of the pod": ("dummy", {"uppers": ("mv0",)}),
}


@pytest.mark.parametrize(("kind", "seen"), SEEN_IN_THE_POD.values(), ids=SEEN_IN_THE_POD)
def test_what_the_pod_tells_of_its_neighbours_trips_no_guard(
    bench: Bench, kind: str, seen: dict[str, object]
) -> None:
    fake = bench.world.add_link("lab0", kind=kind)
    lend_as_go_does(bench, fake, "net0")
    fake.link = fake.link._replace(**seen)  # type: ignore[arg-type]
    attachment = adopt(bench, request("lab0", new_name="net0"))
    assert (adopted(attachment), attachment.notes) == (["lab0"], ())
    home_again(bench)
    assert bench.world.named(bench.world.host, "lab0") is fake
    assert fake.link.master == 0
    assert not [each for each in bench.world.events if each.startswith("master")]


def test_a_lower_link_in_the_pods_numbers_holds_none_of_the_host(bench: Bench) -> None:
    fake = bench.world.add_link("lab0", kind="macvlan")
    lend_as_go_does(bench, fake, "net0")
    fake.link = fake.link._replace(lower=bench.second.ifindex)
    adopt(bench, request("lab0", new_name="net0"))
    bench.attach(request("eth2"), owner=OTHER, path=OTHER_PATH)
    assert bench.second.ifindex in bench.world.namespaces[bench.world.paths[OTHER_PATH]]


@pytest.mark.parametrize("kind", ["bridge", "bond", "vrf"])
def test_what_the_kernel_ties_to_its_namespace_was_never_lent(bench: Bench, kind: str) -> None:
    lend_as_go_does(bench, bench.world.add_link("eth7", kind=kind), "net7")
    assert f"of kind {kind} to its namespace" in refusal(bench, request("eth7", new_name="net7"))


def test_programs_that_the_pod_planted_before_do_not_come_home(bench: Bench) -> None:
    lend_as_go_does(bench, bench.first, "net1")
    bench.first.link = bench.first.link._replace(xdp=(("skb", 7),))
    bench.first.tcx = [("ingress", 8)]
    adopt(bench, NET1)
    home_again(bench)
    assert (bench.first.link.xdp, bench.first.tcx) == ((), [])


def test_what_the_go_injector_never_set_is_not_said_to_be_lost(bench: Bench) -> None:
    lend_as_go_does(bench, bench.first, "net1")
    asked = NET1._replace(addresses=("192.168.2.2/24",), mtu=1300)
    attachment = adopt(bench, asked)
    assert bench.engine.check(NRI.key, PATH, {}) == ()
    again = bench.engine.attach(NRI, PATH, (asked,), NO_POLICY, POD)
    assert again.record == attachment.record


@pytest.mark.parametrize(("path", "reason"), [(HOST, "host's own"), ("/gone", "no network")])
def test_a_namespace_that_is_no_pods_is_an_error(bench: Bench, path: str, reason: str) -> None:
    with pytest.raises(NetnsError, match=reason):
        bench.engine.adopt(NRI, path, (NET1,), NO_POLICY, POD)
    assert not bench.world.events
    bench.nothing_left()


def test_an_attachment_that_is_worked_on_is_waited_for(bench: Bench) -> None:
    lend_as_go_does(bench, bench.first, "net1")
    with bench.journal.lock("attachment-nri-c1-"), pytest.raises(LockTimeout):
        bench.engine.adopt(NRI, PATH, (NET1,), NO_POLICY, POD)
    bench.nothing_left()


@pytest.mark.parametrize("number", [1, 2])
def test_a_full_state_directory_leaves_nothing_and_it_can_be_adopted_later(
    bench: Bench, number: int
) -> None:
    lend_as_go_does(bench, bench.first, "net1")

    def full() -> None:
        raise StateError("no space left")

    bench.world.interrupt(number, full)
    with pytest.raises(StateError):
        bench.engine.adopt(NRI, PATH, (NET1,), NO_POLICY, POD)
    bench.nothing_left()
    assert adopted(adopt(bench, NET1)) == ["eth1"]


@pytest.mark.parametrize("number", [1, 2])
def test_killed_at_each_step_of_adopt_nothing_is_taken_from_the_pod(number: int) -> None:
    bench = new_bench()
    lend_as_go_does(bench, bench.first, "net1")
    there = bench.first.link
    bench.world.kill_at(number)
    with pytest.raises(Killed):
        bench.engine.adopt(NRI, PATH, (NET1,), NO_POLICY, POD)
    bench.journal.locks.clear()
    assert bench.engine.recover() == ()
    bench.engine.adopt(NRI, PATH, (NET1,), NO_POLICY, POD)
    bench.engine.repin("nri")
    assert bench.first.link == there
    assert bench.journal.pins == {NRI.key: bench.world.paths[PATH]}
    home_again(bench)
