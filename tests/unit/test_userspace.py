"""PCI functions that a program has: reported under a name, held, checked, and never moved."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev import result
from cni_netdev.core.admission import look
from cni_netdev.core.devices import parse_devices
from cni_netdev.core.errors import CannotApply, DeviceHeld, DeviceNotFound, PolicyRefused
from cni_netdev.core.model import DeviceRequest, Selector, VirtualFunction
from cni_netdev.core.policy import Pod, parse_policy
from cni_netdev.core.sysfs import SysView
from cni_netdev.core.userspace import function, is_driver
from cni_netdev.core.vf import differing
from tests.fakes import FakeLink, Killed
from tests.unit.test_sysfs import link
from tests.unit.test_vfinfo import VF0
from tests.workbench import OTHER, OTHER_PATH, OWNER, PATH, POD, Bench, new_bench, request

if TYPE_CHECKING:
    from pathlib import Path

PF, BUS = "0000:3b:00.0", "0000:3b:02.1"
ASKED = (("trust", "on"), ("mac", "02:00:00:00:00:55"), ("vlan", "100"))


def asked(**wishes: object) -> DeviceRequest:
    plain = DeviceRequest(Selector("pci_address", BUS), where="devices[0]")
    return plain._replace(**wishes)  # type: ignore[arg-type]


@pytest.fixture
def bench() -> Bench:
    return with_function()


def with_function() -> Bench:
    made = new_bench()
    bound = FakeLink(function(BUS, "vfio-pci", 99))
    bound.vf = VirtualFunction(PF, 1, VF0)
    made.world.functions.append(bound)
    made.world.buses.add(BUS)
    return made


@pytest.mark.parametrize(
    ("driver", "is_one"),
    [
        ("vfio-pci", True),
        ("uio_pci_generic", True),
        ("igb_uio", True),
        ("mlx5_vfio_pci", True),
        ("igbvf", False),
        (None, False),
    ],
)
def test_whose_drivers_are_programs(driver: str | None, is_one: bool) -> None:
    assert is_driver(driver) == is_one


def test_it_is_reported_and_nothing_is_moved(bench: Bench) -> None:
    bench.attach(asked(new_name="net1"))
    assert not [each for each in bench.world.events if each.startswith(("move", "vf"))]
    record = bench.journal.kept[OWNER.key]
    told = result.with_devices("1.1.0", None, record, PATH, report_addresses=True)
    assert told == {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "net1", "sandbox": PATH, "pciID": BUS}],
    }
    assert bench.engine.check(OWNER.key, PATH, {}) == ()
    assert bench.engine.find(asked()) == "lent"
    release = bench.engine.detach(OWNER.key)
    assert release is not None
    assert (release.devices, release.notes, release.complete) == ((BUS,), (), True)
    bench.nothing_left()
    assert bench.engine.find(asked()) == "host"


def test_without_a_name_it_is_called_by_its_address(bench: Bench) -> None:
    bench.attach(asked(), request())
    record = bench.journal.kept[OWNER.key]
    told = result.with_devices("1.1.0", None, record, PATH, report_addresses=False)
    assert [each["name"] for each in told["interfaces"]] == [BUS, "eth1"]
    bench.attach(asked(), request())  # the same again gives the same
    bench.engine.detach(OWNER.key)
    bench.nothing_left()


def test_check_sees_that_it_is_bound_otherwise(bench: Bench) -> None:
    bench.attach(asked(new_name="net1"))
    (bound,) = bench.world.functions
    bound.link = bound.link._replace(driver="uio_pci_generic")
    said = f"net1: {BUS} is bound to uio_pci_generic instead of vfio-pci"
    assert bench.engine.check(OWNER.key, PATH, {}) == (said,)
    bench.world.functions.clear()
    said = f"net1: {BUS} is bound to no driver instead of vfio-pci"
    assert bench.engine.check(OWNER.key, PATH, {}) == (said,)
    bench.engine.detach(OWNER.key)
    bench.nothing_left()


def test_one_pod_has_it(bench: Bench) -> None:
    bench.attach(asked())
    with pytest.raises(DeviceHeld, match=f"{BUS} is held by c1/eth0"):
        bench.attach(asked(), owner=OTHER, path=OTHER_PATH)


def test_what_only_a_link_has_is_refused(bench: Bench) -> None:
    wishes: dict[str, object] = {"addresses": ("10.0.0.1/24",), "mtu": 1400, "keep_addresses": True}
    with pytest.raises(CannotApply) as refused:
        bench.attach(asked(**wishes))
    for key in wishes:
        assert f"devices[0].{key}: {BUS} has no link: driver vfio-pci" in str(refused.value)
    assert bench.world.events == []


def test_its_physical_function_sets_it_and_sets_it_back(bench: Bench) -> None:
    (bound,) = bench.world.functions
    bench.attach(asked(new_name="net1", vf=ASKED))
    assert bound.vf is not None
    assert differing(ASKED, bound.vf.settings) == ()
    record = bench.journal.kept[OWNER.key]
    (told,) = result.with_devices("1.1.0", None, record, PATH, report_addresses=False)["interfaces"]
    assert told["mac"] == "02:00:00:00:00:55"
    bench.kernel.host.set_virtual_function(PF, 1, (), (("vlan", "7"),))
    assert bench.engine.check(OWNER.key, PATH, {}) == ("net1: VF's vlan is 7 instead of 100",)
    bench.engine.detach(OWNER.key)
    assert bound.vf == VirtualFunction(PF, 1, VF0)


def test_killed_at_any_step_it_is_set_back() -> None:
    for number in range(1, 100):
        bench = with_function()
        before = bench.at_home()
        bench.world.kill_at(number)
        try:
            bench.attach(asked(vf=ASKED), request(new_name="net1"))
        except Killed:
            bench.journal.locks.clear()
        else:
            break
        bench.engine.detach(OWNER.key)
        assert bench.world.functions[0].vf == VirtualFunction(PF, 1, VF0), number
        assert bench.at_home() == before
        bench.nothing_left()
    assert number > len(ASKED)


def test_rules_judge_it(bench: Bench) -> None:
    policy = parse_policy({"rules": [{"deny": {"drivers": ["vfio-pci"], "pci": ["0000:3b:*"]}}]})
    wanted = (asked(source="annotation"),)
    with pytest.raises(PolicyRefused, match=rf"{BUS} stays on the host: policy.rules\[0\]"):
        bench.engine.attach(OWNER, PATH, wanted, policy, POD)
    (bound,) = bench.world.functions
    assert not look(bench.kernel.host, bound.link, "annotation", Pod(), policy).allowed


def test_it_is_looked_at_again_before_it_is_reported(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = bench.journal.write

    def bound_anew(record: Any) -> None:
        write(record)
        bench.world.functions.clear()

    monkeypatch.setattr(bench.journal, "write", bound_anew)
    with pytest.raises(DeviceNotFound):
        bench.engine.attach(OWNER, PATH, (asked(vf=ASKED),), parse_policy({}), POD)
    assert not [each for each in bench.world.events if each.startswith("vf")]
    bench.nothing_left()


def test_the_request_is_the_same_whatever_its_driver_is() -> None:
    (read,) = parse_devices([{"pci_address": "3b:02.1"}], "config", "devices")
    assert read.wish == asked().wish


# --- sysfs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "is_one"), [("0x020000", True), ("0x030000", False), ("", False)]
)
def test_a_network_function_is_known_by_its_class(
    tmp_path: Path, number: str, is_one: bool
) -> None:
    place = tmp_path / "devices" / BUS
    place.mkdir(parents=True)
    (place / "class").write_text(f"{number}\n")
    link(tmp_path, f"bus/pci/devices/{BUS}", f"devices/{BUS}")
    with closing(SysView.of_directory(str(tmp_path))) as view:
        assert view.network_function(BUS) == (place.stat().st_ino if is_one else 0)
        assert view.network_function("0000:00:00.0") == 0
