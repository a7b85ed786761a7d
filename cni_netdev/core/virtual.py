"""An SR-IOV virtual function, looked at and set through its physical function's link."""

from __future__ import annotations

import errno

from cni_netdev.core import vf, vfinfo
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import VirtualFunction
from cni_netdev.core.netlink import (
    NLM_F_ACK,
    RTM_GETLINK,
    RTM_SETLINK,
)

if TYPE_CHECKING:
    from typing import Any

    from cni_netdev.core.netlink import Connection
    from cni_netdev.core.sysfs import SysView
    from cni_netdev.core.vf import Pairs


def look(rtnl: Connection, sysfs: SysView, address: str) -> VirtualFunction | None:
    """The VF at this PCI address; see ports.Netns."""
    place = sysfs.physical_function(address) if address else None
    if place is None:
        return None
    told = _told(rtnl, sysfs, place[0])
    return VirtualFunction(*place, vfinfo.settings_from(told, place[1]) if told else ())


def change(
    rtnl: Connection, sysfs: SysView, place: tuple[str, int], before: Pairs, after: Pairs
) -> None:
    """Set what differs.  place: the physical function's PCI address and the VF's number there.

    Raises KernelRefused, also for what the driver took and did not do.
    """
    pf, number = place
    what = f"set VF {number} of {pf}"
    told = _told(rtnl, sysfs, pf)
    if told is None:
        raise KernelRefused(f"{what}: it has no link here", errno.ENODEV)
    for group in vf.changes(before, after):
        pairs = ", ".join(f"{key} {value}" for key, value in group)
        message = vfinfo.change(told["index"], number, group)
        rtnl.request(f"{what} to {pairs}", message, RTM_SETLINK, NLM_F_ACK)
    told = _told(rtnl, sysfs, pf)
    unmet = vf.differing(after, vfinfo.settings_from(told, number) if told else ())
    if unmet:
        raise KernelRefused(what, errno.EOPNOTSUPP, f"with its driver {', '.join(unmet)}")


def _told(rtnl: Connection, sysfs: SysView, pf: str) -> Any:
    """What the physical function's link says with its VFs; None when it has no link here."""
    # Under a switch's driver the VFs' representors are links of the same device.
    names = [name for name in sysfs.by_bus(pf) if _is_uplink(sysfs.port(name))]
    if not names:
        return None
    try:
        what = f"look at the VFs of {names[0]}"
        return rtnl.request(what, vfinfo.query(names[0]), RTM_GETLINK, 0)[0]
    except KernelRefused as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def _is_uplink(port: str) -> bool:
    return not port or (port.startswith("p") and port[1:].isdecimal())
