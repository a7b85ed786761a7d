"""TUN and TAP links that a pod's process keeps open, or made its own."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.errors import DeviceHeld
from tests.lending import OWNER, Node
from tests.linkstate import capture, differences
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host, Pod

pytestmark = pytest.mark.kernel

_OPEN = """
import fcntl, os, struct, sys
fd = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"net1", int(sys.argv[1])))
for request in sys.argv[2:]:
    number, _, value = request.partition("=")
    fcntl.ioctl(fd, int(number, 16), int(value))
print("ready", flush=True)
sys.stdin.read()
"""
_TUN, _TAP, _NO_PI, _MULTI_QUEUE = 0x1, 0x2, 0x1000, 0x100
_SET_OWNER = "400454CC"


@pytest.fixture
def node(host: Host) -> Iterator[Node]:
    made = Node(host)
    yield made
    made.kernel.close()


@contextmanager
def opened(pod: Pod, flags: int, *requests: str) -> Iterator[None]:
    """A process of the pod has net1 open."""
    command = ["ip", "netns", "exec", pod.name, sys.executable, "-IS", "-c", _OPEN, str(flags)]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, *requests], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        yield
        child.kill()


def lend(node: Node, mode: str) -> Pod:
    node.host.ip(f"tuntap add dev nic1 mode {mode}")
    node.host.ip("link set nic1 up")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1", "new_name": "net1"})
    return pod


@pytest.mark.parametrize(
    ("mode", "flags"),
    [
        ("tap", _TAP | _NO_PI),
        ("tun", _TUN | _NO_PI),
        ("tap multi_queue", _TAP | _NO_PI | _MULTI_QUEUE),
    ],
)
@pytest.mark.parametrize("carrier", ["on", "off"])
def test_what_is_still_open_stays_down_and_held(
    node: Node, mode: str, flags: int, carrier: str
) -> None:
    pod, other = lend(node, mode), node.host.pod("other")
    with opened(pod, flags):
        pod.ip(f"link set net1 carrier {carrier}")
        release = node.detach()
        assert not release.complete
        assert "has it open still" in release.notes[0]
        assert not node.link("nic1").settings.up
        with pytest.raises(DeviceHeld, match="c1/eth0"):
            node.attach(other, {"name": "nic1"}, owner=OWNER._replace(sandbox="c2"))
    releases = node.engine.recover()
    assert [(each.devices, each.notes) for each in releases] == [(("nic1",), ())]
    assert node.link("nic1").settings.up


def test_what_was_open_on_the_host_goes_and_comes_with_that(node: Node) -> None:
    """As the TUN of a VPN's process that stays on the host."""
    node.host.ip("tuntap add dev net1 mode tun")
    node.host.ip("link set net1 up")
    command = [sys.executable, "-IS", "-c", _OPEN, str(_TUN | _NO_PI)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        until(lambda: node.link("net1").opened, lambda: "no carrier")
        before = capture("net1")
        node.attach(node.host.pod(), {"name": "net1"})
        assert node.detach().notes == ()
        until(lambda: not differences(before, capture("net1")), lambda: capture("net1"))
        child.kill()


def test_one_that_is_home_and_up_is_not_opened(node: Node) -> None:
    """As after the death of who brought it home: with a carrier it would get an address."""
    lend(node, "tap")
    record = node.journal.read(OWNER.key)
    assert record is not None
    assert node.detach().notes == ()
    node.journal.write(record._replace(complete=False))
    assert node.detach().notes == ()
    assert node.link("nic1").settings.up
    assert capture("nic1")["link-local"] == []


def test_an_owner_where_there_was_none_becomes_root_and_is_told(node: Node) -> None:
    """The kernel has no way back to none, by which anybody might open it."""
    pod = lend(node, "tap")
    with opened(pod, _TAP | _NO_PI, f"{_SET_OWNER}=1000"):
        pass
    release = node.detach()
    assert capture("nic1")["link-local"] == [], "its carrier came and went while it was up"
    assert release.notes == ("nic1: attributes 1 of its tun are not as they were",)
    assert release.complete
    assert node.host.json("-d tuntap show")[0].get("user") == 0


def test_packet_information_is_put_back(node: Node) -> None:
    """Whoever opens it sets that for all who come after."""
    pod = lend(node, "tap pi")
    with opened(pod, _TAP | _NO_PI):
        pass
    assert node.detach().notes == ()
    assert node.host.json("-d link show nic1")[0]["linkinfo"]["info_data"]["pi"]
