"""The rig itself: the real containerd on a test's host, and our plugin in its chain."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import cgroups
from tests.containerd import Containerd, RuntimeRefused
from tests.host import PTP
from tests.injector import KEY
from tests.linkstate import capture, differences

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.e2e

NETDEV = {"type": "cni-netdev", "capabilities": {"io.kubernetes.cri.pod-annotations": True}}
ANNOTATION = "[{name: nic1, new_name: fast0, address: 192.168.2.2, prefix: 24, mtu: 1400}]"


def inhabitants() -> list[str]:
    """The processes in our mount namespace, other than our own."""
    ours = os.readlink("/proc/thread-self/ns/mnt")
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(each / "ns" / "mnt") == ours and int(each.name) != os.getpid():
                found.append((each / "cmdline").read_text())
    return found


@pytest.mark.parametrize("unified", [False, True])
def test_a_pod_runs_with_the_hosts_network(
    cni: Host, monkeypatch: pytest.MonkeyPatch, *, unified: bool
) -> None:
    if unified:
        monkeypatch.setattr(cgroups, "_legacy", dict)
    cni.conflist(PTP)
    with Containerd(cni) as containerd:
        pod = containerd.run_pod("one")
        container = containerd.create(pod, "main")
        assert "10.200.0.2/24" in containerd.exec(container, "ip", "addr", "show", "eth0")
        assert containerd.execute(container, "false").code == 1
        assert Path(containerd.netns(pod)).exists()
        containerd.stop_pod(pod)
        assert containerd.pods() == {pod: "notready"}
        containerd.remove_pod(pod)
        assert containerd.pods() == {}


def test_a_pod_may_have_the_hosts_namespace(cni: Host) -> None:
    cni.conflist(PTP)
    cni.veth("nic1")
    with Containerd(cni) as containerd:
        pod = containerd.run_pod("one", host_network=True)
        container = containerd.create(pod, "main")
        assert "nic1" in containerd.exec(container, "ip", "link")
        assert containerd.netns(pod) == ""


def test_pods_outlive_containerd(cni: Host) -> None:
    cni.conflist(PTP)
    with Containerd(cni) as containerd:
        pod = containerd.run_pod("one")
        container = containerd.create(pod, "main")
        containerd.kill()
        containerd.start()
        assert containerd.pods() == {pod: "ready"}
        assert containerd.exec(container, "echo", "alive") == "alive\n"
        containerd.restart()
        assert containerd.pods() == {pod: "ready"}


def test_a_later_conflist_is_waited_for(cni: Host) -> None:
    with Containerd(cni) as containerd:
        with pytest.raises(RuntimeRefused, match="cni plugin not initialized") as refused:
            containerd.run_pod("one")
        assert refused.value.code == "Unknown"
        cni.conflist(PTP)
        containerd.wait_for_conflist()
        containerd.run_pod("two")


@pytest.mark.parametrize("killed", [False, True])
def test_nothing_is_left(cni: Host, *, killed: bool) -> None:
    cni.conflist(PTP)
    before = Path("/proc/thread-self/mounts").read_text()
    with Containerd(cni) as containerd:
        containerd.create(containerd.run_pod("one"), "main")
        assert list(cgroups.ROOT.rglob(containerd.cgroup)) != []
        if killed:
            containerd.kill()
    assert inhabitants() == []
    assert Path("/proc/thread-self/mounts").read_text() == before
    cgroups.mount()
    assert list(cgroups.ROOT.rglob(containerd.cgroup)) == []
    cgroups.unmount()


def test_containers_need_the_required_plugins(cni: Host) -> None:
    cni.conflist(PTP)
    with Containerd(cni, required_plugins=["network-device-injector"]) as containerd:
        pod = containerd.run_pod("one")
        with pytest.raises(RuntimeRefused, match="network-device-injector"):
            containerd.create(pod, "main")


def test_our_plugin_lends_a_link_by_annotation(cni: Host) -> None:
    cni.conflist(PTP, NETDEV)
    cni.configured("nic1")
    before = capture("nic1")
    with Containerd(cni) as containerd:
        pod = containerd.run_pod("one", {KEY: ANNOTATION})
        container = containerd.create(pod, "main")
        seen = containerd.exec(container, "ip", "addr", "show", "fast0")
        assert "192.168.2.2/24" in seen
        assert "mtu 1400" in seen
        assert "nic1" not in cni.names()
        containerd.stop_pod(pod)
        assert differences(before, capture("nic1")) == []
        assert cni.left_over() == []
        with pytest.raises(RuntimeRefused, match="no link"):
            containerd.run_pod("two", {KEY: "[{name: nic9}]"})
