"""What a resident process loads before its first call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cni_netdev.core.ports import Kernel


def warm(kernel: Kernel) -> None:
    """Load what the first pod would otherwise wait for; nothing is changed.

    Raises NetdevError and OSError when links cannot be looked at, as without a capability.
    """
    import yaml  # noqa: F401 - annotations are written in it

    from cni_netdev.core import annotations  # noqa: F401

    host = kernel.host
    loopback = host.link(name="lo")
    if loopback is not None:
        ifindex = loopback.identity.ifindex
        for look in (host.addresses, host.routes, host.neighbours, host.tcx, host.qdiscs):
            look(ifindex)
        host.sysctls(loopback.name)
