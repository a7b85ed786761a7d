"""From a VF's PCI address to its physical function's link: a made-up sysfs, a recorded kernel."""

from __future__ import annotations

import errno
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.core import virtual
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.model import VirtualFunction
from cni_netdev.core.sysfs import SysView
from tests.unit.test_sysfs import link, netdev
from tests.unit.test_vfinfo import RECORDED, VF0, decoded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cni_netdev.core.netlink import Connection

PF, VF = "0000:03:00.0", "0000:03:10.0"
ROOT = "devices/pci0000:00/0000:00:05.0"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    netdev(tmp_path, "eth1", f"{ROOT}/{PF}")
    netdev(tmp_path, "eth3", f"{ROOT}/{VF}")
    for address in (PF, VF):
        link(tmp_path, f"bus/pci/devices/{address}", f"{ROOT}/{address}")
    link(tmp_path, f"{ROOT}/{PF}/virtfn0", f"{ROOT}/{VF}")
    link(tmp_path, f"{ROOT}/{PF}/virtfn1", f"{ROOT}/0000:03:10.2")
    link(tmp_path, f"{ROOT}/{VF}/physfn", f"{ROOT}/{PF}")
    return tmp_path


@pytest.fixture
def view(tree: Path) -> Iterator[SysView]:
    with closing(SysView.of_directory(str(tree))) as made:
        yield made


class Recorded:
    """Answers each look with what a kernel told, and takes every change without doing it."""

    def __init__(self, error: int = 0) -> None:
        self.asked: list[tuple[str, int]] = []
        self._error = error

    def request(self, what: str, _message: Any, kind: int, _flags: int) -> list[Any]:
        self.asked.append((what, kind))
        if self._error:
            raise KernelRefused(what, self._error)
        return [decoded(RECORDED)]


def connection(error: int = 0) -> Any:
    recorded: Any = Recorded(error)
    made: Connection = recorded
    return made


def test_it_is_found_by_its_physical_function(view: SysView) -> None:
    rtnl = connection()
    assert virtual.look(rtnl, view, VF) == VirtualFunction(PF, 0, VF0)
    assert rtnl.asked == [("look at the VFs of eth1", 18)]


def test_what_is_none(view: SysView) -> None:
    assert virtual.look(connection(), view, PF) is None
    assert virtual.look(connection(), view, "0000:00:00.0") is None
    assert virtual.look(connection(), view, "") is None


def test_a_representor_is_not_the_physical_functions_own_link(tree: Path, view: SysView) -> None:
    netdev(tree, "a_rep", f"{ROOT}/{PF}")
    (tree / ROOT / PF / "net/a_rep/phys_port_name").write_text("pf0vf0\n")
    (tree / ROOT / PF / "net/eth1/phys_port_name").write_text("p0\n")
    rtnl = connection()
    virtual.look(rtnl, view, VF)
    assert rtnl.asked == [("look at the VFs of eth1", 18)]


def test_without_its_physical_functions_link_nothing_is_told_nor_set(
    tree: Path, view: SysView
) -> None:
    assert virtual.look(connection(errno.ENODEV), view, VF) == VirtualFunction(PF, 0, ())
    for path in ((tree / ROOT / PF / "net/eth1/ifindex"), (tree / ROOT / PF / "net/eth1")):
        path.unlink() if path.is_file() else path.rmdir()
    assert virtual.look(connection(), view, VF) == VirtualFunction(PF, 0, ())
    with pytest.raises(KernelRefused, match=f"set VF 0 of {PF}: it has no link here"):
        virtual.change(connection(), view, (PF, 0), (), VF0)


def test_what_the_kernel_refuses_is_told(view: SysView) -> None:
    with pytest.raises(KernelRefused) as refused:
        virtual.look(connection(errno.EPERM), view, VF)
    assert refused.value.errno == errno.EPERM


def test_each_group_has_its_message_and_what_was_not_done_is_told(view: SysView) -> None:
    rtnl = connection()
    wanted = {**dict(VF0), "vlan": "100", "trust": "on"}
    with pytest.raises(KernelRefused) as refused:
        virtual.change(rtnl, view, (PF, 0), VF0, tuple(wanted.items()))
    assert rtnl.asked[1:-1] == [
        (f"set VF 0 of {PF} to trust on", 19),
        (f"set VF 0 of {PF} to vlan 100, qos 0, proto 802.1Q", 19),
    ]
    assert refused.value.errno == errno.EOPNOTSUPP
    assert refused.value.kernel_text == (
        "with its driver trust is off instead of on, vlan is 0 instead of 100"
    )


def test_what_is_so_already_is_not_sent(view: SysView) -> None:
    rtnl = connection()
    virtual.change(rtnl, view, (PF, 0), VF0, VF0)
    assert {kind for _, kind in rtnl.asked} == {18}
