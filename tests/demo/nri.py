"""The NRI plugin: the Go injector's sample pod on the real containerd, then worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.containerd import Containerd, RuntimeRefused
from tests.demo.telling import compare, say, show
from tests.host import PTP
from tests.injector import KEY, NriPlugin
from tests.linkstate import capture
from tests.wait import until

if TYPE_CHECKING:
    from tests.host import Host

ANNOTATION = """\
- name: dummy0
  new_name: eth33
  address: 192.168.2.2
  prefix: 24
  mtu: 1500
"""


def demo(host: Host) -> bool:
    """Whether all came home as it was."""
    host.install()
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # ptp would, for every link
    host.configured("dummy0")
    host.conflist(PTP, name="pods")
    before = {"dummy0": capture("dummy0")}
    with (
        Containerd(host) as containerd,
        NriPlugin(host, containerd.nri_socket, "-metrics", "127.0.0.1:9400") as plugin,
    ):
        say("containerd runs, and network-device-injector -idx 10 has registered with it")
        plugin.wait_for("synchronized")
        show(host.ip("-br link show dummy0"))
        say(f"Pod bbdev0 is started, with two containers and the annotation {KEY}")
        show(ANNOTATION)
        pod = containerd.run_pod("bbdev0", {KEY: ANNOTATION})
        say("dummy0 is not on the host any more ...")
        show(host.ip("-br link"))
        say("... and both containers have it as eth33: ip addr show eth33, inside")
        for name in ("bbdev0-c1", "bbdev0-c2"):
            show(containerd.exec(containerd.create(pod, name), "ip", "addr", "show", "eth33"))
        say("A pod that asks for a link that is not there fails, and says why")
        try:
            containerd.run_pod("bbdev1", {KEY: "- {name: dummy7}"})
        except RuntimeRefused as error:
            show(str(error))
        say("The plugin and containerd are killed, the pod goes on, both come back ...")
        plugin.kill()
        containerd.kill()
        plugin.start()
        containerd.start()
        plugin.wait_for("synchronized", count=2)
        say("... and the pod is stopped.  What containerd would not tell, link events do")
        containerd.stop_pod(pod)
        containerd.remove_pod(pod)
        until(lambda: "dummy0" in host.names(), host.names)
        until(lambda: not host.left_over(), host.left_over)
        well = compare(host, before)
        say("The plugin's log")
        show("\n".join(_line(each) for each in plugin.lines() if each["level"] != "debug"))
    return well


def _line(fields: dict[str, object]) -> str:
    kept = {key: value for key, value in fields.items() if key not in ("time", "level", "socket")}
    text = ", ".join(f"{key} {value}" for key, value in kept.items() if key != "msg")
    return ": ".join(str(each) for each in (fields["level"], fields["msg"], text) if each)
