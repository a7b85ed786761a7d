"""What ethtool sets of a link, by the names that ethtool(8) prints; pure.

    {"features": {"tso": "off"}, "rings": {"rx": 512}, "coalesce": {"adaptive-rx": "off"}}

Names of features and private flags are the link's own to say; those of numbers are fixed.  Inside,
each is one key, as ``features.tso`` or ``rings.rx``.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from cni_netdev.core import values
from cni_netdev.core.errors import Fault
from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_netdev.core.objects import Object

    Pairs = tuple[tuple[str, str], ...]
    Words = tuple[int, int, int, int]

FLAGS = ("features", "private_flags")
# Where in the kernel's block each number is (linux/ethtool.h), in words behind the command; of
# rings and channels the words before are the most that the link can have.
NUMBERS = {
    "rings": ("", "", "", "", "rx", "rx-mini", "rx-jumbo", "tx"),
    "channels": ("", "", "", "", "rx", "tx", "other", "combined"),
    "coalesce": (
        *("rx-usecs", "rx-frames", "rx-usecs-irq", "rx-frames-irq"),
        *("tx-usecs", "tx-frames", "tx-usecs-irq", "tx-frames-irq"),
        *("stats-block-usecs", "adaptive-rx", "adaptive-tx", "pkt-rate-low"),
        *("rx-usecs-low", "rx-frames-low", "tx-usecs-low", "tx-frames-low", "pkt-rate-high"),
        *("rx-usecs-high", "rx-frames-high", "tx-usecs-high", "tx-frames-high"),
        "sample-interval",
    ),
}
_SWITCHES = ("adaptive-rx", "adaptive-tx")
# In the order in which they are set: what other things depend on goes first.
SECTIONS = ("private_flags", "channels", "rings", "coalesce", "features")
# ethtool(8)'s own names for features, short and long, and which of the kernel's they stand for.
_GROUPS = (
    ("rx", "rx-checksumming", "rx-checksum"),
    ("tx", "tx-checksumming", "tx-checksum-*"),
    ("sg", "scatter-gather", "tx-scatter-gather*"),
    ("tso", "tcp-segmentation-offload", "tx-tcp*-segmentation"),
    ("gso", "generic-segmentation-offload", "tx-generic-segmentation"),
    ("gro", "generic-receive-offload", "rx-gro"),
    ("lro", "large-receive-offload", "rx-lro"),
    ("rxvlan", "rx-vlan-offload", "rx-vlan-hw-parse"),
    ("txvlan", "tx-vlan-offload", "tx-vlan-hw-insert"),
    ("ntuple", "ntuple-filters", "rx-ntuple-filter"),
    ("rxhash", "receive-hashing", "rx-hashing"),
)
_SHORT = {long: short for short, long, _ in _GROUPS}
_PATTERNS = {short: pattern for short, _, pattern in _GROUPS}
MOST = 64
_NAME_BYTES = 31  # ETH_GSTRING_LEN less the closing zero


class Tunable(NamedTuple):
    """One thing that a link has.  key: with the kernel's name of a feature.

    value: ``on`` and ``off`` or a decimal number.  most: of a number, 0 where that is not told.
    fixed: it cannot be set.
    """

    key: str
    value: str
    most: int = 0
    fixed: bool = False


# --- what is asked for -----------------------------------------------------------------------


def parse(given: Object) -> Pairs:
    """The pairs of (key, value), in the order in which they are to be set.

    given: the object under ``ethtool``; its faults get whatever is wrong.
    """
    given.refuse_unknown(SECTIONS)
    asked = [pair for section in SECTIONS for pair in _section(given, section)]
    if len(asked) > MOST:
        given.fault("", f"{len(asked)} settings are more than {MOST}")
    return tuple(asked)


def _section(given: Object, section: str) -> list[tuple[str, str]]:
    if not given.has(section):
        return []
    inner = given.nested(section)
    if section in NUMBERS:
        inner.refuse_unknown(tuple(filter(None, NUMBERS[section])))
    found: dict[str, str] = {}
    for name in inner.given():
        if section in FLAGS and not _is_name(name):
            inner.fault(f".{values.shown(name)[1:-1]}", "is no name that ethtool prints")
            continue
        key = f"{section}.{_SHORT.get(name, name) if section == 'features' else name}"
        if key in found:
            inner.fault(f".{name}", f"is {key} already")
        switch = section in FLAGS or name in _SWITCHES
        value = inner.take(name, values.as_on_or_off if switch else _number)
        if value is not None:
            found[key] = value
    return sorted(found.items())  # so that equal wishes are equal


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _NAME_BYTES and name.isascii() and name.isprintable()


def _number(value: object) -> str:
    return str(values.between(*values.U32)(value))


# --- against what a link has -----------------------------------------------------------------


def meant(key: str, there: Iterable[str]) -> tuple[str, ...]:
    """Those of the link's own keys that a key stands for; empty when it has none such."""
    section, _, name = key.partition(".")
    pattern = _PATTERNS.get(name) if section == "features" else None
    if pattern is None:
        return tuple(each for each in there if each == key)
    return tuple(each for each in there if fnmatchcase(each, f"features.{pattern}"))


