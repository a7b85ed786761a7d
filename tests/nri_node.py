"""A node for tests of the NRI plugin: two configured links, and what pods ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.host import PTP
from tests.linkstate import capture, differences
from tests.wait import until

if TYPE_CHECKING:
    from tests.host import Host

# As in the Go injector's sample.
ONE = "- {name: dummy0, new_name: eth33, address: 192.168.2.2, prefix: 24, mtu: 1500}\n"
OTHER = "- {name: nic1, addresses: [192.168.3.2/24, 'fd00:3::2/64'], mac: '02:00:5e:10:00:01'}\n"
TWO = ONE + OTHER


def prepare(host: Host) -> Host:
    """dummy0 and nic1, and the reference plugins' network."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # ptp would, for every link
    host.configured("dummy0", 1)
    host.configured("nic1", 2)
    host.conflist(PTP, name="pods")
    until(_link_locals_are_there, lambda: capture("nic1"))
    return host


def _link_locals_are_there() -> bool:
    """Each configured link's own and its peer's: the kernel makes them when the carrier comes."""
    wanted = {"dummy0": 2, "dummy0p": 1, "nic1": 2, "nic1p": 1}
    return all(len(capture(name)["link-local"]) == count for name, count in wanted.items())


def see_that_all_is_home(node: Host, before: dict[str, Any]) -> None:
    """Now, or as soon as the plugin has noticed."""

    def trouble() -> list[str]:
        if missing := set(before) - set(node.names()):
            return [f"{missing} away"]
        found = [line for name in before for line in differences(before[name], capture(name))]
        return found + node.left_over()

    until(lambda: not trouble(), trouble)


def snapshot() -> dict[str, Any]:
    return {name: capture(name) for name in ("dummy0", "nic1")}
