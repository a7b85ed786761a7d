"""What is said to be there already, and is or is not what it should be.

tests/kernel/test_restore.py has the kernel's side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cni_netdev.core.inplace import is_in_place
from cni_netdev.core.model import Address, Neighbour, NextHop, Route
from cni_netdev.core.steps import SetAddress, SetNeighbour, SetRoute

if TYPE_CHECKING:
    from cni_netdev.core.steps import Step
    from tests.workbench import Bench

V4, V6 = Address(2, "10.9.0.1", 24, peer="10.9.0.2"), Address(10, "fd09::1", 64)
WAY = Route(2, "10.8.0.0/16", gateway="10.0.1.254", priority=7)
V6_WAY = Route(10, "fd08::/64", gateway="fd00:1::9", priority=1024)
LEGS = (NextHop(0, "10.0.1.7", 1, 0), NextHop(9, "10.0.2.7", 1, 0))


@pytest.mark.parametrize(
    ("step", "there"),
    [
        (SetAddress("host", V4, True), True),
        (SetAddress("host", V6._replace(deprecated=True), True), True),
        (SetAddress("host", V6._replace(prefix=128), True), False),
        (SetAddress("host", V4._replace(peer="10.9.0.3"), True), False),
        (SetRoute("host", WAY, True), True),
        (SetRoute("host", WAY._replace(priority=8), True), False),
        (SetRoute("host", WAY._replace(gateway="10.0.1.253"), True), False),
        (SetRoute("host", V6_WAY._replace(priority=0), True), True),
        (SetRoute("host", WAY._replace(gateway=None, nexthops=LEGS), True), False),
        (SetNeighbour("host", Neighbour(2, "10.0.0.9", None, 128, 0), True), True),
    ],
)
def test_it_is_in_place(bench: Bench, step: Step, *, there: bool) -> None:
    bench.first.addresses = [V4, V6]
    bench.first.routes = [WAY, V6_WAY]
    assert is_in_place(bench.kernel.host, bench.first.ifindex, step) == there
    assert is_in_place(bench.kernel.host, bench.second.ifindex, step) == isinstance(
        step, SetNeighbour
    )
