"""The handlers over the real engine and the fake kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.core.annotations import KEYS
from cni_netdev.core.errors import (
    CannotApply,
    DeviceHeld,
    DeviceNotFound,
    Fault,
    KernelRefused,
    LockTimeout,
    NetdevError,
    OutOfTime,
    PolicyRefused,
    RequestError,
    StateError,
)
from cni_netdev.core.model import Owner
from cni_netdev.core.policy import Policy, parse_policy
from cni_netdev.core.restore import Release
from nri_plugin.limits import Limit
from nri_plugin.messages import PodSandbox
from tests.unit.nri.bench import KEY, NET1, POD, Nri, pod
from tests.workbench import OTHER_PATH, PATH, Bench, request

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

SAME_BY_CNI = request(new_name="net1", addresses=("192.168.2.2/24",))


# --- a pod starts ----------------------------------------------------------------------------


def test_run_attaches_what_the_annotation_asks_for(nri: Nri) -> None:
    nri.run(pod(NET1, {"name": "eth2"}))
    assert nri.in_pod() == ["net1", "eth2"]
    assert nri.bench.journal.kept[KEY].owner == Owner("nri", "", "c1", "", "hpc/name-c1")
    assert nri.metrics.counted == [("attached", "ok")]
    assert nri.metrics.gauges == {"lent": 2}
    line = nri.log.only("info")
    assert line.message == "attached"
    assert line.fields["devices"] == ["eth1 as net1", "eth2 as eth2"]
    assert (line.fields["pod"], line.fields["namespace"], line.fields["sandbox"]) == (
        "name-c1",
        "hpc",
        "c1",
    )


@pytest.mark.parametrize("netns", [PATH, ""])
def test_a_pod_that_asks_for_nothing_costs_nothing(nri: Nri, netns: str) -> None:
    quiet = pod(netns=netns)
    assert not nri.handlers.asks(quiet)
    nri.run(quiet)
    nri.run(quiet._replace(annotations={KEYS[0]: "null"}))
    nri.handlers.create(quiet, "main")
    nri.handlers.release(quiet)
    assert nri.bench.world.events == []
    assert (nri.metrics.counted, nri.log.lines) == ([], [])


def test_asks_and_holds(nri: Nri) -> None:
    assert nri.handlers.asks(POD)
    assert not nri.handlers.holds(POD)
    nri.run()
    assert nri.handlers.holds(POD)
    assert not nri.handlers.holds(pod(NET1, id_="c2"))


def test_run_again_changes_nothing(nri: Nri) -> None:
    nri.run()
    events = list(nri.bench.world.events)
    nri.run()
    assert nri.bench.world.events == events
    assert nri.in_pod() == ["net1"]


def test_the_hosts_network_is_refused(nri: Nri) -> None:
    error = nri.refused(pod(NET1, netns=""), RequestError)
    assert "leave out hostNetwork" in error.message
    assert nri.bench.world.events == []


def test_all_faults_of_a_request_are_told(nri: Nri) -> None:
    wrong = pod({"name": "eth1", "mtu": 5}, {"nam": "eth2"})
    error = nri.refused(wrong, RequestError)
    assert "[0].mtu: 5 is below 68" in error.message
    assert "[1].nam: unknown key; did you mean name?" in error.message
    assert nri.log.only("error").fields["error"] is error


@pytest.mark.parametrize(
    ("each", "error"),
    [
        (pod({"name": "none"}), DeviceNotFound),
        (pod({"name": "eth1", "mtu": 9001}), CannotApply),
        (pod(NET1, {"name": "none"}), DeviceNotFound),
    ],
)
def test_what_cannot_be_given_leaves_nothing(
    nri: Nri, each: PodSandbox, error: type[NetdevError]
) -> None:
    nri.refused(each, error)


def test_what_another_pod_holds(nri: Nri) -> None:
    nri.run()
    with pytest.raises(DeviceHeld, match="hpc/name-c1"):
        nri.run(pod(NET1, id_="c2", netns=OTHER_PATH))


def test_policy_is_asked_anew_for_each_pod(bench: Bench) -> None:
    policies = [parse_policy({"default": "deny"}), parse_policy({"default": "allow"})]
    nri = Nri(bench, lambda: policies.pop(0))
    nri.refused(POD, PolicyRefused)
    nri.run()
    assert nri.in_pod() == ["net1"]


def test_policy_sees_the_pods_namespace_and_labels(bench: Bench) -> None:
    rules = [{"allow": {"namespaces": ["hpc"], "labels": {"app": "x"}}}]
    policy = parse_policy({"default": "deny", "rules": rules})
    nri = Nri(bench, lambda: policy)
    nri.refused(POD._replace(labels={"app": "y"}), PolicyRefused)
    nri.refused(POD._replace(namespace="other"), PolicyRefused)
    nri.run()


def test_a_policy_that_cannot_be_read_gives_nothing(bench: Bench) -> None:
    def unreadable() -> Policy:
        raise RequestError((Fault("/etc/policy", "cannot be read"),))

    assert "cannot be read" in Nri(bench, unreadable).refused(POD, RequestError).message


def test_a_fault_of_ours_is_counted_too(nri: Nri, mocker: MockerFixture) -> None:
    mocker.patch.object(nri.bench.engine, "attach", side_effect=ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        nri.run()
    assert nri.metrics.counted == [("attached", "ZeroDivisionError")]


def test_details_are_logged(nri: Nri, mocker: MockerFixture) -> None:
    mocker.patch.object(nri.bench.engine, "attach", side_effect=CannotApply("taken", "rename"))
    with pytest.raises(CannotApply):
        nri.run()
    assert nri.log.only("error").fields["details"] == "rename"


# --- its time --------------------------------------------------------------------------------


class Ticking:
    """A clock that takes a while each time that it is asked."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._now = seconds, 0.0

    def __call__(self) -> float:
        self._now += self._seconds
        return self._now


