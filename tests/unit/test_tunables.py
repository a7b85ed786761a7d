"""Which sysctls of a link may be asked for, and what is read back of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_netdev.core.tunables import TUNABLES, is_as_set

README = Path(__file__).parent.parent.parent / "README.md"


def test_each_is_one_of_a_links_own_and_the_readme_has_it() -> None:
    readme = README.read_text()
    for name, (key, (least, most)) in TUNABLES.items():
        group, _, entry = key.rpartition("/")
        assert group in ("ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh")
        assert entry.replace("_", "").isalnum()
        assert name == f"net.{key.replace('/', '.')}"
        assert 0 <= least < most
        assert f"`{entry}`" in readme


@pytest.mark.parametrize("entry", ["proxy_arp", "proxy_ndp", "log_martians", "stable_secret"])
def test_what_concerns_others_is_not_among_them(entry: str) -> None:
    assert not [name for name in TUNABLES if name.endswith(f".{entry}")]


@pytest.mark.parametrize(
    ("key", "wanted", "value", "same"),
    [
        ("ipv4/conf/rp_filter", "1", "1", True),
        ("ipv4/conf/rp_filter", "1", "2", False),
        ("ipv4/conf/rp_filter", "1", None, False),
        ("ipv4/neigh/retrans_time_ms", "1003", "1000", True),
        ("ipv4/neigh/retrans_time_ms", "1003", "1000000", False),
        ("ipv4/neigh/retrans_time_ms", "1003", None, False),
        ("ipv4/neigh/retrans_time_ms", "1003", "-1", False),
    ],
)
def test_the_kernel_counts_in_its_own_ticks(
    key: str, wanted: str, value: str | None, same: bool
) -> None:
    assert is_as_set(key, wanted, value) is same
