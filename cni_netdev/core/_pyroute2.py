"""pyroute2's rtnetlink message classes, without the rest of pyroute2.

Importing any submodule of pyroute2 0.9 runs the package's ``__init__``, which imports all of it:
135 ms and 24 MB on every pod's start, for classes that load in 25.  So a bare stand-in with the
package's search path takes its place while the few modules that we need are loaded, and is taken
away again, so that ``import pyroute2`` elsewhere in the process still gets the real package.
``tests/kernel/test__pyroute2.py`` notices a release in which this no longer works.

Rejected: ``IPRoute`` (112 ms for a one-shot ADD against 61, an event loop of its own, and a leak
of 1.5 kB for each GET in a resident process); packing messages by hand (not ours to write).
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any, NamedTuple


class Messages(NamedTuple):
    """The classes; each is made empty to be filled and encoded, or from bytes to be decoded."""

    link: Any
    address: Any
    route: Any
    neighbour: Any
    traffic: Any


_loaded: list[Messages] = []


def messages() -> Messages:
    """The message classes, loaded on the first call.  Raises ImportError without pyroute2."""
    if not _loaded:
        _loaded.append(_load())
    return _loaded[0]


def _load() -> Messages:
    stand_in = None
    if "pyroute2" not in sys.modules:
        found = PathFinder.find_spec("pyroute2")
        if found is None or found.submodule_search_locations is None:
            raise ImportError("pyroute2 is not installed beside this plugin")
        stand_in = ModuleType("pyroute2")
        stand_in.__path__ = list(found.submodule_search_locations)
        sys.modules["pyroute2"] = stand_in
    try:
        from pyroute2.netlink import nlmsg
        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
        from pyroute2.netlink.rtnl.ndmsg import ndmsg
        from pyroute2.netlink.rtnl.rtmsg import rtmsg
    finally:
        if stand_in is not None:
            del sys.modules["pyroute2"]
    link = _with_newer_attributes(ifinfmsg)
    return Messages(link, ifaddrmsg, rtmsg, ndmsg, _traffic_message(nlmsg))


def _traffic_message(nlmsg: Any) -> Any:
    """struct tcmsg (linux/rtnetlink.h) with its options undecoded; see qdisc."""
    fields = (
        ("family", "B"),
        ("pad", "3x"),
        ("index", "i"),
        ("handle", "I"),
        ("parent", "I"),
        ("info", "I"),
    )
    attributes = (("TCA_UNSPEC", "none"), ("TCA_KIND", "asciiz"), ("TCA_OPTIONS", "cdata"))
    body = {"prefix": "TCA_", "fields": fields, "nla_map": attributes}
    return type("trafficmsg", (nlmsg,), body)


def _with_newer_attributes(ifinfmsg: Any) -> Any:
    """``ifinfmsg`` with the attributes of linux/if_link.h that pyroute2 0.9.7 lacks, from 62 on."""
    newer = (
        ("IFLA_DEVLINK_PORT", "hex"),
        ("IFLA_GSO_IPV4_MAX_SIZE", "uint32"),
        ("IFLA_GRO_IPV4_MAX_SIZE", "uint32"),
        ("IFLA_DPLL_PIN", "hex"),
        ("IFLA_MAX_PACING_OFFLOAD_HORIZON", "uint32"),
        ("IFLA_NETNS_IMMUTABLE", "uint8"),
    )
    known = tuple(ifinfmsg.nla_map)
    first_missing = 62
    return type("linkmsg", (ifinfmsg,), {"nla_map": known + newer[len(known) - first_missing :]})
