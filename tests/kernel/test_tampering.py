"""Whatever a pod does to a link: the host has it back as it was, and nothing else has changed."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.host import Host
from tests.lending import OWNER, Node, inside
from tests.linkstate import differences, whole_host
from tests.tricks import RESTLESS, TRICKS, make_again, play, prepare, restless
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Pod

pytestmark = pytest.mark.kernel

# linux/if_packet.h
_ETH_P_ALL, _SOL_PACKET, _ADD_MEMBERSHIP = 3, 263, 1
_MULTICAST, _PROMISC, _ALLMULTI = 0, 1, 2


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One for all: each trick must leave the host as it was for the next."""
    with Host.enter(tmp_path_factory.mktemp("host")) as host:
        prepare(host)
        make_again(host)
        made = Node(host)
        yield made
        made.kernel.close()


@pytest.fixture(scope="module")
def before(node: Node) -> dict[str, Any]:
    """The host's state, for all tricks: what one leaves behind adds up."""
    assert node.host.names()
    return whole_host()


@pytest.fixture
def pods(node: Node) -> Iterator[tuple[Pod, Pod]]:
    """A pod, and a further namespace."""
    make_again(node.host)
    made = node.host.pod(), node.host.pod("away")
    yield made
    node.engine.detach(OWNER.key)
    for each in made:
        each.delete()


def changes(before: dict[str, Any], destroyed: str) -> list[str]:
    links = {name: link for name, link in before["links"].items() if name != destroyed}
    return differences({**before, "links": links}, whole_host())


@pytest.mark.parametrize("name", TRICKS)
def test_the_host_is_as_it_was(
    node: Node, pods: tuple[Pod, Pod], before: dict[str, Any], name: str
) -> None:
    trick, host, (pod, away) = TRICKS[name], node.host, pods
    node.attach(pod, {"name": trick.link, "new_name": "net1"})
    play(pod, trick, "net1", away.name)
    release = node.detach()
    assert release.complete
    told = " ".join(release.notes)
    assert trick.told in told if trick.told else told == ""
    destroyed = trick.link if "lost" in trick.told else ""
    until(lambda: not changes(before, destroyed), lambda: changes(before, destroyed), 5)
    assert away.names() == ["lo"]
    assert host.left_over() == []


@pytest.mark.parametrize("name", RESTLESS)
def test_what_a_pod_goes_on_doing_meanwhile_keeps_nothing(
    node: Node, pods: tuple[Pod, Pod], before: dict[str, Any], name: str
) -> None:
    """What cannot be had at once is never called lost, and comes home when that is over."""
    pod, away = pods
    node.attach(pod, {"name": "nic1", "new_name": "net1"})
    with restless(pod, RESTLESS[name], "net1", away.name):
        release = node.detach()
    assert "lost" not in " ".join(release.notes)
    if not release.complete:
        assert [each.devices for each in node.engine.recover()] == [("nic1",)]
    until(lambda: not changes(before, ""), lambda: changes(before, ""), 5)
    assert not node.kernel.host.overheard(node.link("nic1"))
    assert node.host.left_over() == []


def test_a_namespace_of_a_user_namespace_hides_nothing(
    node: Node, pods: tuple[Pod, Pod], before: dict[str, Any]
) -> None:
    """Made by an unprivileged process of the pod, which is stopped: nobody in it answers."""
    pod, _ = pods
    node.attach(pod, {"name": "nic1", "new_name": "net1"}, {"name": "other"})
    command = ["unshare", "-Urn", "sh", "-c", "echo; exec cat"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        pod.ip(f"link add link other spy netns {child.pid} type macvlan")
        pod.ip(f"link set net1 netns {child.pid}")
        child.send_signal(signal.SIGSTOP)
        release = node.detach()
        child.kill()
    assert release.notes == ("other: deleted what the pod had left on it: spy",)
    until(lambda: not changes(before, ""), lambda: changes(before, ""), 5)


def test_a_socket_that_a_pod_keeps_open_hears_no_more(
    node: Node, pods: tuple[Pod, Pod], before: dict[str, Any]
) -> None:
    """Nor does the link go on taking in for it what it took in before."""
    pod, _ = pods
    node.attach(pod, {"name": "nic1", "new_name": "net1"})
    with inside(pod):
        spy = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        spy.bind(("net1", 0))
        for kind, address in ((_PROMISC, b""), (_ALLMULTI, b""), (_MULTICAST, b"\1\2\3\4\5\7")):
            ifindex = socket.if_nametoindex("net1")
            wish = struct.pack("=iHH8s", ifindex, kind, len(address), address)
            spy.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, wish)
    assert pod.json("-d link show net1")[0]["promiscuity"] == 1
    assert node.detach().notes == ()
    until(lambda: not changes(before, ""), lambda: changes(before, ""), 5)
    spy.setblocking(False)
    with pytest.raises(OSError, match="down"):
        spy.recv(1)
    _drain(spy)
    node.host.ip("neigh replace 10.1.0.99 lladdr 02:00:00:00:00:99 dev nic1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("10.1.0.99", 9))
    with pytest.raises(BlockingIOError):
        spy.recv(1)
    node.host.ip("neigh del 10.1.0.99 dev nic1")
    spy.close()


def _drain(spy: socket.socket) -> None:
    """What it heard as long as the pod had the link."""
    with suppress(BlockingIOError):
        while True:
            spy.recv(1)
