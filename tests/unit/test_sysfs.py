"""The sysfs view over a made-up tree, for what this machine has no hardware for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.sysfs import SysView

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NIC = "devices/pci0000:00/0000:00:1c.0/0000:03:00.0"
VIRTIO = "devices/pci0000:00/0000:00:05.0"


def link(root: Path, name: str, target: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("../" * (len(path.relative_to(root).parts) - 1) + target)


def netdev(root: Path, name: str, device: str) -> None:
    directory = root / device / "net" / name
    directory.mkdir(parents=True)
    (directory / "ifindex").write_text("7")
    link(root, f"class/net/{name}", f"{device}/net/{name}")


@pytest.fixture
def view(tmp_path: Path) -> Iterator[SysView]:
    netdev(tmp_path, "enp3s0f0", NIC)
    netdev(tmp_path, "enp3s0f1", NIC)
    netdev(tmp_path, "ens5", f"{VIRTIO}/virtio1")
    netdev(tmp_path, "veth0", "devices/virtual")
    (tmp_path / "class/net/bonding_masters").write_text("bond0\n")
    for name in ("enp3s0f0", "enp3s0f1"):
        link(tmp_path, f"{NIC}/net/{name}/device", NIC)
    link(tmp_path, f"{VIRTIO}/virtio1/net/ens5/device", f"{VIRTIO}/virtio1")
    link(tmp_path, "bus/pci/devices/0000:03:00.0", NIC)
    link(tmp_path, "bus/pci/devices/0000:00:05.0", VIRTIO)
    (tmp_path / "bus/pci/drivers/mlx5_core").mkdir(parents=True)
    link(tmp_path, f"{NIC}/driver", "bus/pci/drivers/mlx5_core")
    (tmp_path / "devices/virtual/net/veth0/upper_vlan7").mkdir()
    (tmp_path / "etc/net/secret").mkdir(parents=True)
    link(tmp_path, "devices/escape", "etc")
    (tmp_path / "devices/absolute").symlink_to("/etc")
    (tmp_path / "devices/far").symlink_to("../../../../../../etc")
    (tmp_path / "devices/card").mkdir()
    (tmp_path / "devices/card/net").symlink_to("../../etc/net")
    link(tmp_path, "devices/alias", NIC)
    link(tmp_path, "devices/alias2", "devices/alias")
    made = SysView.of_directory(str(tmp_path))
    yield made
    made.close()


def test_bus_and_driver(view: SysView) -> None:
    assert view.bus("enp3s0f0") == "0000:03:00.0"
    assert view.bus("ens5") == "0000:00:05.0"
    assert view.bus("veth0") is None
    assert view.driver("enp3s0f0") == "mlx5_core"
    assert view.driver("veth0") is None
    assert view.driver_of_bus("0000:03:00.0") == "mlx5_core"
    assert view.driver_of_bus("0000:ff:00.0") is None
    assert view.has_bus("0000:03:00.0")
    assert not view.has_bus("0000:ff:00.0")


def test_by_bus(view: SysView) -> None:
    assert view.by_bus("0000:03:00.0") == ("enp3s0f0", "enp3s0f1")
    assert view.by_bus("0000:00:05.0") == ("ens5",)
    assert view.by_bus("0000:ff:00.0") == ()


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (f"/sys/{NIC}", ("enp3s0f0", "enp3s0f1")),
        (f"/sys/{NIC}/net/enp3s0f1", ("enp3s0f1",)),
        (f"/sys/{VIRTIO}/virtio1", ("ens5",)),
        ("/sys/devices/virtual/net/veth0", ("veth0",)),
        ("/sys/class/net/veth0", ("veth0",)),
        ("/sys/devices/virtual/net/none", ()),
        ("/sys/devices", ()),
        ("/sys/devices/escape", ()),
        ("/sys/devices/escape/net", ()),
        ("/sys/devices/escape/net/secret", ()),
        ("/sys/devices/absolute", ()),
        ("/sys/devices/far", ()),
        ("/sys/devices/card", ()),
        ("/sys/devices/card/net/secret", ()),
        (f"/sys/{NIC}/", ("enp3s0f0", "enp3s0f1")),
        (f"/sys/{NIC}/net/enp3s0f1/", ("enp3s0f1",)),
        (f"/sys//{NIC}", ("enp3s0f0", "enp3s0f1")),
        (f"/sys/{NIC}/net/enp3s0f1/device", ("enp3s0f0", "enp3s0f1")),
        ("/sys/devices/alias", ("enp3s0f0", "enp3s0f1")),
        ("/sys/devices/alias2/net/enp3s0f1", ("enp3s0f1",)),
        (f"/sys/{NIC}\n", ()),
        (f"/sys/{NIC}/net/enp3s0f1/ifindex", ()),
        ("/sys/devices/" + "a/" * 300, ()),
        ("/sys/devices/../etc", ()),
        ("/etc", ()),
    ],
)
def test_by_kernel_path(view: SysView, path: str, names: tuple[str, ...]) -> None:
    assert view.by_kernel_path(path) == names


def test_a_circle_of_links_ends(view: SysView, tmp_path: Path) -> None:
    (tmp_path / "devices/round").symlink_to("round")
    assert view.by_kernel_path("/sys/devices/round") == ()


def test_uppers_and_inodes(view: SysView) -> None:
    assert view.uppers("veth0") == ("vlan7",)
    assert view.uppers("none") == ()
    seen = view.identity("veth0")
    assert seen is not None
    assert view.by_inode(seen[0]) == seen[1] == 7
    assert view.by_inode(1) is None
    assert view.identity("none") is None


def test_rdma_devices_that_may_be_over_a_link(view: SysView, tmp_path: Path) -> None:
    assert view.rdma("enp3s0f0") == ()
    for name, place in (("mlx5_0", NIC), ("far_0", VIRTIO), ("rxe0", "devices/virtual")):
        (tmp_path / place / "infiniband" / name).mkdir(parents=True)
        link(tmp_path, f"class/infiniband/{name}", f"{place}/infiniband/{name}")
    assert view.rdma_devices() == ["far_0", "mlx5_0", "rxe0"]
    assert view.rdma("enp3s0f0") == (("mlx5_0", False), ("rxe0", True))
    assert view.rdma("veth0") == (("rxe0", True),)


def test_the_phy_of_a_link_and_its_other_links(view: SysView, tmp_path: Path) -> None:
    """Two phys on one card, as some have."""
    card = "devices/pci0000:00/0000:00:07.0"
    for number, names in ((4, ("wlan0", "mon0")), (5, ("wlan1",))):
        phy = tmp_path / card / "ieee80211" / f"phy{number}"
        phy.mkdir(parents=True)
        (phy / "index").write_text(f"{number}\n")
        (phy / "name").write_text(f"phy{number}\n")
        for name in names:
            netdev(tmp_path, name, card)
            link(tmp_path, f"{card}/net/{name}/device", card)
            link(tmp_path, f"{card}/net/{name}/phy80211", f"{card}/ieee80211/{phy.name}")
    assert view.phy("wlan0") == (4, "phy4", ("mon0",))
    assert view.phy("wlan1") == (5, "phy5", ())
    link(tmp_path, "class/ieee80211/phy4", f"{card}/ieee80211/phy4")
    link(tmp_path, f"{card}/ieee80211/phy4/device", card)
    assert sorted(view.wlans(4) or ()) == ["mon0", "wlan0"]
    assert view.wlans(5) is None
    assert view.phy("enp3s0f0") is None
    assert view.phy("gone") is None
