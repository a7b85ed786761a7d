"""The host's programs off a lent link while it is away: held meanwhile, and back on it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from cni_netdev.core.devices import parse_devices
from cni_netdev.core.errors import CannotApply, KernelRefused, PolicyRefused, RequestError
from cni_netdev.core.model import Filter, Qdisc
from cni_netdev.core.policy import parse_policy
from tests.fakes import Killed
from tests.workbench import OWNER, PATH, POD, Bench, new_bench, request, tamper

CLSACT = Qdisc("clsact", 0xFFFF0000, 0xFFFFFFF1, "")
FILTERS = [Filter(0xFFFFFFF2, 1, 10 << 16, 24, "a"), Filter(0xFFFFFFF3, 1, 10 << 16, 22, "b")]
TCX = [("ingress", 21), ("ingress", 22), ("egress", 23)]


@pytest.fixture
def bench() -> Bench:
    return with_programs()


def with_programs() -> Bench:
    made = new_bench()
    made.first.link = made.first.link._replace(xdp=(("skb", 20),))
    made.first.tcx = list(TCX)
    made.first.qdiscs.append(CLSACT)
    made.first.filters = list(FILTERS)
    return made


def attach(bench: Bench) -> None:
    bench.attach(request(new_name="net1", ebpf="detach"))


def test_the_pod_has_it_without_them_and_the_host_gets_it_with_them(bench: Bench) -> None:
    before = bench.at_home()
    attach(bench)
    assert (bench.first.link.xdp, bench.first.tcx) == ((), [])
    inode = bench.first.link.identity.inode
    assert bench.world.held == {(inode, program) for program in range(20, 25)}
    assert bench.engine.check(OWNER.key, PATH, {}) == ()
    bench.first.tcx = [("egress", 23)]
    assert bench.engine.check(OWNER.key, PATH, {}) == ("net1 has the host's program 23",)
    tamper(bench.first)
    bench.engine.detach(OWNER.key)
    assert bench.at_home() == before
    assert bench.world.held == set()


def test_they_are_held_before_they_go(bench: Bench) -> None:
    attach(bench)
    told = [each.partition(" ")[0] for each in bench.world.events]
    steps = [each for each in told if each in ("journal", "hold", "detach", "move")]
    assert steps == ["journal", *["hold"] * 5, *["detach"] * 4, "move", "journal"]


@pytest.mark.parametrize(
    "more", [FILTERS[0]._replace(program=0), None], ids=["no program", "not asked for"]
)
def test_what_would_be_lost_guards_the_link(bench: Bench, more: Filter | None) -> None:
    if more:
        bench.first.filters.append(more)
    with pytest.raises(PolicyRefused, match="tc filters of the host"):
        bench.attach(request(new_name="net1", ebpf="detach" if more else ""))
    assert bench.world.events == []


def test_filters_are_there_before_the_link_is_up(bench: Bench) -> None:
    attach(bench)
    bench.engine.detach(OWNER.key)
    told = bench.world.events
    filters = [at for at, each in enumerate(told) if each.startswith("filter")]
    assert len(filters) == len(FILTERS)
    ups = [at for at, each in enumerate(told) if each.startswith("change")]
    assert max(ups) > max(filters)


def test_without_that_wish_they_stay(bench: Bench) -> None:
    bench.first.qdiscs.remove(CLSACT)
    bench.first.filters = []
    bench.attach(request(new_name="net1"))
    assert (bench.first.link.xdp, bench.first.tcx) == ((("skb", 20),), TCX)
    assert bench.world.held == set()


@pytest.mark.parametrize("missing", [[0], [1], [0, 1], [2], [0, 1, 2]])
def test_what_a_pod_took_off_comes_back_in_its_place(bench: Bench, missing: list[int]) -> None:
    bench.first.qdiscs.remove(CLSACT)
    bench.first.filters = []
    before = bench.at_home()
    bench.attach(request(new_name="net1"))
    bench.first.tcx = [each for at, each in enumerate(TCX) if at not in missing]
    bench.engine.detach(OWNER.key)
    assert bench.at_home() == before


def test_what_cannot_be_made_again_is_refused_before_anything_is_changed(bench: Bench) -> None:
    bench.world.linked = {20, 21}
    with pytest.raises(CannotApply) as refused:
        attach(bench)
    for program in (20, 21):
        said = f"devices[0].ebpf: program {program} of eth1 is on a bpf_link"
        assert said in str(refused.value)
    assert bench.world.events == []


def test_what_does_not_come_back_is_told_and_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach(bench)

    def refuse(*_: object) -> None:
        raise KernelRefused("attach XDP", errno.EINVAL)

    monkeypatch.setattr("tests.fakes.FakeNetns.attach_xdp", refuse)
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert release.complete
    assert "eth1: its programs stay in /sys/fs/bpf/cni-netdev" in release.notes
    assert (bench.first.link.identity.inode, 20) in bench.world.held


def test_killed_at_any_step_they_are_put_back() -> None:
    for number in range(1, 100):
        bench = with_programs()
        before = bench.at_home()
        bench.world.kill_at(number)
        try:
            attach(bench)
            bench.engine.detach(OWNER.key)
        except Killed:
            bench.journal.locks.clear()
        else:
            break
        bench.engine.detach(OWNER.key)
        assert bench.at_home() == before, number
        assert bench.world.held == set(), number
        bench.nothing_left()
    assert number > 2 * len(TCX)


def test_of_a_lost_link_nothing_is_held(bench: Bench) -> None:
    attach(bench)
    where = bench.world.where(bench.first.link.identity.inode)
    assert where is not None
    del bench.world.namespaces[where[0]][bench.first.ifindex]
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert release.lost == 1
    assert bench.world.held == set()


def test_a_tenant_takes_them_off_only_where_a_rule_grants_it(bench: Bench) -> None:
    wanted = (request(source="annotation", ebpf="detach"),)
    with pytest.raises(PolicyRefused, match="does not grant ebpf"):
        bench.engine.attach(OWNER, PATH, wanted, parse_policy({}), POD)
    granting = parse_policy({"rules": [{"allow": {"grants": ["ebpf"]}}]})
    bench.engine.attach(OWNER, PATH, wanted, granting, POD)


@pytest.mark.parametrize("value", ["off", True, "Detach", 1])
def test_there_is_one_such_wish(value: Any) -> None:
    with pytest.raises(RequestError, match="must be detach"):
        parse_devices([{"name": "nic1", "ebpf": value}], "config", "devices")
