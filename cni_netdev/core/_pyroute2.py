"""pyroute2's rtnetlink message classes, without the rest of pyroute2 and of what that imports.

Importing any submodule of pyroute2 0.9 runs the package's ``__init__``, which imports all of it:
135 ms and 24 MB on every pod's start, for classes that load in 4.  So while the few modules that we
need are loaded, stand-ins take the place of what they only mention:

* the package itself, as a bare search path;
* modules of the standard library, with the few names that are asked for at import.  Whatever else
  is asked of one later, for a line of log say, the real module answers;
* ``pyroute2.config``, which loads multiprocessing and looks at the machine;
* for the messages of VFs, which are loaded late, ``ifinfmsg.plugins``: the decoders of what is
  special to kinds of links, which nobody reads here.

Afterwards they are taken away again, and our copies of pyroute2's modules with them, so that
``import pyroute2`` elsewhere in the process gets the real thing.  A release in which this does not
work is loaded with less of it; ``tests/kernel/test__pyroute2.py`` notices.

Rejected: ``IPRoute`` (112 ms for a one-shot ADD against 61, an event loop of its own, and a leak
of 1.5 kB for each GET in a resident process); packing messages by hand (not ours to write).
"""

from __future__ import annotations

import sys
from struct import Struct

from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple
from cni_netdev.core.linkmsg import link_message

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any
else:
    ModuleType = type(sys)


class Messages(NamedTuple):
    """The classes; each is made empty to be filled and encoded, or from bytes to be decoded.

    base: what message_class() derives from.
    """

    link: Any
    address: Any
    route: Any
    neighbour: Any
    traffic: Any
    namespace_id: Any
    forwarding: Any
    base: Any


_loaded: list[Messages] = []
_behind: dict[str, ModuleType] = {}  # our copies of pyroute2's modules
_rarer: dict[str, Any] = {}
_loaded_vf: list[Any] = []
_ATTRIBUTE, _ATTRIBUTE_NUMBER = Struct("=HH"), 0x3FFF  # struct nlattr, less its two flags
_UNKNOWN = ("UNKNOWN", "hex")
_NUMBERS = {
    name: Struct(f"={code}")
    for name, code in (
        ("uint8", "B"),
        ("uint16", "H"),
        ("uint32", "I"),
        ("int32", "i"),
        ("uint64", "Q"),
    )
}


def messages() -> Messages:
    """The message classes, loaded on the first call.  Raises ImportError without pyroute2."""
    if not _loaded:
        _loaded.append(_load(_import))
    return _loaded[0]


def message_class(
    name: str, prefix: str, fields: tuple[tuple[str, str], ...], attributes: tuple[Any, ...]
) -> Any:
    """A class like those of messages(), for what few requests need; made once.

    fields, attributes: as pyroute2 has them, (name, struct code) and (name, kind).
    """
    if name not in _rarer:
        body = {"prefix": prefix, "fields": fields, "nla_map": attributes}
        _rarer[name] = _swift(type(name, (messages().base,), body))
    return _rarer[name]


def further_message(
    name: str, fields: tuple[tuple[str, str], ...], attributes: dict[int, tuple[str, str]]
) -> Any:
    """The same of what pyroute2 lacks, or has only with much that is not needed.

    attributes: by number, each as above.
    """
    known = tuple(
        attributes.get(each, (f"UNUSED_{each}", "hex")) for each in range(max(attributes) + 1)
    )
    return message_class(name, "", fields, known)


def vf_message() -> Any:
    """An empty link message that can carry what the host sets of virtual functions.

    pyroute2's VLAN of a VF lacks the two bytes that pad struct ifla_vf_vlan_info.  None of these is
    a subclass of pyroute2's: of a class that was used already, that would encode as it does.
    """
    if not _loaded_vf:
        _loaded_vf.append(_vf_message(_load(_import_links)))
    return _loaded_vf[0]()


