"""RDMA devices: which go along with their link, what becomes of the others, all of them home."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.errors import CannotApply, NetdevError
from tests.fakes import Killed, World
from tests.workbench import NO_POLICY, OWNER, PATH, POD, Bench, new_bench, request

if TYPE_CHECKING:
    from cni_netdev.core.engine import Attachment
    from tests.fakes import FakeRdma


def hardware(bench: Bench, *, kind: str | None = None) -> FakeRdma:
    """In exclusive mode, over the first link."""
    bench.world.rdma_shared = False
    bench.first.link = bench.first.link._replace(kind=kind)
    return bench.world.add_rdma(bench.first, "mlx5_0")


def attach(bench: Bench, *, rdma: bool | None = None) -> Attachment:
    wish = request(new_name="net1", rdma=rdma)
    return bench.engine.attach(OWNER, PATH, (wish,), NO_POLICY, POD)


def seen_on_the_host(world: World) -> list[tuple[str, str]]:
    """Name and driver in software."""
    devices = [each for each in world.rdma if world.rdma_shared or each.cookie == world.host]
    return sorted((each.device.name, each.device.soft) for each in devices)


@pytest.mark.parametrize("rdma", [True, None])
def test_hardwares_goes_along_in_exclusive_mode_and_comes_home(
    bench: Bench, rdma: bool | None
) -> None:
    device = hardware(bench)
    assert attach(bench, rdma=rdma).notes == ()
    assert device.cookie == bench.world.paths[PATH]
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert (release.notes, release.complete) == ((), True)
    assert seen_on_the_host(bench.world) == [("mlx5_0", "")]
    bench.nothing_left()


def test_false_leaves_it_on_the_host(bench: Bench) -> None:
    device = hardware(bench)
    assert attach(bench, rdma=False).notes == ()
    assert device.cookie == bench.world.host
    bench.engine.detach(OWNER.key)
    bench.nothing_left()


def test_a_driver_that_cannot_move_it_is_told_or_refuses(bench: Bench) -> None:
    hardware(bench).movable = False
    before = bench.at_home()
    with pytest.raises(CannotApply, match="move mlx5_0"):
        attach(bench, rdma=True)
    assert bench.at_home() == before
    bench.nothing_left()
    assert attach(bench).notes == (
        "RDMA device mlx5_0 of eth1 stays on the host: the driver of mlx5_0 cannot move it",
    )


def test_in_shared_mode_nothing_moves(bench: Bench) -> None:
    device = bench.world.add_rdma(bench.first, "mlx5_0")
    (note,) = attach(bench, rdma=True).notes
    assert note == "RDMA device mlx5_0 of eth1 is seen everywhere (shared mode)"
    assert device.cookie == bench.world.host
    bench.engine.detach(OWNER.key)
    assert attach(bench).notes == ()


def refused(bench: Bench) -> str:
    before, events = bench.at_home(), len(bench.world.events)
    with pytest.raises(CannotApply) as raised:
        attach(bench, rdma=True)
    assert bench.at_home() == before
    assert len(bench.world.events) == events, "something changed"
    return raised.value.message


def test_what_has_no_device_is_refused(bench: Bench) -> None:
    assert refused(bench) == "devices[0].rdma: eth1 has none; see `rdma link`"


def test_a_device_that_serves_other_links_stays(bench: Bench) -> None:
    device = hardware(bench)
    device.device = device.device._replace(alone=False)
    reason = "mlx5_0 serves other links too, which need it here"
    assert refused(bench) == f"devices[0].rdma: {reason}"
    assert attach(bench).notes == (f"RDMA device mlx5_0 of eth1 stays on the host: {reason}",)
    assert device.cookie == bench.world.host


def test_in_exclusive_mode_software_is_of_no_use_in_a_pod(bench: Bench) -> None:
    bench.world.rdma_shared = False
    bench.world.add_rdma(bench.first, "rxe0", "rxe")
    assert "rxe0 is made in software (rxe): it needs shared mode" in refused(bench)


@pytest.mark.parametrize("shared", [True, False])
def test_software_ends_with_the_move_and_is_made_again_at_home(bench: Bench, shared: bool) -> None:
    bench.world.rdma_shared = shared
    bench.world.add_rdma(bench.first, "rxe0", "rxe")
    (note,) = attach(bench).notes
    assert note == "RDMA device rxe0 ended as eth1 moved: made again at home"
    assert bench.world.rdma == []
    bench.engine.detach(OWNER.key)
    assert seen_on_the_host(bench.world) == [("rxe0", "rxe")]
    bench.nothing_left()


def test_software_is_made_in_the_pod_that_asks_for_it(bench: Bench) -> None:
    bench.world.add_rdma(bench.first, "rxe0", "rxe")
    (note,) = attach(bench, rdma=True).notes
    assert note == "RDMA device rxe0 ended as eth1 moved: made again here and at home"
    (inside,) = bench.kernel.open(PATH).rdma(bench.first.link)
    assert (inside.name, inside.soft) == ("rxe0", "rxe")
    bench.engine.detach(OWNER.key)
    assert seen_on_the_host(bench.world) == [("rxe0", "rxe")]


def test_check_tells_of_one_that_is_gone(bench: Bench) -> None:
    bench.world.add_rdma(bench.first, "rxe0", "rxe")
    attach(bench, rdma=True)
    assert bench.engine.check(OWNER.key, PATH, {}) == ()
    bench.world.rdma.clear()
    assert bench.engine.check(OWNER.key, PATH, {}) == ("net1 has lost its RDMA device",)


def test_what_a_pod_called_it_is_undone(bench: Bench) -> None:
    device = hardware(bench)
    attach(bench)
    device.device = device.device._replace(name="mine")
    bench.engine.detach(OWNER.key)
    assert seen_on_the_host(bench.world) == [("mlx5_0", "")]


def test_a_driver_loaded_anew_gives_it_another_number(bench: Bench) -> None:
    device = hardware(bench)
    attach(bench)
    device.device = device.device._replace(number=99, name="mlx5_1")
    bench.engine.detach(OWNER.key)
    assert seen_on_the_host(bench.world) == [("mlx5_0", "")]


def test_it_is_found_where_a_pod_hid_it(bench: Bench) -> None:
    device = hardware(bench)
    attach(bench)
    device.cookie = bench.world.add_namespace("/hidden")
    bench.world.occupied.add(device.cookie)
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert release.complete
    assert device.cookie == bench.world.host


def test_one_that_is_gone_is_told_and_keeps_nothing(bench: Bench) -> None:
    hardware(bench)
    attach(bench)
    bench.world.rdma.clear()
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    lost = "RDMA device mlx5_0 of eth1 is lost: no namespace that is seen here has it"
    assert (release.notes, release.complete) == ((lost,), True)
    bench.nothing_left()


def test_one_that_cannot_come_yet_stays_on_record(bench: Bench) -> None:
    device = hardware(bench)
    attach(bench)
    device.movable = False
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert not release.complete
    assert "RDMA device mlx5_0 of eth1 is still away" in release.notes[0]
    assert bench.first.ifindex in bench.world.namespaces[bench.world.host]
    device.movable = True
    assert bench.engine.detach(OWNER.key) is not None
    assert seen_on_the_host(bench.world) == [("mlx5_0", "")]
    bench.nothing_left()


def test_the_namespace_is_gone_first(bench: Bench) -> None:
    device = hardware(bench)
    attach(bench)
    bench.world.remove_path(PATH)
    bench.engine.detach(OWNER.key)
    assert device.cookie == bench.world.host
    bench.nothing_left()


def a_round(bench: Bench) -> None:
    attach(bench, rdma=True)
    bench.engine.detach(OWNER.key)


def events_of_a_round(soft: str) -> int:
    bench = prepared(soft)
    a_round(bench)
    return len(bench.world.events)


def prepared(soft: str) -> Bench:
    bench = new_bench()
    bench.world.rdma_shared = bool(soft)
    bench.world.add_rdma(bench.first, "dev0", soft)
    return bench


@pytest.mark.parametrize("soft", ["", "rxe"])
def test_killed_anywhere_a_further_detach_brings_it_home(soft: str) -> None:
    for number in range(1, events_of_a_round(soft) + 1):
        bench = prepared(soft)
        before = bench.at_home()
        bench.world.kill_at(number)
        with pytest.raises(Killed):
            a_round(bench)
        bench.journal.locks.clear()
        bench.engine.detach(OWNER.key)
        assert bench.at_home() == before, number
        assert seen_on_the_host(bench.world) == [("dev0", soft)], number
        bench.nothing_left()


@pytest.mark.parametrize("soft", ["", "rxe"])
def test_refused_anywhere_all_is_undone_or_retried(soft: str) -> None:
    for number in range(1, events_of_a_round(soft) + 1):
        bench = prepared(soft)
        before = bench.at_home()
        bench.world.fail_at(number, errno.EBUSY)
        with suppress(NetdevError):
            a_round(bench)
        bench.engine.detach(OWNER.key)
        assert bench.at_home() == before, number
        assert seen_on_the_host(bench.world) == [("dev0", soft)], number
        bench.nothing_left()
