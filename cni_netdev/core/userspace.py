"""PCI functions that a driver in user space has (vfio, uio): reported, never moved; pure.

There is no link of them.  Inside, one is a Link without an ifindex, whose inode is that of the
function's own directory in sysfs, and whose name is its PCI address.
"""

from __future__ import annotations

from cni_netdev.core.errors import Fault
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import Identity, Link, LinkSettings

if TYPE_CHECKING:
    from cni_netdev.core.model import DeviceRequest

# Those that sriov-cni and host-device know; and vfio's own variants for one maker's cards.
_DRIVERS = ("vfio-pci", "uio_pci_generic", "igb_uio")
_VARIANTS = "vfio_pci"


def is_driver(name: str | None) -> bool:
    """Whether it hands its devices to programs."""
    return name is not None and (name in _DRIVERS or name.endswith(_VARIANTS))


def function(bus: str, driver: str, inode: int) -> Link:
    settings = LinkSettings(bus, 0, None, "", 0, 0, 0)
    return Link(Identity(0, inode, None, bus), settings, driver=driver)


def faults(request: DeviceRequest, link: Link) -> list[Fault]:
    """What is asked for and only a link has."""
    link_only = ("addresses", "routes", "mtu", "mac", "keep_addresses", "ethtool", "ebpf", "rdma")
    asked = [each for each in link_only if getattr(request, each)]
    reason = f"{link.name} has no link: driver {link.driver} has it, for a program"
    found = [Fault(f"{request.where}.{each}", reason) for each in asked]
    if request.extras:
        found.append(Fault(request.where, f"{reason}; ask for nothing that is set of a link"))
    return found
