"""bpf(2) on real programs; what it is for is in test_restore."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import bpf
from cni_netdev.core.errors import KernelRefused
from tests import bpf_programs

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.kernel


@pytest.fixture
def ifindex(host: Host) -> int:
    host.veth("nic1")
    return int(host.json("link show nic1")[0]["ifindex"])


def test_tcx_programs_are_listed_and_taken_off_one_by_one(ifindex: int) -> None:
    assert bpf.tcx(ifindex) == ()
    bpf_programs.attach_tcx(ifindex, "ingress")
    bpf_programs.attach_tcx(ifindex, "egress")
    held = bpf_programs.link(ifindex, "tcx")
    there = bpf.tcx(ifindex)
    assert [attach for attach, _ in there] == ["ingress", "ingress", "egress"]
    for attach, program in there:
        bpf.detach_tcx(ifindex, attach, program)
    assert bpf.tcx(ifindex) == ()
    os.close(held)


def test_an_xdp_link_of_another_device_is_left_alone(host: Host, ifindex: int) -> None:
    host.veth("nic2")
    other = int(host.json("link show nic2")[0]["ifindex"])
    held = [bpf_programs.link(each, "xdp") for each in (ifindex, other)]
    bpf.detach_xdp_link(ifindex)
    assert "xdp" not in host.ip("link show nic1")
    assert "xdp" in host.ip("link show nic2")
    for fd in held:
        os.close(fd)


def test_a_program_that_is_gone(ifindex: int) -> None:
    with (
        pytest.raises(KernelRefused, match="open BPF program 4000000000"),
        bpf.opened(4_000_000_000),
    ):
        pass
    with pytest.raises(KernelRefused, match="query TCX ingress"):
        bpf.tcx(ifindex + 1000)
