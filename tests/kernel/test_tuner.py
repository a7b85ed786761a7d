"""ethtool's names on a real link: a veth has features and channels."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import ethtool, tuner
from cni_netdev.core.errors import CannotApply, KernelRefused
from cni_netdev.core.tuning import unmet
from tests.lending import OWNER, Node
from tests.linkstate import capture, differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host

pytestmark = pytest.mark.kernel
ASKED = {"features": {"tso": "off", "rx-gro": "on"}, "channels": {"rx": 1, "tx": "1"}}
PAIRS = (
    ("channels.rx", "1"),
    ("channels.tx", "1"),
    ("features.tso", "off"),
    ("features.rx-gro", "on"),
)


@pytest.fixture
def node(host: Host) -> Iterator[Node]:
    host.ip("link add nic1 numtxqueues 2 numrxqueues 2 type veth peer name nic1p")
    host.ip("link set nic1 up")
    made = Node(host)
    yield made
    made.kernel.close()


def values(name: str) -> dict[str, str]:
    return {each.key: each.value for each in tuner.tunables(name)}


@pytest.mark.usefixtures("node")
def test_it_is_told_as_ethtool_tells_it() -> None:
    told = values("nic1")
    assert told["channels.rx"] == told["channels.tx"] == "2"
    assert told["features.tx-tcp-segmentation"] == "on"
    fixed = {each.key for each in tuner.tunables("nic1") if each.fixed}
    assert "features.rx-vlan-filter" in fixed
    assert "features.tx-tcp-segmentation" not in fixed
    assert not {key for key in told if key.startswith(("rings", "coalesce"))} - {
        "rings.rx",
        "rings.tx",
        "rings.rx-mini",
        "rings.rx-jumbo",
    }


@pytest.mark.parametrize("end", ["detach", "netns deleted"])
def test_the_pod_has_it_and_the_host_gets_back_what_it_had(node: Node, end: str) -> None:
    before, raw = capture("nic1"), ethtool.read("nic1")
    pod = node.host.pod()
    node.attach(pod, {"name": "nic1", "new_name": "net1", "ethtool": ASKED})
    with closing(node.kernel.open(pod.path)) as there:
        assert unmet(PAIRS, there.tunables("net1")) == ()
    assert node.engine.check(OWNER.key, pod.path, {}) == ()
    if end == "netns deleted":
        pod.delete()
    node.engine.detach(OWNER.key)
    assert differences(before, capture("nic1")) == []
    assert ethtool.read("nic1") == raw


def test_what_the_link_has_not_is_refused_with_the_nearest_name(node: Node) -> None:
    before = ethtool.read("nic1")
    bad = {"features": {"tsso": "off"}, "channels": {"rx": 3}}
    with pytest.raises(CannotApply) as refused:
        node.attach(node.host.pod(), {"name": "nic1", "ethtool": bad})
    assert "no 'tsso'; did you mean tso?" in str(refused.value)
    assert "3 is above nic1's maximum of 2" in str(refused.value)
    assert ethtool.read("nic1") == before


def test_what_the_driver_takes_and_does_not_do_is_refused_and_undone(node: Node) -> None:
    """Segmentation needs checksums: the kernel takes both wishes and keeps it off."""
    before = ethtool.read("nic1")
    asked = {"features": {"tx": "off", "tx-tcp-segmentation": "on"}}
    said = "with its driver features.tx-tcp-segmentation is off instead of on"
    with pytest.raises(CannotApply, match=said):
        node.attach(node.host.pod(), {"name": "nic1", "ethtool": asked})
    assert ethtool.read("nic1") == before


def test_a_link_that_is_not_there(host: Host) -> None:
    assert host.names() == ["lo"]
    assert tuner.tunables("nic1") == ()
    with pytest.raises(KernelRefused, match=r"set ethtool's rings\.rx of nic1"):
        tuner.tune("nic1", (("rings.rx", "1"),))