class GivenUpAtTheEnd(Limit):
    """Its caller is told that time ran out just before the work is done."""

    def finish(self) -> bool:
        self.give_up()
        return super().finish()


def test_time_that_ran_out_before_the_start(nri: Nri) -> None:
    limit = Limit(2.0)
    limit.give_up()
    nri.refused(POD, OutOfTime, limit)
    assert nri.bench.world.events == []


@pytest.mark.parametrize("tick", [0.4, 0.45, 0.5])
def test_time_that_runs_out_on_the_way(nri: Nri, tick: float) -> None:
    nri.refused(POD, OutOfTime, Limit(2.0, Ticking(tick)))
    assert "journal write" in nri.bench.world.events, "it was begun"


def test_attached_too_late_is_taken_back(nri: Nri) -> None:
    before = nri.bench.at_home()
    with pytest.raises(OutOfTime):
        nri.run(POD, GivenUpAtTheEnd(60))
    assert nri.bench.at_home() == before
    nri.bench.nothing_left()
    assert nri.log.told("warn") == ["attached too late; taken back"]
    assert nri.metrics.counted == [("detached", "ok"), ("attached", "OutOfTime")]
    assert nri.metrics.gauges["lent"] == 0


def test_what_another_call_attached_is_not_taken_back(nri: Nri) -> None:
    """Of a second plugin beside this one, say: that call may have been answered."""
    Nri(nri.bench).run()
    with pytest.raises(OutOfTime):
        nri.run(POD, GivenUpAtTheEnd(60))
    assert nri.in_pod() == ["net1"]
    assert nri.bench.journal.kept[KEY].complete
    assert nri.log.told("warn") == []


# --- its containers --------------------------------------------------------------------------


def test_a_container_of_a_pod_that_has_its_devices(nri: Nri) -> None:
    nri.run()
    nri.handlers.create(POD, "main")


def refuse_create(nri: Nri, each: PodSandbox = POD) -> str:
    with pytest.raises(CannotApply, match="must not run without") as caught:
        nri.handlers.create(each, "main")
    assert nri.log.lines[-1].message == "container refused"
    assert nri.log.lines[-1].fields["container"] == "main"
    return caught.value.message


def test_a_container_of_a_pod_that_was_given_nothing(nri: Nri) -> None:
    message = refuse_create(nri, pod(NET1, {"name": "eth2"}))
    assert "name 'eth1'" in message or "eth1" in message
    assert "eth2" in message
    assert "'main'" in message


