"""The soak's eyes: what is wrong is seen, each in its way."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.host import STATE_DIR
from tests.soak import links
from tests.soak.places import Claim, Untouched, astray, not_home, strangers

if TYPE_CHECKING:
    from tests.host import Host, Pod

pytestmark = pytest.mark.kernel

CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "cni-netdev"}


@pytest.fixture
def node(cni: Host) -> Host:
    cni.pod("first").delete()
    links.make(cni)
    return cni


def lend(node: Host, link: str) -> Pod:
    pod = node.pod()
    conf = {**CONF, "devices": [{"name": link, "new_name": "net1"}]}
    node.plugin("ADD", conf, netns=pod.path).ok()
    return pod


def record() -> Path:
    (path,) = (STATE_DIR / "records").iterdir()
    return path


def test_all_is_well(node: Host) -> None:
    before = Untouched.now()
    pod = lend(node, "nic1")
    assert astray([Claim("pod", "nic1", pod.path)], ()) == {}
    node.plugin("DEL", CONF, netns=pod.path).ok()
    pod.delete()
    assert astray((), ()) == {}
    assert not_home(before, node, ()) == []


def test_whose_namespace_has_no_path_is_found_by_its_pin(node: Host) -> None:
    pod = lend(node, "tap0")
    with pod.process():
        pod.delete()
        assert astray((), ()) == {}


def test_a_link_that_is_nowhere(node: Host) -> None:
    lend(node, "nic1").ip("link del net1")
    assert astray((), ()) == {"nic1": "is in 0 namespaces"}


def test_a_link_that_its_pod_has_not(node: Host) -> None:
    pod = lend(node, "nic1")
    other = node.pod("other")
    pod.ip(f"link set net1 netns {other.name}")
    assert "not in that of its record" in astray((), ())["nic1"]
    assert astray((), [other.path]) == {}, "the pod hid it there itself"
    wrong = astray([Claim("the pod", "nic1", pod.path)], [other.path])
    assert "the pod (/run/netns/pod) was told to have it" in wrong["nic1"]


def test_a_link_without_a_record_and_a_record_without_its_link(node: Host) -> None:
    pod = lend(node, "nic1")
    text = record().read_text()
    record().unlink()
    assert "without a record" in astray((), ())["nic1"]
    pod.ip(f"link set net1 netns {os.getpid()} name nic1")
    Path(STATE_DIR / "records" / "cni@c1@eth0.json").write_text(text)
    assert "is on the host, but lent by" in astray((), ())["nic1"]
    half = json.loads(text)
    half["record"]["complete"] = False
    record().write_text(json.dumps(half))
    assert astray((), ()) == {}, "what was killed half way"


def test_what_is_not_as_it_was(node: Host) -> None:
    node.ip("link add plain type ifb")
    mac = node.json("link show plain")[0]["address"]
    before = Untouched.now()
    for command in (
        "link set nic1 mtu 1444",
        "addr del 10.1.0.2/24 dev nic0",
        "link set soft1 promisc off",
        "link del vx2",
        "link del plain",
        f"link add plain address {mac} type ifb",
    ):
        node.ip(command)
    told = {line.split(": ")[0] for line in not_home(before, node, ())}
    wanted = {"nic1.link.mtu", "nic0.addresses", "soft1.flags", "vx2", "plain"}
    assert wanted <= told, told
    assert "plain.link" not in told, "made anew just as it was"


def test_what_is_left(node: Host) -> None:
    before = Untouched({}, {}, "")
    node.ip("netns add stray")
    with subprocess.Popen(["sleep", "infinity"]) as child:
        assert not_home(before, node, ()) == [
            "namespace stray is left",
            f"process {child.pid} is left: sleep infinity ",
        ]
        assert strangers({child.pid}) == {}
        child.kill()
