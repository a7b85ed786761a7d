"""Reading and setting by name what ethtool sets, in the namespace of the calling thread."""

from __future__ import annotations

import errno
import struct

from cni_netdev.core import tuning
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.ethtool import Device
from cni_netdev.core.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_netdev.core.tuning import Pairs, Tunable

_PRIVATE_FLAGS, _FEATURES = 2, 4  # ETH_SS_PRIV_FLAGS, ETH_SS_FEATURES


def tunables(name: str) -> tuple[Tunable, ...]:
    """All that the link has; nothing for a link that is not there."""
    with Device(name) as device:
        return tuple(_all(device))


def tune(name: str, wanted: Pairs) -> None:
    """Set it, a section at a time.  Raises KernelRefused, also for what the driver did not do."""
    with Device(name) as device:
        for section in tuning.SECTIONS:
            asked = tuple(pair for pair in wanted if pair[0].startswith(f"{section}."))
            if not asked:
                continue
            what = f"set ethtool's {' and '.join(key for key, _ in asked)} of {name}"
            try:
                _set(device, section, asked)
            except OSError as error:
                raise KernelRefused(what, error.errno or 0) from error
        unmet = tuning.unmet(wanted, tuple(_all(device)))
    if unmet:
        what = f"set what ethtool sets of {name}"
        raise KernelRefused(what, errno.EOPNOTSUPP, f"with its driver {', '.join(unmet)}")


def _all(device: Device) -> Iterator[Tunable]:
    for section in tuning.SECTIONS:
        try:
            yield from _section(device, section)
        except OSError:
            continue  # not of this link


def _section(device: Device, section: str) -> list[Tunable]:
    if section == "features":
        return tuning.features_of(device.strings(_FEATURES), device.feature_words())
    if section == "private_flags":
        names = device.strings(_PRIVATE_FLAGS)
        return tuning.flags_of(names, _words(device.block("private flags"))[0]) if names else []
    return tuning.numbers_of(section, _words(device.block(section)))


def _set(device: Device, section: str, wanted: Pairs) -> None:
    if section == "features":
        names, words = device.strings(_FEATURES), device.feature_words()
        bits = tuning.feature_bits(names, words, wanted)
        device.set("features", b"".join(struct.pack("=II", *each) for each in bits))
    elif section == "private_flags":
        bits_now = _words(device.block("private flags"))[0]
        names = device.strings(_PRIVATE_FLAGS)
        changed = tuning.with_flags(names, bits_now, wanted)
        device.set("private flags", struct.pack("=I", changed))
    else:
        numbers = tuning.with_numbers(section, _words(device.block(section)), wanted)
        device.set(section, struct.pack(f"={len(numbers)}I", *numbers))


def _words(block: bytes) -> tuple[int, ...]:
    return struct.unpack(f"={len(block) // 4}I", block)
