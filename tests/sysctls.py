"""Whether each sysctl of a link is noticed when it changes, though not each is read anew."""

from __future__ import annotations

from contextlib import suppress

from cni_netdev.core import sysctl
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.kernel import SystemKernel

_SECRET = "2001:db8::1"  # noqa: S105 - it is written as an address
# Anything that is taken: flags, small numbers, large ones, the MTU of IPv6, addresses.
_CANDIDATES = ("0", "1", "2", "3", "7", "100", "1300", "1400", "3000", "60000", _SECRET)


def unnoticed(name: str) -> set[str]:
    """Those of the link that could be given another value without a look telling it."""
    host = SystemKernel().host
    found = set()
    for key in [*dict(sysctl.read(name)), "ipv6/conf/stable_secret"]:
        for _ in range(2):  # after which they are known
            before = dict(host.sysctls(name)).get(key)
        after = _changed(name, key, before)
        if after is not None and dict(host.sysctls(name)).get(key) != after:
            found.add(key)
    assert host.sysctls(name) == sysctl.read(name)
    return found


def unchanged(name: str) -> set[str]:
    """Those of the link that take no other value; of these unnoticed() says nothing."""
    return {key for key, value in sysctl.read(name) if _changed(name, key, value) is None}


def _changed(name: str, key: str, before: str | None) -> str | None:
    """Its value by now, if another was taken."""
    for each in _CANDIDATES:
        with suppress(KernelRefused):
            sysctl.write(name, key, each)
        now = dict(sysctl.read(name)).get(key)
        if now != before:
            return now
    return None
