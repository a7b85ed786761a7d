"""RDMA over a lent link: on a kernel with rdma_rxe, which makes it in software over any link.

No driver here can move its device in exclusive mode: hardware's can.  What becomes of such a device
is held by the engine's tests over the fake kernel, the request for its move by test_nldev, and here
by the answer that the kernel gives to the driver's inability.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.kernel import SystemKernel
from tests.host import run
from tests.linkstate import capture, differences
from tests.vm import cni
from tests.vm.cards import card
from tests.vm.test_kinds import CONFIGURE, TAMPER, configure
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host

pytestmark = pytest.mark.vm


def devices(namespace: str = "") -> list[tuple[str, str]]:
    """(device, link) of each port that the namespace sees."""
    into = ["ip", "netns", "exec", namespace] if namespace else []
    ports = json.loads(run(*into, "rdma", "-j", "link"))
    return [(each["ifname"], each.get("netdev", "")) for each in ports]


def mode(name: str) -> None:
    """The kernel changes it only while there is no other namespace, and they die slowly."""

    def done() -> bool:
        try:
            run("rdma", "system", "set", "netns", name)
        except AssertionError:
            return False
        return True

    until(done, lambda: f"mode {name}")


@pytest.fixture(autouse=True)
def rdma(guest: Host) -> Iterator[None]:
    """rdma_rxe loaded, and a link with a device over it; in shared mode, also afterwards."""
    run("modprobe", "rdma_rxe")
    guest.ip("link add nic1 type dummy")
    run("rdma", "link", "add", "fast", "type", "rxe", "netdev", "nic1")
    yield
    for each in devices():
        run("rdma", "link", "delete", each[0])
    for pod in Path("/run/netns").iterdir():
        run("ip", "netns", "delete", pod.name)
    mode("shared")


@pytest.mark.parametrize("end", ["returned", "its namespace destroyed first"])
@pytest.mark.parametrize("asked", [None, True])
def test_a_device_in_software_is_home_again(guest: Host, asked: bool | None, end: str) -> None:
    configure(CONFIGURE)
    before = capture("nic1")
    pod = guest.pod()
    wish = {} if asked is None else {"rdma": asked}
    cni.add(pod, {"name": "nic1", "new_name": "net1", **wish}).ok()
    assert devices(pod.name) == ([("fast", "net1")] if asked else [])
    configure(TAMPER, pod.name)
    if end != "returned":
        pod.delete()
    cni.delete(pod).ok()
    assert devices() == [("fast", "nic1")]
    assert differences(before, capture("nic1")) == []
    assert guest.left_over() == []


def test_one_that_the_pod_took_away_is_home_again(guest: Host) -> None:
    pod = guest.pod()
    cni.add(pod, {"name": "nic1", "rdma": True}).ok()
    run("ip", "netns", "exec", pod.name, "rdma", "link", "delete", "fast")
    cni.delete(pod).ok()
    assert devices() == [("fast", "nic1")]


def test_one_under_its_name_keeps_it_and_that_is_told(
    guest: Host, capfd: pytest.CaptureFixture[str]
) -> None:
    guest.ip("link add nic2 type dummy")
    pod = guest.pod()
    cni.add(pod, {"name": "nic1"}).ok()
    run("rdma", "link", "add", "fast", "type", "rxe", "netdev", "nic2")
    cni.delete(pod).ok()
    assert devices() == [("fast", "nic2")]
    assert "there is another fast" in capfd.readouterr().err
    assert "nic1" in guest.names()
    assert guest.left_over() == []


def test_over_a_card_of_hardware(guest: Host) -> None:
    link = card("e1000e")
    run("rdma", "link", "add", "faster", "type", "rxe", "netdev", link.name)
    pod = guest.pod()
    cni.add(pod, {"pci_address": link.bus, "new_name": "net1"}).ok()
    pod.delete()
    assert guest.netdevctl("recover").code == 0
    until(lambda: ("faster", link.name) in devices(), devices)


def test_what_has_none_is_refused(guest: Host) -> None:
    guest.ip("link add nic2 type dummy")
    code, told = cni.add(guest.pod(), {"name": "nic1"}, {"name": "nic2", "rdma": True}).error()
    assert code == 104
    assert "devices[1].rdma: nic2 has none" in told
    assert devices() == [("fast", "nic1")]


def test_in_exclusive_mode_software_is_refused_or_made_again_at_home(guest: Host) -> None:
    mode("exclusive")
    pod = guest.pod()
    code, told = cni.add(pod, {"name": "nic1", "rdma": True}).error()
    assert code == 104
    assert "fast is made in software (rxe): it needs shared mode" in told
    assert devices() == [("fast", "nic1")]
    cni.add(pod, {"name": "nic1"}).ok()
    assert devices() == []
    cni.delete(pod).ok()
    assert devices() == [("fast", "nic1")]
    pod.delete()


def test_the_request_for_a_move_is_understood(guest: Host) -> None:
    """EOPNOTSUPP is the driver's inability; a request that is none of the kernel's is EINVAL."""
    mode("exclusive")
    kernel, pod = SystemKernel(), guest.pod()
    link = kernel.host.link(name="nic1")
    assert link is not None
    (device,) = kernel.host.rdma(link)
    assert (device.name, device.soft, device.shared, device.alone) == ("fast", "rxe", False, True)
    target = kernel.open(pod.path)
    with pytest.raises(KernelRefused) as refused:
        kernel.host.move_rdma(device.number, device.name, target)
    assert refused.value.errno == errno.EOPNOTSUPP
    assert target.find_rdma(device) is None
    kernel.host.rename_rdma(device.number, "fast", "faster")
    assert devices() == [("faster", "nic1")]
    target.close()
    kernel.close()
    pod.delete()