def _vf_message(link: Any) -> Any:
    listed = link.vflist
    info, vlans = listed.vfinfo, listed.vfinfo.vf_vlist
    nla = listed.__mro__[1]
    nlmsg = next(each for each in link.__mro__ if each.__name__ == "nlmsg")

    def anew(made: Any, **changed: Any) -> Any:
        body = {name: each for name, each in vars(made).items() if isinstance(each, type)}
        body.update(prefix=made.prefix, nla_map=made.nla_map, **changed)
        return type(made.__name__, (nla,), body)

    vlan = type("ivvi", (nla,), {"fields": (*vlans.ivvi.fields, ("pad", "2x"))})
    needed = ("IFLA_IFNAME", "IFLA_EXT_MASK", "IFLA_VFINFO_LIST")
    body = {
        "prefix": "IFLA_",
        "fields": link.fields,
        "nla_map": tuple(
            (each, kind if each in needed else "cdata") for each, kind in link.nla_map
        ),
        "vflist": anew(listed, vfinfo=anew(info, vf_vlist=anew(vlans, ivvi=vlan))),
    }
    return _swift(type("vfmsg", (nlmsg,), body))


def _load(wanted: Callable[[], Any]) -> Any:
    """What the function imports, with stand-ins in the place of what that only mentions."""
    if "pyroute2" in sys.modules:
        return wanted()
    everything = _stand_ins()
    for standing in (everything, {"pyroute2": everything["pyroute2"]}):
        before = sys.modules.copy()
        sys.modules.update({**_behind, **standing})
        try:
            return wanted()
        except (ImportError, AttributeError, TypeError):
            continue  # a release that asks for more
        finally:
            for name in sys.modules.keys() - before.keys():
                if name in standing:
                    del sys.modules[name]
                elif name.startswith("pyroute2."):
                    _behind[name] = sys.modules.pop(name)
    return wanted()


def _import() -> Messages:
    from pyroute2.netlink import nla, nlmsg
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ndmsg import ndmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    link = link_message(nlmsg, nla)
    traffic, namespace_id = _traffic_message(nlmsg), _namespace_id_message(nlmsg)
    forwarding = _forwarding_message(nlmsg, ndmsg)
    made = (link, ifaddrmsg, rtmsg, ndmsg, traffic, namespace_id, forwarding)
    return Messages(*(*map(_swift, made), nlmsg))


def _import_links() -> Any:
    """pyroute2's own link message, whose VFs linkmsg leaves as they are."""
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    return ifinfmsg


# --- stand-ins -------------------------------------------------------------------------------


class _StandIn(ModuleType):
    """A module with a few names; when it is over, the real one answers for the others."""

    def __init__(self, name: str, **names: Any) -> None:
        super().__init__(name)
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self or name.startswith("__"):
            raise AttributeError(f"{self.__name__} has no {name} here")
        return getattr(__import__(self.__name__), name)


class _Log:
    """A logger, made when something is to be logged."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        import logging

        return getattr(logging.getLogger(self._name), name)


class _Annotation:
    """Stands where only type checkers look."""

    def __getitem__(self, _key: object) -> _Annotation:
        return self

    def __call__(self, *_given: object, **_named: object) -> _Annotation:
        return self


class _Plugins(ModuleType):
    """A package that has any module, with a class of the module's name: bytes as they are."""

    def __getattr__(self, name: str) -> ModuleType:
        if name.startswith("__"):
            raise AttributeError(name)
        undecoded = sys.modules["pyroute2.netlink"].nlmsg_atoms.hex
        return _StandIn(f"{self.__name__}.{name}", **{name: undecoded})


def _stand_ins() -> dict[str, ModuleType]:
    """By name; of the standard library only what is not loaded anyway."""
    import _collections  # type: ignore[import-not-found]
    import _functools  # type: ignore[import-not-found]
    import _socket
    import _thread
    import _weakref

    anything = _Annotation()
    typing = ("Any", "Callable", "Dict", "Literal", "Optional", "TypeVar", "Union")
    library = (
        _StandIn("collections", OrderedDict=_collections.OrderedDict),
        _StandIn("functools", partial=_functools.partial),
        _StandIn("importlib"),
        _StandIn("logging", getLogger=_Log),
        _StandIn("pkgutil"),
        _StandIn("socket", AddressFamily=int, **_names(_socket)),
        _StandIn("threading", Lock=_thread.allocate_lock, local=_thread._local),  # noqa: SLF001
        _StandIn("traceback"),
        _StandIn("typing", **dict.fromkeys(typing, anything)),
        _StandIn("weakref", proxy=_weakref.proxy),
    )
    config = _StandIn("pyroute2.config", AF_BRIDGE=7, data_plugins_pkgs=[], data_plugins_path=[])
    package = _StandIn("pyroute2", __path__=_search_path(), config=config)
    plugins = _Plugins("pyroute2.netlink.rtnl.ifinfmsg.plugins")
    made = [each for each in library if each.__name__ not in sys.modules]
    return {each.__name__: each for each in (*made, config, package, plugins)}