def test_a_container_of_a_pod_that_was_given_less(nri: Nri) -> None:
    nri.run()
    message = refuse_create(nri, pod(NET1, {"name": "eth2"}))
    assert "eth2" in message
    assert "eth1" not in message


@pytest.mark.parametrize("change", [{"complete": False}, {"boot_id": "earlier"}])
def test_a_record_that_does_not_count(nri: Nri, change: dict[str, Any]) -> None:
    nri.run()
    nri.bench.journal.kept[KEY] = nri.bench.journal.kept[KEY]._replace(**change)
    refuse_create(nri)


def test_anothers_record_does_not_count(nri: Nri) -> None:
    nri.run()
    refuse_create(nri, pod(NET1, id_="c2"))


def test_a_container_of_a_pod_with_a_wrong_annotation(nri: Nri) -> None:
    with pytest.raises(RequestError):
        nri.handlers.create(pod({"nam": "eth1"}), "main")


# --- beside the CNI plugin -------------------------------------------------------------------


def test_what_cni_attached_is_not_attached_again(nri: Nri) -> None:
    nri.bench.attach(SAME_BY_CNI)
    moved = list(nri.bench.world.events)
    nri.run()
    assert not any(event.startswith("move") for event in nri.bench.world.events[len(moved) :])
    assert any("already attached by cni" in message for message in nri.log.told("warn"))
    nri.handlers.create(POD, "main")
    nri.handlers.release(POD)
    assert nri.in_pod() == ["net1"], "it is cni's to take back"
    nri.bench.engine.detach(("cni", "c1", "eth0"))
    nri.bench.nothing_left()


def test_what_we_attached_is_not_attached_again_by_cni(nri: Nri) -> None:
    nri.run()
    owner = Owner("cni", "net", "c1", "eth0")
    args = (owner, PATH, (SAME_BY_CNI,), Policy(), nri.bench.kernel)
    attachment = nri.bench.engine.attach(*args)  # type: ignore[arg-type]
    assert attachment.record.devices == ()
    assert any("already attached by nri" in note for note in attachment.notes)
    nri.bench.engine.detach(owner.key)
    assert nri.in_pod() == ["net1"]


def test_what_cni_attached_by_another_request_does_not_count(nri: Nri) -> None:
    nri.bench.attach(request(new_name="other"))
    refuse_create(nri)
    with pytest.raises(DeviceHeld):
        nri.run()


# --- a pod ends ------------------------------------------------------------------------------


def test_release_brings_it_home(nri: Nri) -> None:
    before = nri.bench.at_home()
    nri.run()
    nri.handlers.release(POD)
    assert nri.bench.at_home() == before
    nri.bench.nothing_left()
    assert nri.metrics.counted == [("attached", "ok"), ("detached", "ok")]
    assert nri.metrics.gauges == {"lent": 0}
    line = nri.log.lines[-1]
    assert (line.level, line.message, line.fields["devices"]) == ("info", "detached", ("eth1",))
    assert (line.fields["pod"], line.fields["namespace"]) == ("name-c1", "hpc")


def test_release_goes_by_the_record_alone(nri: Nri) -> None:
    """Stop may come without annotations and namespace."""
    nri.run()
    nri.handlers.release(PodSandbox("c1"))
    nri.bench.nothing_left()


def test_release_again_is_quiet(nri: Nri) -> None:
    nri.run()
    nri.handlers.release(POD)
    lines = list(nri.log.lines)
    nri.handlers.release(POD)
    assert nri.log.lines == lines
    assert nri.metrics.counted == [("attached", "ok"), ("detached", "ok")]


def test_a_link_that_was_destroyed_is_told_and_counted(nri: Nri) -> None:
    nri.run(pod(NET1, {"name": "eth2"}))
    world = nri.bench.world
    del world.namespaces[world.paths[PATH]][nri.bench.first.ifindex]
    nri.handlers.release(POD)
    assert ("lost", 1) in nri.metrics.counted
    assert "eth1 is lost: it is neither on the host nor in the pod" in nri.log.told("warn")
    nri.handlers.release(POD)
    assert nri.metrics.counted.count(("lost", 1)) == 1


