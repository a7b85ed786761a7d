from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import ethtool
from cni_netdev.core.errors import KernelRefused
from tests import tricks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host import Host

pytestmark = pytest.mark.kernel


@pytest.fixture
def name(host: Host) -> str:
    host.ip("link add nic1 numtxqueues 2 numrxqueues 2 type veth peer name nic1p")
    return "nic1"


@pytest.mark.parametrize(
    ("key", "change"),
    [("features", tricks.switch_offloads_off), ("channels", tricks.halve_queues)],
)
def test_what_was_changed_is_written_back(
    name: str, key: str, change: Callable[[str], None]
) -> None:
    before = ethtool.read(name)
    change(name)
    ethtool.write(name, key, dict(before)[key])
    assert ethtool.read(name) == before


def test_link_modes_are_written_back(host: Host) -> None:
    host.ip("tuntap add dev nic1 mode tap")
    before = ethtool.read("nic1")
    tricks.force_speed("nic1")
    ethtool.write("nic1", "link modes", dict(before)["link modes"])
    assert ethtool.read("nic1") == before


def test_a_speed_that_is_negotiated_is_none_that_was_set(host: Host) -> None:
    """A TAP says whatever it was told; as one that negotiates, of its speed nothing is kept."""
    host.ip("tuntap add dev nic1 mode tap")
    advertised = dict(ethtool.read("nic1"))["link modes"][12:]
    for speed in (10, 1000):
        told = struct.pack("=BIB", 1, speed, 0).hex()
        ethtool.write("nic1", "link modes", told + advertised)
        assert dict(ethtool.read("nic1"))["link modes"][:12] == struct.pack("=BIB", 1, 0, 0).hex()


def test_a_speed_that_is_not_known_is_left_out(host: Host) -> None:
    host.ip("tuntap add dev nic1 mode tap")
    modes = dict(ethtool.read("nic1"))["link modes"]
    ethtool.write("nic1", "link modes", struct.pack("=BIB", 0, 0xFFFFFFFF, 1).hex() + modes[12:])
    assert "link modes" not in dict(ethtool.read("nic1"))


def test_a_link_that_is_not_there(host: Host) -> None:
    assert host.names() == ["lo"]
    assert ethtool.read("nic1") == ()
    with pytest.raises(KernelRefused, match="set ethtool's rings of nic1"):
        ethtool.write("nic1", "rings", "00" * 32)
