"""Held against ipaddress: the same texts are taken, and mean the same."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cni_netdev.core import ip

v4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
v6 = st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
texts = st.one_of(
    st.builds("{}/{}".format, v4, st.integers(0, 33)),
    st.builds("{}/{}".format, v6, st.integers(0, 129)),
    (v4 | v6).map(str),
    st.text("0123456789abcf:./ -\0", max_size=20),
)


@given(texts)
@example("1.2.3")
@example("01.2.3.4")
@example("1.2.3.4/")
@example("1.2.3.4/+8")
@example("1.2.3.4/٣")
@example("::ffff:1.2.3.4/120")
@example("::/0")
@example("1:2:3:4:5:6:7::")
def test_it_is_taken_as_by_ipaddress(text: str) -> None:
    try:
        expected = ipaddress.ip_interface(text)
    except ValueError:
        with pytest.raises(ValueError, match="is no"):
            ip.interface(text)
        return
    found = ip.interface(text)
    assert ipaddress.ip_interface(str(found)) == expected
    assert ipaddress.ip_network(str(found.network)) == expected.network
    unusable = expected.ip.is_unspecified or expected.ip.is_multicast
    assert found.of_a_link == (not unusable)


def test_a_netmask_is_no_length() -> None:
    with pytest.raises(ValueError, match="is no length"):
        ip.interface("10.0.0.0/255.0.0.0")


def test_texts_are_as_the_kernels_come() -> None:
    assert str(ip.interface("::FFFF:1.2.3.4/128")) == "::ffff:1.2.3.4/128"
    assert str(ip.interface("FD00:0:0:0::1/64")) == "fd00::1/64"
