"""The host's own programs, off a link that is away and on it again; on the real kernel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import bpf, bpfpins, libc
from cni_netdev.core.errors import CannotApply, KernelRefused
from tests import bpf_programs
from tests.lending import Node
from tests.linkstate import capture, differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host

pytestmark = pytest.mark.kernel
ASKED: dict[str, object] = {"name": "nic1", "new_name": "net1", "ebpf": "detach"}


@pytest.fixture
def node(host: Host) -> Iterator[Node]:
    host.veth("nic1")
    made = Node(host)
    yield made
    made.kernel.close()


@pytest.fixture
def bpffs(host: Host) -> Path:
    """In the test's own mount namespace."""
    assert host.names()
    libc.mount("bpf", "/sys/fs/bpf", "bpf", 0)
    return Path(bpfpins.DIRECTORY)


def put_on(node: Node) -> list[int]:
    """XDP by netlink, two TCX programs on one side and one on the other, held by nobody else."""
    ifindex = node.link("nic1").identity.ifindex
    fd = bpf_programs.load("xdp")
    node.kernel.host.attach_xdp(ifindex, "skb", bpf_programs.number(fd))
    os.close(fd)
    for side in ("ingress", "ingress", "egress"):
        bpf_programs.attach_tcx(ifindex, side)
    return programs(node)


def programs(node: Node) -> list[int]:
    link = node.link("nic1")
    there = (*link.xdp, *bpf.tcx(link.identity.ifindex))
    return [program for _, program in there]


@pytest.mark.parametrize("end", ["detach", "netns deleted"])
def test_they_are_off_in_the_pod_and_on_again_at_home(node: Node, bpffs: Path, end: str) -> None:
    had = put_on(node)
    assert len(had) == len(set(had)) == 4
    before = capture("nic1")
    pod = node.host.pod()
    node.attach(pod, ASKED)
    assert "xdp" not in pod.ip("link show net1")
    inside = node.kernel.open(pod.path)
    link = inside.link(name="net1")
    assert link is not None
    assert inside.tcx(link.identity.ifindex) == ()
    inside.close()
    inode = link.identity.inode
    assert {each.name for each in bpffs.iterdir()} == {f"{inode}-{each}" for each in had}
    if end == "netns deleted":
        pod.delete()
    assert node.detach().notes == ()
    assert differences(before, capture("nic1")) == []
    assert programs(node) == had
    assert list(bpffs.iterdir()) == []


@pytest.mark.parametrize("kind", ["xdp", "tcx"])
@pytest.mark.usefixtures("bpffs")
def test_what_is_on_a_bpf_link_is_refused(node: Node, kind: str) -> None:
    ifindex = node.link("nic1").identity.ifindex
    held = bpf_programs.link(ifindex, kind)
    had = programs(node)
    assert bpf.on_links(ifindex) == tuple(had)
    with pytest.raises(CannotApply, match=f"program {had[0]} of nic1 is on a bpf_link"):
        node.attach(node.host.pod(), ASKED)
    assert programs(node) == had
    os.close(held)


def test_without_a_place_to_hold_them_they_stay_on(node: Node) -> None:
    libc.mount("none", "/sys/fs/bpf", "tmpfs", 0)
    had = put_on(node)
    with pytest.raises(KernelRefused) as refused:
        node.attach(node.host.pod(), ASKED)
    assert "this needs a BPF file system at /sys/fs/bpf" in refused.value.details
    assert programs(node) == had


def test_a_tcx_program_is_put_before_another(node: Node) -> None:
    _, first, second, last = put_on(node)
    ifindex = node.link("nic1").identity.ifindex
    with bpf.opened(first):
        bpf.detach_tcx(ifindex, "ingress", first)
        bpf.attach_tcx(ifindex, "ingress", first, second)
    assert bpf.tcx(ifindex) == (("ingress", first), ("ingress", second), ("egress", last))


@pytest.mark.usefixtures("bpffs")
def test_holding_twice_and_letting_go_of_nothing() -> None:
    bpfpins.let_go(7)
    fd = bpf_programs.load("tcx")
    number = bpf_programs.number(fd)
    bpfpins.hold(7, number)
    bpfpins.hold(7, number)
    bpfpins.hold(77, number)
    os.close(fd)
    bpfpins.let_go(7)
    with bpf.opened(number):
        pass
    bpfpins.let_go(77)
    with pytest.raises(KernelRefused, match="open BPF program"), bpf.opened(number):
        pass
