"""The kernel as the engine sees it: ports.Kernel over netlink, sysfs and /proc."""

from __future__ import annotations

from cni_netdev.core import netns
from cni_netdev.core.changes import SystemNetns
from cni_netdev.core.lean import TYPE_CHECKING, ExitStack
from cni_netdev.core.looks import refusing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_netdev.core.model import (
        Identity,
        Link,
        Rdma,
    )
    from cni_netdev.core.ports import Occupancy

_SCAN = "look through /proc for network namespaces"
# The kernel takes a dead namespace apart in a worker of its own, in 7 to 40 ms when idle.
_DEAD_NAMESPACE_SECONDS, _LOOK_AGAIN_SECONDS = 2.0, 0.02


class SystemKernel:
    """This machine's kernel (ports.Kernel)."""

    def __init__(self) -> None:
        self._host: SystemNetns | None = None
        self._boot_id = ""

    @property
    def host(self) -> SystemNetns:
        if self._host is None:
            with refusing("open the host's network namespace"):
                handle = netns.current()
            self._host = SystemNetns(handle, own=True)
        return self._host

    @property
    def initial_netns(self) -> bool:
        with refusing("look for the initial network namespace"):
            return netns.is_initial(self.host.fd)

    @property
    def boot_id(self) -> str:
        if not self._boot_id:
            path = "/proc/sys/kernel/random/boot_id"
            with refusing(f"read {path}"), open(path, encoding="utf-8") as file:
                self._boot_id = file.read().strip()
        return self._boot_id

    def open(self, path: str) -> SystemNetns:
        return SystemNetns(netns.open_namespace(path), own=False)

    def cookie_at(self, path: str) -> int:
        return netns.cookie_at(path)

    @refusing(_SCAN)
    def search(self, cookie: int) -> SystemNetns | None:
        from cni_netdev.core import processes

        handle = processes.find_namespace(cookie)
        return SystemNetns(handle, own=False) if handle else None

    def await_hardware(self, identity: Identity) -> Link | None:
        import time

        from cni_netdev.core.values import is_pci

        deadline = time.monotonic() + _DEAD_NAMESPACE_SECONDS
        while (link := self.host.find(identity)) is None and time.monotonic() < deadline:
            if is_pci(identity.bus or "") and not self.host.has_bus(identity.bus or ""):
                return None  # unplugged; what is not on PCI need not be on any bus
            time.sleep(_LOOK_AGAIN_SECONDS)
        return link

    @refusing(_SCAN)
    def holder(self, identity: Identity, *, thorough: bool = True) -> SystemNetns | None:
        from cni_netdev.core import hidden, processes

        found = hidden.namespaces() if thorough else processes.namespaces(mounted=True)
        return _first(found, lambda candidate: candidate.holds(identity))

    @refusing(_SCAN)
    def rdma_holder(self, device: Rdma) -> SystemNetns | None:
        import time

        from cni_netdev.core import hidden

        found = _first(hidden.namespaces(), lambda each: each.find_rdma(device) is not None)
        deadline = time.monotonic() + _DEAD_NAMESPACE_SECONDS
        while found is None and self.host.find_rdma(device) is None and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)
        return found

    @refusing(_SCAN)
    def hunt(self, link: Link) -> tuple[str, ...]:
        from cni_netdev.core import hidden

        host = self.host
        ifindex = link.identity.ifindex
        return hidden.delete_stacked(ifindex, host.fd, lambda: host.overheard(link))

    @refusing(_SCAN)
    def occupancy(self, cookie: int) -> Occupancy:
        from cni_netdev.core import processes

        return processes.occupancy(cookie)

    def close(self) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None


def _first(
    handles: Iterator[netns.Handle], wanted: Callable[[SystemNetns], bool]
) -> SystemNetns | None:
    """The first of these namespaces that is wanted; the receiver closes it."""
    for handle in handles:
        with ExitStack() as otherwise:
            candidate = SystemNetns(handle, own=False)
            otherwise.callback(candidate.close)
            if wanted(candidate):
                otherwise.pop_all()
                return candidate
    return None
