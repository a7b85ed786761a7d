"""PCI network cards with real drivers: the kernel itself takes them out of a dead namespace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.core import ethtool
from tests.host import run
from tests.injector import KEY, NriPlugin
from tests.linkstate import capture, differences
from tests.nri_runtime import GoRuntime, pod
from tests.vm import cni
from tests.vm.cards import card
from tests.vm.limits import PATIENT
from tests.vm.test_kinds import TAMPER, configure
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host
    from tests.vm.cards import Card

pytestmark = pytest.mark.vm


@pytest.fixture
def vfs() -> Iterator[Path]:
    """Two VFs of the igb; gives its directory below /sys/devices."""
    place = Path(card("igb").path)
    configure([f"link set {card('igb').name} up"])
    (place / "sriov_numvfs").write_text("2")
    # Making them takes the carrier away, and without a speed it takes no rate.
    carrier = Path("/sys/class/net", card("igb").name, "carrier")
    until(lambda: carrier.read_text() == "1\n", lambda: carrier)
    yield place
    (place / "sriov_numvfs").write_text("0")


def prepared(link: Card) -> dict[str, object]:
    configure(
        (
            f"link set {link.name} mtu 1400 alias of-the-host up",
            f"addr add 10.1.0.1/24 dev {link.name}",
            f"route add 172.1.0.0/16 via 10.1.0.254 dev {link.name} proto 99",
        )
    )
    # The kernel makes a link-local address when the carrier comes.
    until(lambda: capture(link.name)["link-local"], lambda: capture(link.name))
    return capture(link.name)


def see_that_it_is_as_it_was(guest: Host, link: Card, before: dict[str, object]) -> None:
    """Now, or when it has its carrier again."""

    def trouble() -> list[str]:
        if link.name not in guest.names():
            return [f"no {link.name} among {guest.names()}"]
        after = capture(link.name)
        # igbvf takes any MAC that it is given for the permanent one too; nothing sets that back.
        after["link"].pop("permaddr", None)
        return differences(before, after) + guest.left_over()

    until(lambda: not trouble(), trouble)


def selectors(link: Card) -> dict[str, dict[str, object]]:
    return {
        "pci_address": {"pci_address": link.bus},
        "kernel_path": {"kernel_path": link.path},
        "hwaddr": {"hwaddr": link.mac},
    }


@pytest.mark.parametrize(
    ("driver", "selector"),
    [
        ("e1000e", "pci_address"),
        ("e1000e", "kernel_path"),
        ("e1000e", "hwaddr"),
        ("virtio_net", "pci_address"),
        ("igb", "pci_address"),
    ],
)
def test_it_comes_home_when_its_namespace_is_gone(guest: Host, driver: str, selector: str) -> None:
    link = card(driver)
    before = prepared(link)
    inside = guest.pod()
    asked = {**selectors(link)[selector], "new_name": "fast0", "address": "192.168.2.2/24"}
    result = cni.add(inside, asked).ok()
    assert result["interfaces"][0].get("pciID") == link.bus
    assert inside.addresses("fast0") == ["192.168.2.2/24"]
    tampering = ("link set fast0 down", "link set fast0 name mine mtu 1300 alias forged")
    configure(tampering, inside.name)
    inside.delete()
    assert guest.netdevctl("recover").code == 0
    see_that_it_is_as_it_was(guest, link, before)


@pytest.mark.parametrize("driver", ["e1000e", "virtio_net"])
def test_it_comes_home_from_a_living_namespace(guest: Host, driver: str) -> None:
    link = card(driver)
    before = prepared(link)
    inside = guest.pod()
    cni.add(inside, {"pci_address": link.bus, "new_name": "net1", "mtu": 1300}).ok()
    configure([each for each in TAMPER if "nic1alt" not in each], inside.name)
    cni.delete(inside).ok()
    see_that_it_is_as_it_was(guest, link, before)


def test_it_comes_home_from_under_the_name_that_the_kernel_gave_it(guest: Host) -> None:
    """dev<ifindex>, when its namespace dies and its name in there is another link's on the host."""
    link = card("e1000e")
    before = prepared(link)
    inside = guest.pod()
    cni.add(inside, {"pci_address": link.bus, "new_name": "fast0"}).ok()
    guest.ip("link add fast0 type dummy")
    inside.delete()
    until(lambda: any(name.startswith("dev") for name in guest.names()), guest.names)
    assert guest.netdevctl("recover").code == 0
    see_that_it_is_as_it_was(guest, link, before)
    assert "fast0" in guest.names()


@pytest.mark.usefixtures("vfs")
def test_a_vf_goes_and_comes_home(guest: Host) -> None:
    link = card("igbvf")
    before = prepared(link)
    inside = guest.pod()
    cni.add(inside, {"pci_address": link.bus, "new_name": "vf0", "mac": "02:00:00:00:00:77"}).ok()
    assert inside.json("link show vf0")[0]["address"] == "02:00:00:00:00:77"
    inside.delete()
    cni.delete(inside).ok()
    see_that_it_is_as_it_was(guest, link, before)


OF_VF = {
    "spoofchk": "off",
    "trust": "on",
    "mac": "02:00:00:00:00:66",
    "vlan": 100,
    "qos": 3,
    "max_tx_rate": 100,
}


def told_of_vfs() -> list[dict[str, Any]]:
    """As iproute2 has it of the igb."""
    (told,) = json.loads(run("ip", "-j", "link", "show", card("igb").name))
    found: list[dict[str, Any]] = told["vfinfo_list"]
    return found