def _names(module: ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if not name.startswith("__")}


def _search_path() -> list[str]:
    for finder in sys.meta_path:
        found = finder.find_spec("pyroute2", None)
        if found is not None and found.submodule_search_locations is not None:
            return list(found.submodule_search_locations)
    raise ImportError("pyroute2 is not installed beside this plugin")


# --- classes ---------------------------------------------------------------------------------


class _Swift:
    """In front of a message class, does with less what pyroute2 does the same for every message.

    A link comes with forty attributes: pyroute2 makes an object for each, which decodes itself in a
    dozen calls (0.2 ms).  Here that is done for one when it is read, and not for plain numbers,
    names and bytes.  Of a request it asks itself four times over what each field is (0.01 ms).
    """

    layout: Struct
    packed: tuple[str, ...]
    known: tuple[tuple[str, str], ...]

    def ft_encode(self: Any, offset: int) -> tuple[int, int]:
        self.data += self.layout.pack(*(dict.get(self, name) or 0 for name in self.packed))
        return offset + self.layout.size, 0

    def ft_decode(self: Any, offset: int) -> None:
        self.update(zip(self.packed, self.layout.unpack_from(self.data, offset), strict=True))
        self.decode_nlas(offset + self.layout.size)

    def decode_nlas(self: Any, offset: int) -> None:
        end = self.offset + self.length - _ATTRIBUTE.size
        while offset <= end:
            length, number = _ATTRIBUTE.unpack_from(self.data, offset)
            length, number = max(length, _ATTRIBUTE.size), number & _ATTRIBUTE_NUMBER
            name, kind = self.known[number] if number < len(self.known) else _UNKNOWN
            self["attrs"].append(_Later(self, name, kind, offset, length))
            offset += (length + 3) & ~3

    def read(self: Any, kind: str, offset: int, length: int) -> Any:
        """The value of the attribute there, of a kind by pyroute2's name for it."""
        start, end = offset + _ATTRIBUTE.size, offset + length
        if kind in _NUMBERS:
            return _NUMBERS[kind].unpack_from(self.data, start)[0]
        if kind == "asciiz":
            return _text(self.data[start:end].strip(b"\0"))
        if kind == "cdata":
            return self.data[start:end]
        whole, others = self.length, self["attrs"]
        self.length, self["attrs"] = min(whole, end - self.offset), []
        try:
            super().decode_nlas(offset)  # type: ignore[misc]
            attribute = self["attrs"][0]
            # What is in it asks what it is in (for the family of a gateway), by a weak reference.
            vars(self).setdefault("held", []).append(attribute)
            return attribute.value
        finally:
            self.length, self["attrs"] = whole, others


class _Later:
    """An attribute that is decoded when it is read; pyroute2's nla_slot as far as that is used."""

    __slots__ = ("_kind", "_length", "_message", "_offset", "name")

    def __init__(self, message: _Swift, name: str, kind: str, offset: int, length: int) -> None:
        self._message, self.name, self._kind = message, name, kind
        self._offset, self._length = offset, length

    @property
    def value(self) -> Any:
        return self._message.read(self._kind, self._offset, self._length)

    def __getitem__(self, at: int) -> Any:
        if at > 1:
            raise IndexError(at)
        return self.value if at else self.name


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _swift(made: Any) -> Any:
    body = {
        "layout": Struct("=" + "".join(kind for _, kind in made.fields)),
        "packed": tuple(name for name, kind in made.fields if not kind.endswith("x")),
        "known": tuple((name, kind) for name, kind in made.nla_map),
    }
    return type(made.__name__, (_Swift, made), body)


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
    between = ("STATS", "XSTATS", "RATE", "FCNT", "STATS2", "STAB", "PAD", "DUMP_INVISIBLE")
    attributes = (
        *(("TCA_UNSPEC", "none"), ("TCA_KIND", "asciiz"), ("TCA_OPTIONS", "cdata")),
        *((f"TCA_{name}", "cdata") for name in between),
        ("TCA_CHAIN", "uint32"),
    )
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
