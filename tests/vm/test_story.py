"""The Go injector's own story, word for word: its sample pod gets the node's dummy0."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.containerd import Containerd
from tests.host import PTP, ROOT
from tests.injector import NriPlugin
from tests.linkstate import capture, differences
from tests.vm.limits import PATIENT

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.vm

SAMPLE: dict[str, Any] = yaml.safe_load((ROOT / "conf" / "sample-pod.yaml").read_text())


def test_the_sample_pod_gets_dummy0_as_eth33(guest: Host) -> None:
    guest.install()
    guest.conflist(PTP, name="pods")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # ptp would, for every link
    guest.ip("link add dummy0 type dummy")
    before = capture("dummy0")
    name, annotations = SAMPLE["metadata"]["name"], SAMPLE["metadata"]["annotations"]
    with (
        Containerd(guest, **PATIENT) as containerd,
        NriPlugin(guest, containerd.nri_socket) as plugin,
    ):
        plugin.wait_for("synchronized")
        pod = containerd.run_pod(name, annotations)
        assert "dummy0" not in guest.names()
        for each in SAMPLE["spec"]["containers"]:
            container = containerd.create(pod, each["name"], each["command"])
            seen = containerd.exec(container, "ip", "addr", "show", "eth33")
            assert "192.168.2.2/24" in seen
            assert "mtu 1500" in seen
        containerd.stop_pod(pod)
        assert differences(before, capture("dummy0")) == []
        containerd.remove_pod(pod)
    assert guest.left_over() == []