@pytest.mark.usefixtures("vfs")
@pytest.mark.parametrize("end", ["detach", "namespace gone"])
def test_what_the_host_sets_of_a_vf_goes_with_it_and_comes_back(guest: Host, end: str) -> None:
    link = card("igbvf")
    before, of_vfs = prepared(link), told_of_vfs()
    inside = guest.pod()
    cni.add(inside, {"pci_address": link.bus, "new_name": "vf0", "vf": OF_VF}).ok()
    assert inside.json("link show vf0")[0]["address"] == OF_VF["mac"]
    told, other = told_of_vfs()
    assert other == of_vfs[1]
    assert (told["address"], told["trust"], told["spoofchk"]) == (OF_VF["mac"], True, False)
    assert told["vlan_list"] == [{"vlan": 100, "qos": 3}]
    assert told["rate"]["max_tx"] == 100
    cni.check(inside, {"pci_address": link.bus, "new_name": "vf0", "vf": OF_VF}).ok()
    configure([f"link set {card('igb').name} vf 0 vlan 7"])
    _, differs = cni.check(inside, {"pci_address": link.bus, "vf": OF_VF}).error()
    assert "vf0: VF's vlan is 7 instead of 100" in differs
    if end == "namespace gone":
        inside.delete()
    cni.delete(inside).ok()
    assert told_of_vfs() == of_vfs
    see_that_it_is_as_it_was(guest, link, before)


@pytest.mark.usefixtures("vfs")
def test_what_its_driver_does_not_take_is_undone(guest: Host) -> None:
    link = card("igbvf")
    before, of_vfs = prepared(link), told_of_vfs()
    asked = {**OF_VF, "link_state": "disable"}
    code, told = cni.add(guest.pod(), {"pci_address": link.bus, "vf": asked}).error()
    assert code == 104
    assert "to link_state disable: Operation not supported" in told
    assert told_of_vfs() == of_vfs
    see_that_it_is_as_it_was(guest, link, before)


def test_of_a_vf_that_is_taken_away_nothing_is_set_any_more(guest: Host, vfs: Path) -> None:
    link = card("igbvf")
    of_vfs = [{**each, "address": ""} for each in told_of_vfs()]  # which are made up each time
    inside = guest.pod()
    cni.add(inside, {"pci_address": link.bus, "new_name": "vf0", "vf": OF_VF}).ok()
    (vfs / "sriov_numvfs").write_text("0")
    cni.delete(inside).ok()
    assert guest.left_over() == []
    (vfs / "sriov_numvfs").write_text("2")
    assert [{**each, "address": ""} for each in told_of_vfs()] == of_vfs


def test_only_a_vf_has_what_is_set_of_one(guest: Host) -> None:
    link = card("e1000e")
    code, told = cni.add(guest.pod(), {"pci_address": link.bus, "vf": {"trust": "on"}}).error()
    assert code == 104
    assert "is no SR-IOV virtual function" in told


@pytest.mark.parametrize(
    ("driver", "asked"),
    [
        (
            "igb",
            {
                "rings": {"rx": 512, "tx": 1024},
                "channels": {"combined": 1},
                "coalesce": {"rx-usecs": 10},
                "private_flags": {"legacy-rx": "on"},
                "features": {"tso": "off", "rxvlan": "off"},
            },
        ),
        ("e1000e", {"rings": {"rx": 512}, "features": {"rx-all": "on"}}),
    ],
)
def test_what_ethtool_sets_goes_with_a_card_and_comes_back(
    guest: Host, driver: str, asked: dict[str, object]
) -> None:
    link = card(driver)
    configure([f"link set {link.name} up"])
    before = ethtool.read(link.name)
    inside = guest.pod()
    device: dict[str, object] = {"pci_address": link.bus, "new_name": "fast0", "ethtool": asked}
    cni.add(inside, device).ok()
    cni.check(inside, device).ok()
    inside.delete()
    cni.delete(inside).ok()
    assert ethtool.read(link.name) == before
    assert guest.left_over() == []


def test_a_vf_of_a_driver_in_user_space_stays_where_it_is(guest: Host, vfs: Path) -> None:
    bus = (vfs / "virtfn1").resolve().name
    device = Path("/sys/bus/pci/devices", bus)
    (device / "driver_override").write_text("vfio-pci")
    (device / "driver" / "unbind").write_text(bus)
    Path("/sys/bus/pci/drivers_probe").write_text(bus)
    before, inside = told_of_vfs(), guest.pod()
    asked: dict[str, object] = {"pci_address": bus, "new_name": "vf1", "vf": {"vlan": 100}}
    result = cni.add(inside, asked).ok()
    assert result["interfaces"] == [{"name": "vf1", "sandbox": inside.path, "pciID": bus}]
    assert (device / "driver").resolve().name == "vfio-pci"
    assert told_of_vfs()[1]["vlan_list"] == [{"vlan": 100}]
    cni.check(inside, asked).ok()
    (device / "driver" / "unbind").write_text(bus)
    code, differs = cni.check(inside, asked).error()
    assert code == 106
    assert f"vf1: {bus} is bound to no driver instead of vfio-pci" in differs
    cni.delete(inside).ok()
    assert told_of_vfs() == before
    assert guest.left_over() == []


def test_the_nri_plugin_notices_by_itself_that_a_namespace_is_gone(guest: Host) -> None:
    link = card("e1000e")
    before = prepared(link)
    inside = guest.pod()
    with (
        GoRuntime(guest.directory, **PATIENT) as runtime,
        NriPlugin(guest, runtime.socket),
    ):
        runtime.wait_for("plugins", timeout=300, count=1)
        runtime.run(
            pod("one", {KEY: f"- {{name: {link.name}, new_name: fast0}}"}, netns=inside.path)
        )
        inside.ip("link set fast0 name mine")
        inside.delete()
        see_that_it_is_as_it_was(guest, link, before)