def test_a_name_that_was_given_away_is_told_and_counted(nri: Nri) -> None:
    nri.run()
    nri.bench.world.add_link("eth1")
    nri.handlers.release(POD)
    assert ("fell back", 1) in nri.metrics.counted
    assert any("eth1_0" in message for message in nri.log.told("warn"))


def test_what_is_still_away_is_told_and_counted(nri: Nri, mocker: MockerFixture) -> None:
    release = Release(Owner("nri", "", "c1", ""), (), ("eth1 is busy",), complete=False)
    mocker.patch.object(nri.bench.engine, "detach", return_value=release)
    nri.handlers.release(POD)
    assert nri.metrics.counted == [("detached", "incomplete")]
    assert nri.log.told() == ["something is still away, to be tried again", "eth1 is busy"]


@pytest.mark.parametrize(
    "error", [StateError("disk"), LockTimeout("locked"), KernelRefused("move", 16), ValueError("?")]
)
@pytest.mark.parametrize("method", ["has", "read", "lock", "records"])
def test_release_never_raises(
    nri: Nri, mocker: MockerFixture, error: Exception, method: str
) -> None:
    nri.run()
    mocker.patch.object(nri.bench.journal, method, side_effect=error)
    nri.handlers.release(POD)
    mocker.stopall()
    if method == "records":  # others' records: some errors are theirs alone
        return
    assert nri.metrics.counted[-1] == ("detached", type(error).__name__)
    assert nri.log.only("error").fields["error"] is error
    assert nri.handlers.holds(POD), "to be tried again"
    nri.handlers.release(POD)
    nri.bench.nothing_left()


# --- looking after it ------------------------------------------------------------------------


def test_a_pod_that_ended_meanwhile_comes_home(nri: Nri) -> None:
    before = nri.bench.at_home()
    nri.run()
    nri.bench.world.remove_path(PATH)
    nri.handlers.synchronize(())
    assert nri.bench.at_home() == before
    nri.bench.nothing_left()
    assert nri.metrics.gauges == {"lent": 0, "without": 0}
    detached = [line for line in nri.log.lines if line.message == "detached"]
    assert [line.fields["pod"] for line in detached] == ["name-c1"]


def test_a_pod_that_is_being_created_is_left_alone(nri: Nri) -> None:
    """The runtime does not list it yet; its namespace tells that it lives."""
    nri.run()
    nri.handlers.synchronize(())
    assert nri.in_pod() == ["net1"]
    assert nri.metrics.gauges["lent"] == 1


@pytest.mark.parametrize(("known", "at_home"), [((), True), ((POD,), False)])
def test_a_scan_that_was_refused_leaves_doubt_only_of_known_pods(
    nri: Nri, known: tuple[PodSandbox, ...], at_home: bool
) -> None:
    nri.run()
    nri.bench.world.remove_path(PATH)
    nri.bench.kernel.scan_refused = True
    nri.handlers.synchronize(known)
    assert (nri.bench.journal.kept == {}) is at_home


def test_what_cni_holds_is_not_judged_by_nris_list(nri: Nri) -> None:
    nri.bench.attach(SAME_BY_CNI)
    nri.bench.world.remove_path(PATH)
    nri.bench.kernel.scan_refused = True
    nri.handlers.synchronize(())
    assert ("cni", "c1", "eth0") in nri.bench.journal.kept


def test_running_pods_that_lack_their_devices_are_told_and_counted(nri: Nri) -> None:
    nri.run()
    lacking = pod({"name": "eth2"}, id_="c2", netns=OTHER_PATH)
    unreadable = pod({"nam": "eth2"}, id_="c3", netns=OTHER_PATH)
    ended = pod({"name": "eth2"}, id_="c4", netns="")
    nri.handlers.synchronize((POD, lacking, unreadable, ended, pod(id_="c5")))
    assert nri.metrics.gauges["without"] == 2
    lines = [line for line in nri.log.lines if line.message.startswith("a running pod lacks")]
    assert [line.fields["sandbox"] for line in lines] == ["c2", "c3"]
    assert "eth2" in lines[0].fields["devices"][0]
    assert "did you mean name?" in lines[1].fields["devices"][0]
    nri.handlers.synchronize((POD,))
    assert nri.metrics.gauges["without"] == 0


