"""The Go injector's own story, word for word: its sample pod gets the node's dummy0.

Runs in the virtual machine, whose namespaces are the node's and whose kernel has dummy links.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import yaml

from tests.containerd import Containerd
from tests.demo.telling import compare, say, show
from tests.host import PTP, ROOT, Host
from tests.injector import KEY, NriPlugin
from tests.linkstate import capture
from tests.vm.limits import PATIENT

SAMPLE = ROOT / "conf" / "sample-pod.yaml"


def demo(host: Host) -> bool:
    """Whether dummy0 came home as it was."""
    text = SAMPLE.read_text()
    pod = yaml.safe_load(text)
    annotations = {KEY: pod["metadata"]["annotations"][KEY]}
    host.install()
    host.conflist(PTP, name="pods")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # ptp would, for every link

    say("ip link add dummy0 type dummy")
    host.ip("link add dummy0 type dummy")
    show(host.ip("link show dummy0"))
    before = {"dummy0": capture("dummy0")}
    with (
        Containerd(host, **PATIENT) as containerd,
        NriPlugin(host, containerd.nri_socket) as plugin,
    ):
        plugin.wait_for("synchronized")
        say("containerd runs, and network-device-injector -idx 10 has registered with it")
        say("kubectl would apply conf/sample-pod.yaml")
        show(text)
        sandbox = containerd.run_pod(pod["metadata"]["name"], annotations)
        say("dummy0 is not on the node any more: ip -br link")
        show(host.ip("-br link"))
        say("... and both containers have it as eth33: ip addr show eth33")
        for each in pod["spec"]["containers"]:
            container = containerd.create(sandbox, each["name"], each["command"])
            show(containerd.exec(container, "ip", "addr", "show", "eth33"))
        say("The pod is stopped and removed")
        containerd.stop_pod(sandbox)
        containerd.remove_pod(sandbox)
        show(host.ip("link show dummy0"))
        return compare(host, before)


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        well = demo(Host(Path(directory)))
    say("dummy0 came home exactly as it was." if well else "dummy0 did not come home as it was.")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
