"""The engine on a test's host, and pods that lend themselves to tricks."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from cni_netdev.core import netns
from cni_netdev.core.devices import parse_devices
from cni_netdev.core.engine import Injector
from cni_netdev.core.journal import FileJournal
from cni_netdev.core.kernel import SystemKernel
from cni_netdev.core.model import Owner
from cni_netdev.core.policy import Pod as PodOfPolicy
from cni_netdev.core.policy import parse_policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_netdev.core.model import DeviceRequest, Link
    from cni_netdev.core.restore import Release
    from tests.host import Host, Pod

OWNER = Owner("cni", "net", "c1", "eth0")
# What keeps a namespace in which nobody is.
Keeper = Literal["process", "mount", "descriptor", "socket", "descriptor on its way"]


class Node:
    """The engine on the test's host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.kernel = SystemKernel()
        self.journal = FileJournal()
        self.engine = Injector(self.kernel, self.journal)

    def attach(
        self, pod: Pod, *devices: dict[str, object], owner: Owner = OWNER, policy: object = None
    ) -> None:
        requests = requests_of(*devices)
        rules = parse_policy(policy or {})
        self.engine.attach(owner, pod.path, requests, rules, PodOfPolicy())

    def detach(self, owner: Owner = OWNER) -> Release:
        release = self.engine.detach(owner.key)
        assert release is not None
        return release

    def link(self, name: str) -> Link:
        """One of the host's, as the engine sees it."""
        found = self.kernel.host.link(name=name)
        assert found is not None
        return found


def requests_of(*devices: dict[str, object]) -> tuple[DeviceRequest, ...]:
    return parse_devices(list(devices), "config", "devices")


@contextmanager
def inside(pod: Pod) -> Iterator[None]:
    """The calling thread in the pod's network namespace."""
    handle = netns.open_namespace(pod.path)
    with netns.inside(handle.fd):
        yield
    handle.close()


_KEEPER = """
import array, ctypes, os, socket, sys
how, path = sys.argv[1:]
setns = ctypes.CDLL(None).setns
home, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(path, os.O_RDONLY)
if how == "process":
    setns(there, 0)
elif how == "socket":
    setns(there, 0)
    kept = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    setns(home, 0)
elif how == "descriptor on its way":
    kept = socket.socketpair()
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [there]))
    kept[0].sendmsg([b"x"], [rights])
if how != "descriptor":
    os.close(there)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def kept(pod: Pod, how: Keeper) -> Iterator[None]:
    """While nothing but this keeps its network namespace, whose name is gone, if it is no mount."""
    if how == "mount":
        yield
        return
    command = [sys.executable, "-IS", "-c", _KEEPER, how, pod.path]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        pod.delete()
        yield
        child.kill()