def test_pins_are_made_anew_in_a_new_container(nri: Nri) -> None:
    nri.run()
    nri.bench.journal.enter_new_mount_namespace()
    nri.handlers.synchronize((POD,))
    assert KEY in nri.bench.journal.pins
    nri.bench.journal.enter_new_mount_namespace()
    nri.bench.world.occupied.add(nri.bench.world.paths[PATH])
    nri.bench.world.paths[PATH] = nri.bench.world.host
    nri.handlers.synchronize((POD,))
    assert any("is not pinned here" in message for message in nri.log.told("warn"))


def by_the_go_injector(nri: Nri) -> None:
    """It moves, renames and writes the old name into the alias."""
    world, fake = nri.bench.world, nri.bench.first
    settings = fake.link.settings._replace(name="net1", alias="eth1")
    world.move(world.host, fake.ifindex, world.paths[PATH], settings)


def test_what_the_go_injector_lent_is_adopted_if_we_are_told_to(bench: Bench) -> None:
    nri = Nri(bench, adopt=True)
    by_the_go_injector(nri)
    nri.handlers.synchronize((POD,))
    assert KEY in bench.journal.kept
    assert nri.metrics.gauges["without"] == 0
    line = next(each for each in nri.log.lines if each.message.startswith("adopted"))
    assert line.fields["devices"] == ["eth1"]
    nri.handlers.release(POD)
    assert bench.kernel.host.link(name="eth1") is not None


def test_nothing_is_adopted_otherwise(nri: Nri) -> None:
    by_the_go_injector(nri)
    nri.handlers.synchronize((POD,))
    assert nri.bench.journal.kept == {}
    assert nri.metrics.gauges["without"] == 1


@pytest.mark.parametrize("wrong", [{}, {"nam": "eth1"}, {"name": "eth2"}])
def test_what_cannot_be_adopted_is_told_and_stops_nobody(
    bench: Bench, wrong: dict[str, Any]
) -> None:
    nri = Nri(bench, adopt=True)
    by_the_go_injector(nri)
    nri.handlers.synchronize((pod(wrong, id_="c2", netns=OTHER_PATH), POD))
    assert KEY in bench.journal.kept
    assert "not adopted" in nri.log.told("warn")


def test_looking_after_brings_home_what_the_dead_hold(nri: Nri) -> None:
    nri.run()
    nri.handlers.look_after()
    assert nri.in_pod() == ["net1"]
    nri.bench.world.remove_path(PATH)
    nri.handlers.look_after()
    nri.bench.nothing_left()
    assert ("detached", "ok") in nri.metrics.counted


@pytest.mark.parametrize("error", [StateError("disk"), ValueError("?")])
def test_looking_after_never_raises(nri: Nri, mocker: MockerFixture, error: Exception) -> None:
    mocker.patch.object(nri.bench.journal, "records", side_effect=error)
    nri.handlers.look_after()
    assert nri.log.only("error").fields["error"] is error


def test_many_dead_pods_are_brought_home_a_share_at_a_time(nri: Nri, mocker: MockerFixture) -> None:
    """Whatever waits for the worker has its turn in between."""
    before = nri.bench.at_home()
    nri.run()
    nri.run(pod({"name": "eth2"}, id_="c2", netns=OTHER_PATH))
    for path in (PATH, OTHER_PATH):
        nri.bench.world.remove_path(path)
    mocker.patch("nri_plugin.handlers._SHARE", -1.0)
    assert nri.handlers.look_after() is True
    assert len(nri.bench.journal.kept) == 1
    assert nri.handlers.look_after() is True
    assert nri.handlers.look_after() is False
    assert nri.bench.at_home() == before
    nri.bench.nothing_left()


def test_what_stays_away_is_told_once(nri: Nri, mocker: MockerFixture) -> None:
    stuck = Release(Owner("nri", "", "c1", ""), (), ("eth1 is busy",), complete=False)
    other = stuck._replace(notes=("eth1 is lost",))
    for release in (stuck, stuck, stuck, other):
        mocker.patch.object(nri.bench.engine, "recoveries", return_value=iter((release,)))
        nri.handlers.look_after()
    away = "something is still away, to be tried again"
    assert nri.log.told("warn") == [away, "eth1 is busy", away, "eth1 is lost"]
    assert nri.metrics.counted == [("detached", "incomplete")] * 2
