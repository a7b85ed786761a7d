"""The sysctls of its own link that a request may ask for, and within what limits; pure.

Of Documentation/networking/ip-sysctl.rst what concerns nobody but the pod.  Left out: what makes
it answer for others (proxy_arp, proxy_ndp), what fills the node's log (log_martians), what takes
more memory than the limits here, secrets, and what is set in coarser units elsewhere.
"""

from __future__ import annotations

_SWITCH = (0, 1)
_V4 = {
    "accept_local": _SWITCH,
    "accept_redirects": _SWITCH,
    "arp_accept": (0, 2),
    "arp_announce": (0, 2),
    "arp_evict_nocarrier": _SWITCH,
    "arp_filter": _SWITCH,
    "arp_ignore": (0, 8),
    "arp_notify": _SWITCH,
    "drop_gratuitous_arp": _SWITCH,
    "drop_unicast_in_l2_multicast": _SWITCH,
    "force_igmp_version": (0, 3),
    "forwarding": _SWITCH,
    "ignore_routes_with_linkdown": _SWITCH,
    "promote_secondaries": _SWITCH,
    "rp_filter": (0, 2),
    "secure_redirects": _SWITCH,
    "send_redirects": _SWITCH,
    "shared_media": _SWITCH,
    "src_valid_mark": _SWITCH,
}
_V6 = {
    "accept_dad": (0, 2),
    "accept_ra": (0, 2),
    "accept_ra_defrtr": _SWITCH,
    "accept_ra_mtu": _SWITCH,
    "accept_ra_pinfo": _SWITCH,
    "accept_ra_rt_info_max_plen": (0, 128),
    "accept_ra_rtr_pref": _SWITCH,
    "accept_redirects": _SWITCH,
    "accept_untracked_na": (0, 2),
    "addr_gen_mode": (0, 3),
    "autoconf": _SWITCH,
    "dad_transmits": (0, 10),
    "disable_ipv6": _SWITCH,
    "drop_unicast_in_l2_multicast": _SWITCH,
    "drop_unsolicited_na": _SWITCH,
    "enhanced_dad": _SWITCH,
    "force_mld_version": (0, 2),
    "forwarding": _SWITCH,
    "hop_limit": (1, 255),
    "ignore_routes_with_linkdown": _SWITCH,
    "keep_addr_on_down": _SWITCH,
    "max_addresses": (1, 64),
    "mtu": (1280, 65535),
    "ndisc_notify": _SWITCH,
    "optimistic_dad": _SWITCH,
    "router_solicitations": (0, 10),
    "suppress_frag_ndisc": _SWITCH,
    "use_optimistic": _SWITCH,
    "use_tempaddr": (0, 2),
}
_NEIGHBOURS = {
    "app_solicit": (0, 10),
    "base_reachable_time_ms": (1000, 3_600_000),
    "delay_first_probe_time": (0, 60),
    "gc_stale_time": (1, 86_400),
    "mcast_resolicit": (0, 10),
    "mcast_solicit": (0, 10),
    "retrans_time_ms": (100, 60_000),
    "ucast_solicit": (0, 10),
    "unres_qlen_bytes": (0, 1 << 20),
}
# By the name that people write, without the link's: its path below /proc/sys/net, and its limits.
TUNABLES = {
    f"net.{group}.{name}": (f"{group.replace('.', '/')}/{name}", limits)
    for group, names in (
        ("ipv4.conf", _V4),
        ("ipv6.conf", _V6),
        ("ipv4.neigh", _NEIGHBOURS),
        ("ipv6.neigh", _NEIGHBOURS),
    )
    for name, limits in names.items()
}
_TICK_MS = 10  # at the coarsest; the kernel keeps its own ticks and tells them in ms


def is_as_set(key: str, wanted: str, value: str | None) -> bool:
    """Whether what is read is what was written; key as sysctl.read() has it."""
    if value == wanted:
        return True
    in_ticks = key.endswith("_ms") and value is not None and value.isdecimal()
    return in_ticks and abs(int(value or 0) - int(wanted)) <= _TICK_MS
