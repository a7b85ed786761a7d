"""The host's tc filters that are programs: gone with the link, and in their places at home."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.core import bpfpins, filters, libc
from cni_netdev.core.errors import KernelRefused, PolicyRefused
from cni_netdev.core.filters import SIDES
from cni_netdev.core.model import Filter
from tests import bpf_programs
from tests.host import run
from tests.lending import Node
from tests.linkstate import capture, differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host

pytestmark = pytest.mark.kernel
ASKED: dict[str, object] = {"name": "nic1", "new_name": "net1", "ebpf": "detach"}
_EVERYTHING = 0x0300  # ETH_P_ALL in network order
INGRESS, EGRESS = SIDES


@pytest.fixture
def node(host: Host) -> Iterator[Node]:
    host.configured("nic1")
    run("tc", "qdisc", "add", "dev", "nic1", "clsact")
    libc.mount("bpf", "/sys/fs/bpf", "bpf", 0)
    made = Node(host)
    yield made
    made.kernel.close()


def put_on(node: Node) -> tuple[Filter, ...]:
    """Two on one side and one on the other, whose programs nobody else holds."""
    ifindex = node.link("nic1").identity.ifindex
    for side, priority, name in ((INGRESS, 20, "b"), (INGRESS, 10, "a"), (EGRESS, 10, "c")):
        fd = bpf_programs.load("tcx")
        info = priority << 16 | _EVERYTHING
        value = Filter(side, 1, info, bpf_programs.number(fd), name, skips=1, classid=7)
        node.kernel.host.add_filter(ifindex, value)
        os.close(fd)
    found = node.kernel.host.filters(ifindex)
    assert [each.name for each in found] == ["a", "b", "c"]
    assert all(each.program and (each.skips, each.classid) == (1, 7) for each in found)
    return found


def on_link(node: Node) -> tuple[Filter, ...]:
    return node.kernel.host.filters(node.link("nic1").identity.ifindex)


@pytest.mark.parametrize("end", ["detach", "netns deleted"])
def test_they_are_gone_in_the_pod_and_back_at_home(node: Node, end: str) -> None:
    had, before = put_on(node), capture("nic1")
    shown = run("tc", "filter", "show", "dev", "nic1", "ingress")
    assert "direct-action" in shown
    pod = node.host.pod()
    node.attach(pod, ASKED)
    assert "clsact" not in pod.run("tc", "qdisc", "show", "dev", "net1")
    assert len(list(Path(bpfpins.DIRECTORY).iterdir())) == len(had)
    if end == "netns deleted":
        pod.delete()
    assert node.detach().notes == ()
    assert differences(before, capture("nic1")) == []
    assert on_link(node) == had
    assert run("tc", "filter", "show", "dev", "nic1", "ingress") == shown
    assert list(Path(bpfpins.DIRECTORY).iterdir()) == []


def test_what_is_more_than_a_program_guards_the_link(node: Node) -> None:
    had = put_on(node)
    classic = ("bpf", "bytecode", "1,6 0 0 4294967295,", "flowid", "1:1")
    run("tc", "filter", "add", "dev", "nic1", "ingress", "prio", "5", *classic)
    assert [each.program != 0 for each in on_link(node)] == [False, True, True, True]
    with pytest.raises(PolicyRefused, match="tc filters of the host"):
        node.attach(node.host.pod(), ASKED)
    assert on_link(node)[1:] == had


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({}, True),
        ({"kind": "u32"}, False),
        ({"chain": 7}, False),
        ({"index": -1}, False),  # of a block that links share
        ({"options": b"\x08\0\x08\0\0\0\0\0\x08\0\x0b\0\x09\0\0\0"}, False),  # no answer of its own
        ({"options": b"\x08\0\x08\0\x01\0\0\0\x04\0\x01\0"}, False),  # actions
        ({"options": b"\0"}, False),
    ],
)
def test_what_counts_as_a_program(changes: dict[str, Any], ours: bool) -> None:
    told = {"kind": "bpf", "chain": 0, "index": 3, **changes}
    # TCA_BPF_FLAGS with direct action, TCA_BPF_ID 9.
    options = told.get("options", b"\x08\0\x08\0\x01\0\0\0\x08\0\x0b\0\x09\0\0\0")
    message = filters.dump(told["index"], INGRESS)
    pairs = (("KIND", told["kind"]), ("OPTIONS", options), ("CHAIN", told["chain"]))
    message["attrs"] = [(f"TCA_{name}", value) for name, value in pairs]
    message.reset()
    message.encode()
    reply = type(message)(bytes(message.data))
    reply.decode()
    (found,) = filters.filters_from([reply], 3, INGRESS)
    assert found.program == (9 if ours else 0)


def test_without_that_wish_they_guard_the_link(node: Node) -> None:
    put_on(node)
    with pytest.raises(PolicyRefused, match="tc filters of the host"):
        node.attach(node.host.pod(), {"name": "nic1"})


def test_a_refused_attach_leaves_them_as_they_were(node: Node) -> None:
    had = put_on(node)
    pod = node.host.pod()
    routes = [{"dst": "10.9.0.0/16", "gw": "10.77.0.1"}]
    with pytest.raises(Exception, match="add route"):
        node.attach(pod, {**ASKED, "routes": routes})
    assert on_link(node) == had


def test_a_program_that_is_gone(node: Node) -> None:
    gone = Filter(INGRESS, 1, 10 << 16 | _EVERYTHING, 4_000_000_000)
    with pytest.raises(KernelRefused, match="open BPF program"):
        node.kernel.host.add_filter(node.link("nic1").identity.ifindex, gone)
