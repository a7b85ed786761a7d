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
    namespace_id: Any
    forwarding: Any


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
        from pyroute2.netlink import nla, nlmsg
        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
        from pyroute2.netlink.rtnl.ndmsg import ndmsg
        from pyroute2.netlink.rtnl.rtmsg import rtmsg
    finally:
        if stand_in is not None:
            del sys.modules["pyroute2"]
    link = _link_message(ifinfmsg, nla)
    traffic, namespace_id = _traffic_message(nlmsg), _namespace_id_message(nlmsg)
    forwarding = _forwarding_message(nlmsg, ndmsg)
    return Messages(link, ifaddrmsg, rtmsg, ndmsg, traffic, namespace_id, forwarding)


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


def _forwarding_message(nlmsg: Any, ndmsg: Any) -> Any:
    """``ndmsg`` with its attributes undecoded; see forwarding.

    No subclass of it: once it was used, that would decode as it does.
    """
    undecoded = tuple((name, "cdata") for name, _ in ndmsg.nla_map)
    body = {"prefix": "NDA_", "fields": ndmsg.fields, "nla_map": undecoded}
    return type("fdbmsg", (nlmsg,), body)


def _namespace_id_message(nlmsg: Any) -> Any:
    """struct rtgenmsg with the attributes of linux/net_namespace.h."""
    names = ("NSID", "PID", "FD", "TARGET_NSID", "CURRENT_NSID")
    attributes = (("NETNSA_NONE", "none"), *((f"NETNSA_{name}", "uint32") for name in names))
    body = {"prefix": "NETNSA_", "fields": (("family", "B"), ("pad", "3x")), "nla_map": attributes}
    return type("nsidmsg", (nlmsg,), body)


def _link_message(ifinfmsg: Any, nla: Any) -> Any:
    """``ifinfmsg`` with the attributes of linux/if_link.h that pyroute2 0.9.7 lacks, from 62 on,
    and with what is of one kind of link only (IFLA_INFO_DATA) left as the kernel's bytes.
    """
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
    names = ("UNSPEC", "KIND", "DATA", "XSTATS", "SLAVE_KIND", "SLAVE_DATA")
    types = ("none", "asciiz", "cdata", "hex", "asciiz", "hex")
    info = {
        "prefix": "IFLA_INFO_",
        "nla_map": tuple(zip((f"IFLA_INFO_{name}" for name in names), types, strict=True)),
    }
    body = {
        "nla_map": known + newer[len(known) - first_missing :],
        "ifinfo": type("ifinfo", (nla,), info),
    }
    return type("linkmsg", (ifinfmsg,), body)
