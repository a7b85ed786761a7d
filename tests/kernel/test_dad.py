"""Duplicate address detection and announcements, on the real kernel, with somebody on the wire."""

from __future__ import annotations

import errno
import select
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.core import dad
from cni_netdev.core.errors import CannotApply, OutOfTime
from cni_netdev.core.policy import Pod as PodOfPolicy
from cni_netdev.core.policy import parse_policy
from tests.lending import OWNER, Node, inside, requests_of
from tests.linkstate import capture, differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

    from tests.host import Host, Pod

pytestmark = pytest.mark.kernel

_EVERYTHING = 3  # ETH_P_ALL
BASE: dict[str, object] = {
    "name": "nic1",
    "new_name": "net1",
    "addresses": ["192.168.2.2/24", "fd99::2/64"],
}


@pytest.fixture
def node(host: Host) -> Iterator[Node]:
    host.configured("nic1")
    made = Node(host)
    yield made
    made.kernel.close()


@pytest.fixture
def pod(host: Host) -> Pod:
    """Its new links detect duplicates, in about a second."""
    made = host.pod()
    made.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=1")
    made.run("sysctl", "-qw", "net.ipv6.conf.default.dad_transmits=1")
    return made


def can_be_used(pod: Pod) -> bool:
    """Whether a program can send from it by now."""
    with inside(pod), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        try:
            sender.bind(("fd99::2", 0))
        except OSError as error:
            assert error.errno == errno.EADDRNOTAVAIL  # noqa: PT017 - any other is a failure
            return False
    return True


def test_without_a_word_an_address_cannot_be_used_at_once(node: Node, pod: Pod) -> None:
    node.attach(pod, BASE)
    assert not can_be_used(pod)


@pytest.mark.parametrize("asked", ["off", "optimistic", {"wait": 30}])
def test_it_can_be_used_as_soon_as_it_is_attached(node: Node, pod: Pod, asked: object) -> None:
    before = capture("nic1")
    node.attach(pod, {**BASE, "dad": asked})
    assert can_be_used(pod)
    (link,) = pod.json("-6 addr show dev net1 scope global")
    flags = [key for each in link["addr_info"] for key in ("nodad", "optimistic") if key in each]
    assert flags == {"off": ["nodad"], "optimistic": ["optimistic"]}.get(str(asked), [])
    node.detach()
    assert differences(before, capture("nic1")) == []


def test_wait_ends_when_no_address_is_tentative(node: Node, pod: Pod) -> None:
    before = capture("nic1")
    node.attach(pod, {**BASE, "dad": {"wait": 30}})
    (link,) = pod.json("-6 addr show dev net1")
    assert len([each for each in link["addr_info"] if each]) == 2  # with the link-local one
    assert not any(each.get("tentative") for each in link["addr_info"])
    node.detach()
    assert differences(before, capture("nic1")) == []


def test_an_address_that_another_host_has_undoes_all(node: Node, pod: Pod) -> None:
    node.host.ip("-6 addr add fd99::2/64 dev nic1p nodad")
    node.host.configured("nic2", 2)
    before = capture("nic1"), capture("nic2")
    last = {**BASE, "dad": {"wait": 30}}
    with pytest.raises(CannotApply, match=r"devices\[1\].dad: fd99::2/64 is used by another host"):
        node.attach(pod, {"name": "nic2"}, last)
    assert pod.names() == ["lo"]
    after = capture("nic1"), capture("nic2")
    assert [differences(*pair) for pair in zip(before, after, strict=True)] == [[], []]
    assert node.host.left_over() == []


def without_a_carrier(node: Node) -> Any:
    node.host.ip("link delete nic1")
    node.host.ip("link add nic1 type veth peer name nic1p")
    node.host.ip("link set nic1 up")
    return capture("nic1")


def test_without_a_carrier_the_limit_counts(node: Node, pod: Pod) -> None:
    before = without_a_carrier(node)
    with pytest.raises(CannotApply, match="fd99::2/64 is still tentative after 1 s"):
        node.attach(pod, {**BASE, "dad": {"wait": 1}})
    assert pod.names() == ["lo"]
    assert differences(before, capture("nic1")) == []


def test_the_callers_own_limit_is_kept(node: Node, pod: Pod, mocker: MockerFixture) -> None:
    before = without_a_carrier(node)
    requests = requests_of({**BASE, "dad": {"wait": 30}})
    waiting = mocker.spy(dad, "_await")

    def in_time() -> None:
        if waiting.call_count == 2:
            raise OutOfTime("no time left")

    with pytest.raises(OutOfTime):
        node.engine.attach(OWNER, pod.path, requests, parse_policy({}), PodOfPolicy(), in_time)
    assert differences(before, capture("nic1")) == []


# --- announcements ---------------------------------------------------------------------------


@contextmanager
def overhearing(name: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERYTHING)) as wire:
        wire.bind((name, _EVERYTHING))
        yield wire


def announced(wire: socket.socket, wanted: set[str], seconds: float = 10.0) -> set[str]:
    """Of the addresses wanted, those that were announced; a gratuitous ARP says who it is twice."""
    found: set[str] = set()
    limit = time.monotonic() + seconds
    while wanted - found and time.monotonic() < limit:
        if not select.select([wire], [], [], 0.1)[0]:
            continue
        frame = wire.recv(2048)
        if frame[12:14] == b"\x08\x06" and frame[28:32] == frame[38:42]:
            found.add(socket.inet_ntop(socket.AF_INET, frame[28:32]))
        elif frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 136:
            found.add(socket.inet_ntop(socket.AF_INET6, frame[62:78]))
    return found & wanted


@pytest.mark.parametrize("asked", [None, "off", "optimistic", {"wait": 30}])
def test_its_addresses_are_announced(node: Node, pod: Pod, asked: object) -> None:
    before = capture("nic1")
    wanted = {"192.168.2.2", "fd99::2"}
    with overhearing("nic1p") as wire:
        node.attach(pod, {**BASE, "announce": True, "dad": asked})
        assert announced(wire, wanted) == wanted
    node.detach()
    assert differences(before, capture("nic1")) == []


def test_nothing_is_announced_unasked(node: Node, pod: Pod) -> None:
    """The other one that is asked for tells when there has been time enough."""
    node.host.veth("nic2")
    with overhearing("nic1p") as quiet, overhearing("nic2p") as wire:
        loud = {"name": "nic2", "addresses": ["fd98::2/64"], "announce": True}
        node.attach(pod, {**BASE, "dad": {"wait": 30}}, {**loud, "dad": {"wait": 30}})
        assert announced(wire, {"fd98::2"}) == {"fd98::2"}
        assert announced(quiet, {"192.168.2.2", "fd99::2"}, seconds=0.2) == set()


def test_a_pod_reads_back_what_announces(node: Node, pod: Pod) -> None:
    node.attach(pod, {**BASE, "announce": True})
    keys = ("net.ipv4.conf.net1.arp_notify", "net.ipv6.conf.net1.ndisc_notify")
    assert pod.run("sysctl", "-n", *keys).split() == ["1", "1"]
    node.detach()
    assert Path("/proc/sys/net/ipv4/conf/nic1/arp_notify").read_text() == "0\n"
