"""The sysctls of a link, most of them by what the kernel tells with the link itself.

Reading a hundred files is the dearest look at a link, and RTM_GETLINK brings two arrays of nearly
all their values (struct ipv4_devconf; ipv6_store_devconf in net/ipv6/addrconf.c).  The arrays have
no names and another scale for some, so they only say which of the texts that were read once is
true again: most links have the values of most others.
"""

from __future__ import annotations

from cni_netdev.core import sysctl
from cni_netdev.core.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_netdev.core.sysctl import Pairs

_MOST = 64  # arrays remembered
# What the array of IPv6 has.  Every other entry is read each time: stable_secret, regen_min_advance
# and ra_honor_pio_* are in none up to Linux 6.18, and a new one may not be.
_NAMES = """
    accept_dad accept_ra accept_ra_defrtr accept_ra_from_local accept_ra_min_hop_limit
    accept_ra_min_lft accept_ra_mtu accept_ra_pinfo accept_ra_rt_info_max_plen
    accept_ra_rt_info_min_plen accept_ra_rtr_pref accept_redirects accept_source_route
    accept_untracked_na addr_gen_mode autoconf dad_transmits disable_ipv6 disable_policy
    drop_unicast_in_l2_multicast drop_unsolicited_na enhanced_dad force_forwarding
    force_mld_version force_tllao forwarding hop_limit ignore_routes_with_linkdown ioam6_enabled
    ioam6_id ioam6_id_wide keep_addr_on_down max_addresses max_desync_factor mc_forwarding
    mldv1_unsolicited_report_interval mldv2_unsolicited_report_interval mtu ndisc_evict_nocarrier
    ndisc_notify ndisc_tclass optimistic_dad proxy_ndp ra_defrtr_metric regen_max_retry
    router_probe_interval router_solicitation_delay router_solicitation_interval
    router_solicitation_max_interval router_solicitations rpl_seg_enabled seg6_enabled
    seg6_require_hmac suppress_frag_ndisc temp_prefered_lft temp_valid_lft use_oif_addrs_only
    use_optimistic use_tempaddr
"""
_TOLD = frozenset(_NAMES.split())


class Memory:
    """What was read, by the arrays."""

    def __init__(self, arrays: Callable[[str], dict[str, bytes]]) -> None:
        """arrays: those of the link with a name, see rtnl.devconf; empty when there is none."""
        self._arrays = arrays
        self._read: dict[tuple[str, bytes], Pairs] = {}
        self._read_once: dict[tuple[str, bytes], Pairs] = {}

    def read(self, name: str) -> Pairs:
        """As sysctl.read()."""
        arrays = self._arrays(name)
        found: list[tuple[str, str]] = []
        fresh: dict[tuple[str, bytes], Pairs] = {}
        for group in sysctl.GROUPS:
            array = (group, arrays.get(group, b""))
            if array in self._read:
                found += self._read[array] + self._untold(group, name)
                continue
            values = sysctl.read_group(group, name)
            found += values
            if group in arrays:
                fresh[array] = tuple(each for each in values if _is_told(group, each[0]))
        if fresh and self._arrays(name) == arrays:
            self._remember(fresh)
        return tuple(sorted(found))

    def _untold(self, group: str, name: str) -> Pairs:
        return sysctl.read_group(group, name, _TOLD) if group == "ipv6/conf" else ()

    def _remember(self, fresh: dict[tuple[str, bytes], Pairs]) -> None:
        """Once two readings agree: one value may have been another for a moment."""
        for array, values in fresh.items():
            if self._read_once.pop(array, None) == values:
                _put(self._read, array, values)
            else:
                _put(self._read_once, array, values)


def _put(known: dict[tuple[str, bytes], Pairs], array: tuple[str, bytes], values: Pairs) -> None:
    if len(known) >= _MOST:
        known.clear()
    known[array] = values


def _is_told(group: str, key: str) -> bool:
    return group == "ipv4/conf" or key.rpartition("/")[2] in _TOLD
