"""The soak's node: its links, both front ends, three runtimes, and who of them can be killed.

    cni-netdev              called by cnitool and (in chained rounds) by containerd, where it asks
                            netdevctl agent, and by hand, where it asks containerd's injector
    netdevctl agent         killed now and then; what it was asked the plugin then does itself
    containerd              with a network-device-injector that is killed now and then
    nri-runtime             Go's runtime side, killed now and then, with an injector that never is:
                            what it needs of memory and descriptors is to be seen over all the time

All share one state directory.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.agent import CniAgent
from tests.containerd import Containerd
from tests.host import PTP, Host
from tests.injector import NriPlugin
from tests.soak import links
from tests.soak.places import Untouched
from tests.soak.victims import CallInFlight, ContainerdAndPlugin, GoSide, Recovery, Resident

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.soak.victims import Victim

_INJECTOR, _AGENT = "network-device-injector", "netdevctl agent"
_INJECTORS_SOCKET = "/run/soak/injector.sock"
_CNI_LOG = "/run/soak/cni.log"
_CNI = {"type": "cni-netdev", "policy": links.POLICY, "logFile": _CNI_LOG}
_CAPABLE = {
    **_CNI,
    "capabilities": {"io.kubernetes.cri.pod-annotations": True, "netDevices": True},
}
# containerd takes the first by name.  BY_HAND is written nowhere: the plugin is called with it.
_CONTAINERDS, CNITOOLS, BY_HAND = "pods", "tool", "hand"
CONF = {"cniVersion": "1.1.0", "name": BY_HAND, **_CNI, "agentSocket": _INJECTORS_SOCKET}


class Sample(NamedTuple):
    """What a process needs: memory in KiB, and open descriptors."""

    memory: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        status = Path(f"/proc/{pid}/status").read_text()
        memory = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        return cls(int(memory), len(os.listdir(f"/proc/{pid}/fd")))


class Node:
    """All of it, standing."""

    def __init__(
        self,
        host: Host,
        containerd: Containerd,
        go: GoSide,
        veteran: NriPlugin,
        residents: Mapping[str, Resident],
    ) -> None:
        self.host = host
        self.containerd = containerd
        self.go = go
        self.veteran = veteran
        self._residents = residents
        side = ContainerdAndPlugin(containerd, residents[_INJECTOR])
        self.containerd_is_there = side.there
        self.victims: Mapping[str, Victim] = {
            "cni-netdev": CallInFlight(),
            "netdevctl": Recovery(),
            "containerd": side,
            "nri-runtime": go,
            **residents,
        }
        self.macs: Mapping[str, str] = {
            each["ifname"]: each["address"] for each in host.json("link")
        }
        self.untouched = Untouched.now()

    def residents(self) -> set[int]:
        """The pids of what is always there."""
        pids = {each.program.pid for each in self._residents.values()}
        runtimes = {self.containerd.pid, self.containerd.client_pid, self.go.pid}
        return {*pids, *runtimes, self.veteran.pid}

    @property
    def plugin_deaths(self) -> int:
        """How often containerd's injector was killed by now."""
        return self._residents[_INJECTOR].deaths

    def chain(self, *, chained: bool) -> None:
        """Whether containerd's own network has the CNI plugin behind ptp."""
        self.host.conflist(PTP, *([_CAPABLE] if chained else []), name=_CONTAINERDS)
        self.containerd.wait_for_conflist()

    def remove_sandbox(self, sandbox: str) -> None:
        """A stopped one, its containers first, as the kubelet does.

        containerd 2.4.2 would remove them itself, and then stands still for ever if a plugin
        registers meanwhile: it takes a lock for reading twice, and the plugin's waits in between.
        """
        for each in self.containerd.ask("containers")["containers"]:
            if each["pod"] == sandbox:
                self.containerd.ask("remove-container", id=each["id"])
        self.containerd.remove_pod(sandbox)

    def forget_logs(self) -> None:
        """What is written from now on is what logs() give."""
        for path in self.logs().values():
            if path.exists():
                os.truncate(path, 0)

    def answered(self) -> dict[str, int]:
        """How many of the CNI plugin's calls each made since then."""
        return {name: len(each.program.lines("answered")) for name, each in self._residents.items()}

    def sample(self) -> Sample:
        """Of the plugin that is never killed."""
        return Sample.of(self.veteran.pid)

    def logs(self) -> dict[str, Path]:
        """What the programs say."""
        return {
            "cni-netdev": Path(_CNI_LOG),
            **{name: each.program.log_file for name, each in self._residents.items()},
            "network-device-injector on Go's side": self.veteran.log_file,
            "containerd": self.containerd.log_file,
        }


@contextmanager
def stand(directory: Path) -> Iterator[Node]:
    """The node, while the block lasts; the calling process is on it."""
    with Host.enter(directory) as host, ExitStack() as stack:
        host.install()
        Path(_CNI_LOG).parent.mkdir()
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # ptp would, for every link
        host.pod("first").delete()  # with the first one iproute2 mounts their directory
        links.make(host)
        host.conflist(PTP, name=_CONTAINERDS)
        host.conflist(_CAPABLE, name=CNITOOLS)
        configuration = {"policy": links.POLICY}
        containerd = stack.enter_context(Containerd(host, required_plugins=[_INJECTOR]))
        answering = {**configuration, "agentSocket": _INJECTORS_SOCKET}
        injector = NriPlugin(host, containerd.nri_socket, configuration=answering)
        # Those that are killed and started again: a line here, and a weight in plan.VICTIMS.
        residents = {
            _INJECTOR: Resident(stack.enter_context(injector), "synchronized"),
            _AGENT: Resident(stack.enter_context(CniAgent(host)), "started"),
        }
        apart = Host(directory / "go")  # for its files
        go = GoSide(apart.directory, _INJECTOR)
        silent = {**configuration, "agentSocket": ""}
        veteran = NriPlugin(apart, go.socket, configuration=silent)
        stack.callback(go.close)
        stack.enter_context(veteran)
        go.start()
        for each in residents.values():
            each.wait()
        yield Node(host, containerd, go, veteran, residents)
