"""The least that `cni-netdev` and `netdevctl` need: two capabilities and one writable directory."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.host import Answer, run
from tests.linkstate import capture, differences
from tests.programs import NETDEVCTL

if TYPE_CHECKING:
    from tests.host import Host, Pod

pytestmark = pytest.mark.e2e

ENOUGH = ("net_admin", "sys_admin")
CONF: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "net",
    "type": "cni-netdev",
    "devices": [{"name": "nic1", "new_name": "net1", "address": "192.168.2.2/24", "mtu": 1400}],
}


@pytest.fixture
def node(cni: Host) -> Host:
    """Of its files only /run, where the state directory is, can be written."""
    cni.configured("nic1")
    run("mount", "-o", "remount,bind,ro", "/")
    return cni


def bounded(
    command: list[str], capabilities: tuple[str, ...], env: dict[str, str], text: str
) -> Answer:
    """Run as root with these capabilities and no way to others."""
    kept = ",".join(("-all", *(f"+{each}" for each in capabilities)))
    limits = ["setpriv", "--no-new-privs", f"--bounding-set={kept}", f"--inh-caps={kept}"]
    done = subprocess.run(
        [*limits, *command], env=env, input=text, capture_output=True, text=True, check=False
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def plugin(node: Host, verb: str, pod: Pod, capabilities: tuple[str, ...] = ENOUGH) -> Answer:
    environ = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": pod.path,
        "CNI_PATH": str(node.bin_dir),
    }
    return bounded([str(node.bin_dir / "cni-netdev")], capabilities, environ, json.dumps(CONF))


def netdevctl(*arguments: str, capabilities: tuple[str, ...]) -> Answer:
    return bounded([str(NETDEVCTL), *arguments], capabilities, {"LANG": "C.UTF-8"}, "")


def test_two_capabilities_lend_and_bring_home(node: Host) -> None:
    before, pod = capture("nic1"), node.pod()
    assert plugin(node, "ADD", pod).ok()["interfaces"][-1]["name"] == "net1"
    pod.ip("link set net1 down")
    pod.ip("link set net1 name mine alias planted address 02:00:00:00:00:99 promisc on")
    assert plugin(node, "DEL", pod).ok() is None
    assert not differences(before, capture("nic1"))
    assert node.left_over() == []


@pytest.mark.parametrize("lacking", ENOUGH)
def test_without_either_nothing_is_touched(node: Host, lacking: str) -> None:
    before, pod = capture("nic1"), node.pod()
    rest = tuple(each for each in ENOUGH if each != lacking)
    code, words = plugin(node, "ADD", pod, rest).error()
    assert code in {5, 8, 105}
    assert "permitted" in words
    assert not differences(before, capture("nic1"))
    assert node.left_over() == []


def test_a_del_that_may_not_keeps_the_record(node: Host) -> None:
    before, pod = capture("nic1"), node.pod()
    plugin(node, "ADD", pod).ok()
    for lacking in ENOUGH:
        refused = plugin(node, "DEL", pod, tuple(each for each in ENOUGH if each != lacking))
        assert "permitted" in refused.stdout + refused.stderr
        assert "net1" in pod.names()
    assert plugin(node, "DEL", pod).ok() is None
    assert not differences(before, capture("nic1"))


def test_only_the_scan_for_dead_pods_needs_ptrace(node: Host) -> None:
    """Without it a process of another user may hide in a namespace, and so the pod may live."""
    before, pod = capture("nic1"), node.pod()
    plugin(node, "ADD", pod).ok()
    pod.delete()
    netdevctl("recover", capabilities=ENOUGH)
    assert "nic1" not in node.names()
    assert netdevctl("recover", capabilities=(*ENOUGH, "sys_ptrace")).code == 0
    assert not differences(before, capture("nic1"))


@pytest.mark.parametrize(
    ("command", "capabilities"), [("attachments", ("sys_admin",)), ("devices", ENOUGH)]
)
def test_looking(node: Host, command: str, capabilities: tuple[str, ...]) -> None:
    """It mounts sysfs for itself, and asks of a link what is stacked on it, which only root may."""
    plugin(node, "ADD", node.pod()).ok()
    seen = netdevctl(command, "--json", capabilities=capabilities)
    assert "nic1" in json.dumps(seen.ok())
