"""VRFs in a pod; pure, pyroute2 messages and what a link says of itself.

Those that we made are marked by their group (`ip link` shows ``group 110``), which is set in the
message that makes them, so that none is ever without.  linux/if_link.h has the numbers.
"""

from __future__ import annotations

import struct

from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.rtnl import encoded, link_only

if TYPE_CHECKING:
    from typing import Any

    from cni_netdev.core.model import Link

OUR_GROUP = 110
_IFF_UP = 1
_TABLE = struct.Struct("=HHI")  # IFLA_VRF_TABLE, an attribute of eight bytes
_TABLE_NUMBER = 1


def creation(name: str, table: int) -> Any:
    """RTM_NEWLINK of one that is up."""
    info = [("IFLA_INFO_KIND", "vrf"), ("IFLA_INFO_DATA", _data(table))]
    message = link_only(
        0,
        ("IFLA_IFNAME", encoded(name)),
        ("IFLA_GROUP", OUR_GROUP),
        ("IFLA_LINKINFO", {"attrs": info}),
    )
    message["flags"] = message["change"] = _IFF_UP
    return message


def has_table(link: Link, table: int) -> bool:
    """Whether the link is a VRF of this table."""
    return link.kind == "vrf" and link.data == _data(table).hex()


def is_ours(link: Link) -> bool:
    return link.kind == "vrf" and link.settings.group == OUR_GROUP


def _data(table: int) -> bytes:
    return _TABLE.pack(_TABLE.size, _TABLE_NUMBER, table)
