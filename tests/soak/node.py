"""The soak's node: its links, both front ends, three runtimes, and who of them can be killed.

    cni-netdev              called by cnitool, by hand, and (in chained rounds) by containerd
    containerd              with a network-device-injector that is killed now and then
    nri-runtime             Go's runtime side, killed now and then, with an injector that never is:
                            what it needs of memory and descriptors is to be seen over all the time

All share one state directory.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tests.containerd import Containerd
from tests.host import PTP, Host
from tests.injector import NriPlugin
from tests.lines import Ended
from tests.nri_runtime import GoRuntime
from tests.soak import links
from tests.soak.places import Untouched

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REQUIRED = "network-device-injector"
_CNI_LOG = "/run/soak/cni.log"
_CNI = {"type": "cni-netdev", "policy": links.POLICY, "logFile": _CNI_LOG}
_CAPABLE = {
    **_CNI,
    "capabilities": {"io.kubernetes.cri.pod-annotations": True, "netDevices": True},
}
# containerd takes the first by name.  BY_HAND is written nowhere: the plugin is called with it.
_CONTAINERDS, CNITOOLS, BY_HAND = "pods", "tool", "hand"
CONF = {"cniVersion": "1.1.0", "name": BY_HAND, **_CNI}


class Victim(Protocol):
    """Who can be killed.  kill: at once; False when there was nobody.  revive: of use again."""

    def kill(self) -> bool: ...
    def revive(self) -> None: ...


class GoSide:
    """NRI's runtime side, which keeps its plugin, and its pods' names, over its own deaths."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._runtime: GoRuntime | None = None
        self.pods: dict[str, dict[str, Any]] = {}

    @property
    def socket(self) -> Path:
        return self._directory / "nri.sock"

    @property
    def runtime(self) -> GoRuntime:
        """Raises Ended while there is none."""
        if self._runtime is None:
            raise Ended("nri-runtime is not running")
        return self._runtime

    @property
    def pid(self) -> int:
        return self.runtime.process.pid

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        runtime = GoRuntime(self._directory, required_plugin=REQUIRED)
        runtime.wait_for("listening", 30)
        runtime.set_pods(list(self.pods.values()))
        self._runtime = runtime
        runtime.wait_for("synchronized", 30)
        runtime.wait_for("plugins", 30, count=2)  # NRI's own validator is one

    def kill(self) -> bool:
        runtime, self._runtime = self.runtime, None
        runtime.process.kill()
        runtime.close()
        return True

    revive = start

    def close(self) -> None:
        if self._runtime is not None:
            self._runtime.close()


class Program(Protocol):
    """What a resident is to be: a process with a log.  NriPlugin is one."""

    log_file: Path

    @property
    def pid(self) -> int: ...
    def kill(self) -> None: ...
    def start(self) -> None: ...
    def lines(self, message: str) -> list[dict[str, Any]]: ...
    def wait_for(self, message: str, count: int) -> object: ...


class Resident:
    """Such a process, which is of use again when it says so."""

    def __init__(self, program: Program, says: str) -> None:
        self.program = program
        self._says = says
        self._said = 0

    def kill(self) -> bool:
        self.program.kill()
        self.count()
        return True

    def revive(self) -> None:
        self.program.start()
        self.wait()

    def count(self) -> None:
        """How often it has said so by now."""
        self._said = len(self.program.lines(self._says))

    def wait(self) -> None:
        """Until it says so once more than was counted."""
        self.program.wait_for(self._says, self._said + 1)


class _Containerd:
    """Of use again when its plugin has connected to it again."""

    def __init__(self, containerd: Containerd, plugin: Resident) -> None:
        self._containerd = containerd
        self._plugin = plugin
        self.there = Event()
        self.there.set()

    def kill(self) -> bool:
        self.there.clear()
        self._containerd.kill()
        self._plugin.count()
        return True

    def revive(self) -> None:
        self._containerd.start()
        self.there.set()
        self._plugin.wait()


class _InFlight:
    """A call of the CNI plugin, if one is made soon, at a random moment of its life."""

    _PATIENCE = 1.0
    _LIFE = 0.1

    def kill(self) -> bool:
        limit = time.monotonic() + self._PATIENCE
        while time.monotonic() < limit:
            for pid in self._running():
                time.sleep(random.uniform(0, self._LIFE))  # noqa: S311 - any moment
                if self._end(pid):
                    return True
            time.sleep(0.001)
        return False

    def revive(self) -> None:
        """Nothing: the next call starts the next one."""

    def _running(self) -> Iterator[int]:
        for each in Path("/proc").iterdir():
            if each.name.isdecimal() and self._is_ours(int(each.name)):
                yield int(each.name)

    def _is_ours(self, pid: int) -> bool:
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            same = os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
            return same and any(word.endswith("/cni-netdev") for word in words[:3])
        return False

    def _end(self, pid: int) -> bool:
        """By descriptor: the number may be another process's by now."""
        with suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                if self._is_ours(pid):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    return True
            finally:
                os.close(descriptor)
        return False


class _Recover:
    """`netdevctl recover`, at a random moment of its life."""

    _LIFE = 0.3

    def kill(self) -> bool:
        command = [str(Path(sys.executable).parent / "netdevctl"), "recover"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
            time.sleep(random.uniform(0, self._LIFE))  # noqa: S311 - any moment
            child.kill()
        return child.returncode < 0

    def revive(self) -> None:
        """Nothing: it is not missed."""


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
        side = _Containerd(containerd, residents[REQUIRED])
        self.containerd_is_there = side.there
        self.victims: Mapping[str, Victim] = {
            "cni-netdev": _InFlight(),
            "netdevctl": _Recover(),
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
        containerd = stack.enter_context(Containerd(host, required_plugins=[REQUIRED]))
        injector = NriPlugin(host, containerd.nri_socket, configuration=configuration)
        # Those that are killed and started again: a line here, and a weight in plan.VICTIMS.
        residents = {
            REQUIRED: Resident(stack.enter_context(injector), "synchronized"),
        }
        apart = Host(directory / "go")  # for its files
        go = GoSide(apart.directory)
        veteran = NriPlugin(apart, go.socket, configuration=configuration)
        stack.callback(go.close)
        stack.enter_context(veteran)
        go.start()
        for each in residents.values():
            each.wait()
        yield Node(host, containerd, go, veteran, residents)
