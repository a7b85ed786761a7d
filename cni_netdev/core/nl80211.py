"""Wi-Fi over the kernel's nl80211 (linux/nl80211.h): a phy moves with all its links, which cannot.

A generic netlink socket sees the phys of the namespace that it was made in.
"""

from __future__ import annotations

from cni_netdev.core._pyroute2 import further_message
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.netlink import NETLINK_GENERIC, NLM_F_ACK, Connection
from cni_netdev.core.rtnl import Attributes, encoded

if TYPE_CHECKING:
    from typing import Any

_CONTROL, _GET_FAMILY = 16, 3  # linux/genetlink.h
_SET_WIPHY, _SET_WIPHY_NETNS = 2, 49
_GET_INTERFACE, _SET_INTERFACE, _NEW_INTERFACE, _DEL_INTERFACE = 5, 6, 7, 8
_HEADER = (("cmd", "B"), ("version", "B"), ("reserved", "2x"))  # struct genlmsghdr
_OF_CONTROL = {1: ("FAMILY_ID", "uint16"), 2: ("FAMILY_NAME", "asciiz")}
_ATTRIBUTES = {
    1: ("WIPHY", "uint32"),
    2: ("WIPHY_NAME", "asciiz"),
    3: ("IFINDEX", "uint32"),
    4: ("IFNAME", "asciiz"),
    5: ("IFTYPE", "uint32"),
    219: ("NETNS_FD", "uint32"),
}


class Nl80211:
    """A connection in the calling thread's namespace.  All methods raise KernelRefused."""

    def __init__(self) -> None:
        self._message = further_message("nl80211msg", _HEADER, _ATTRIBUTES)
        self._connection = Connection(NETLINK_GENERIC)
        self._family = 0

    def close(self) -> None:
        self._connection.close()

    def move(self, phy: int, namespace: int) -> None:
        """With all its links, which are down then; one whose name is taken there gets another.

        namespace: a descriptor of it.
        """
        self._change(f"move phy {phy}", _SET_WIPHY_NETNS, ("WIPHY", phy), ("NETNS_FD", namespace))

    def rename(self, phy: int, before: str, after: str) -> None:
        name = ("WIPHY_NAME", encoded(after))
        self._change(f"rename phy {before} to {after}", _SET_WIPHY, ("WIPHY", phy), name)

    def type_of(self, ifindex: int) -> int:
        """A link's type (NL80211_IFTYPE_*): 2 is a station's, 6 a monitor's."""
        what = f"ask for the type of ifindex {ifindex}"
        replies = self._request(what, _GET_INTERFACE, 0, ("IFINDEX", ifindex))
        return int(Attributes(replies[0])["IFTYPE"])

    def set_type(self, ifindex: int, type_: int) -> None:
        what = f"set type {type_} of ifindex {ifindex}"
        self._change(what, _SET_INTERFACE, ("IFINDEX", ifindex), ("IFTYPE", type_))

    def make(self, phy: int, type_: int) -> int:
        """A new link on a phy, under any name that is free; gives its ifindex."""
        attributes = (("WIPHY", phy), ("IFNAME", "wlan%d"), ("IFTYPE", type_))
        replies = self._request(f"make a link on phy {phy}", _NEW_INTERFACE, 0, *attributes)
        return int(Attributes(replies[0])["IFINDEX"])

    def remove(self, ifindex: int) -> None:
        self._change(f"remove ifindex {ifindex} from its phy", _DEL_INTERFACE, ("IFINDEX", ifindex))

    def _change(self, what: str, command: int, *attributes: tuple[str, Any]) -> None:
        self._request(what, command, NLM_F_ACK, *attributes)

    def _request(
        self, what: str, command: int, flags: int, *attributes: tuple[str, Any]
    ) -> list[Any]:
        message = self._message()
        message["cmd"] = command
        message["attrs"] = list(attributes)
        if not self._family:
            self._family = self._look_up()
        return self._connection.request(what, message, self._family, flags)

    def _look_up(self) -> int:
        """The number that the kernel gave nl80211 when it was loaded."""
        query = further_message("ctrlmsg", _HEADER, _OF_CONTROL)()
        query["cmd"], query["version"] = _GET_FAMILY, 1
        query["attrs"] = [("FAMILY_NAME", "nl80211")]
        (reply,) = self._connection.request("look for nl80211", query, _CONTROL, 0)
        return int(Attributes(reply)["FAMILY_ID"])