def faults(asked: Pairs, offered: tuple[Tunable, ...], link: str, where: str) -> list[Fault]:
    """What of it this link cannot do, looked at before anything is set.  where: of the device."""
    having = {each.key: each for each in offered}
    found = []
    for key, value in asked:
        reason = _reason(key, value, [having[each] for each in meant(key, having)], having, link)
        if reason:
            found.append(Fault(f"{where}.ethtool.{key}", reason))
    return found


def _reason(
    key: str, value: str, those: list[Tunable], having: dict[str, Tunable], link: str
) -> str:
    section, _, name = key.partition(".")
    if not those:
        known = [each.partition(".")[2] for each in having if each.startswith(f"{section}.")]
        if not known:
            return f"{link} has no {section.replace('_', ' ')} that could be set"
        if section == "features":
            known += [short for short in _PATTERNS if meant(f"features.{short}", having)]
        return f"{link} has no {values.shown(name)}{_nearest(name, known)}"
    if all(each.fixed for each in those) and not _is(value, those):
        return f"is fixed at {_told(those)} by {link}'s driver"
    most = those[0].most
    if section in NUMBERS and most and int(value) > most:
        return f"{value} is above {link}'s maximum of {most}"
    return ""


def _nearest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; `ethtool` lists its {len(known)}"


def unmet(asked: Pairs, present: tuple[Tunable, ...]) -> tuple[str, ...]:
    """A few words for each that is not as it was asked for."""
    having = {each.key: each for each in present}
    found = []
    for key, value in asked:
        those = [having[each] for each in meant(key, having)]
        if not _is(value, those):
            found.append(f"{key} is {_told(those) if those else 'gone'} instead of {value}")
    return tuple(found)


def _is(value: str, those: list[Tunable]) -> bool:
    return bool(those) and _told(those) == value


def _told(those: list[Tunable]) -> str:
    """Of several features together: on as soon as one is, as ethtool(8) has it."""
    return "on" if "on" in [each.value for each in those] else those[0].value


# --- the kernel's blocks ---------------------------------------------------------------------


def numbers_of(section: str, words: tuple[int, ...]) -> list[Tunable]:
    """Of rings, channels or coalescing, as the kernel tells them."""
    found = []
    for at, name in enumerate(NUMBERS[section]):
        if name:
            most = words[at - 4] if section != "coalesce" else 0
            value = str(words[at]) if name not in _SWITCHES else _switch(bool(words[at]))
            absent = section != "coalesce" and not most
            found.append(Tunable(f"{section}.{name}", value, most, fixed=absent))
    return found


def with_numbers(section: str, words: tuple[int, ...], wanted: Pairs) -> tuple[int, ...]:
    """The block with what is wanted in it; what belongs to other sections is left out."""
    asked = dict(wanted)
    names = enumerate(NUMBERS[section])
    keyed = [(at, asked.get(f"{section}.{name}")) for at, name in names if name]
    changed = list(words)
    for at, value in keyed:
        if value is not None:
            changed[at] = int(value == "on") if value in ("on", "off") else int(value)
    return tuple(changed)


def _switch(value: bool) -> str:
    return "on" if value else "off"


def features_of(names: tuple[str, ...], words: tuple[Words, ...]) -> list[Tunable]:
    """words: for each 32 features what can be set, is asked for, is in effect and never changes."""
    found = []
    for at, name in enumerate(names):
        if name and at // 32 < len(words):
            available, _, active, never = (word >> at % 32 & 1 for word in words[at // 32])
            fixed = not available or bool(never)
            found.append(Tunable(f"features.{name}", _switch(bool(active)), fixed=fixed))
    return found


def feature_bits(
    names: tuple[str, ...], words: tuple[Words, ...], wanted: Pairs
) -> tuple[tuple[int, int], ...]:
    """For each 32 features which to set, and to what; what cannot be set is left out."""
    keys = [f"features.{name}" for name in names]
    masks = [[0, 0] for _ in words]
    for key, value in wanted:
        for each in meant(key, keys):
            at = keys.index(each)
            bit = 1 << at % 32
            if at // 32 < len(words) and words[at // 32][0] & bit:
                masks[at // 32][0] |= bit
                masks[at // 32][1] |= bit if value == "on" else 0
    return tuple((valid, requested) for valid, requested in masks)


def flags_of(names: tuple[str, ...], bits: int) -> list[Tunable]:
    return [
        Tunable(f"private_flags.{name}", _switch(bool(bits >> at & 1)))
        for at, name in enumerate(names)
        if name
    ]


def with_flags(names: tuple[str, ...], bits: int, wanted: Pairs) -> int:
    asked = dict(wanted)
    for at, name in enumerate(names):
        value = asked.get(f"private_flags.{name}")
        if value is not None:
            bits = bits | 1 << at if value == "on" else bits & ~(1 << at)
    return bits
