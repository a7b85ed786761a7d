"""Two minutes of the soak, as `make soak MINUTES=2` has them; and that it tells what is lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.soak import plan
from tests.soak.node import stand
from tests.soak.soak import Lost, Soak

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

SECONDS = 120


def test_two_minutes(tmp_path: Path) -> None:
    end = time.monotonic() + SECONDS
    with stand(tmp_path) as node:
        assert node.victims.keys() == plan.VICTIMS.keys()
        soak = Soak(node, "ci", print)
        soak.run(end)
    chronicle = soak.chronicle
    assert chronicle.total("attached") == chronicle.total("detached") > 0
    ways = " ".join(chronicle.kinds("attached"))
    for way in ("plain namespace by cni", "containerd by nri", "Go's NRI side by nri"):
        assert way in ways
    assert chronicle.kinds("killed").keys() >= {
        "cni-netdev",
        "network-device-injector",
        "netdevctl agent",
        "containerd",
    }
    assert all(chronicle.kinds("answered").values())


def test_a_difference_is_told_with_seed_round_and_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "BOUTS", 1)
    monkeypatch.setattr(plan, "STEPS", 1)
    with stand(tmp_path) as node:
        node.host.ip("link set nic0 mtu 1444")
        with pytest.raises(Lost) as lost:
            Soak(node, "broken", print, patience=1).run(0, first=5)
    told = str(lost.value)
    assert "nic0.link.mtu: 1450 became 1444" in told
    assert "again: make soak SEED=broken ROUND=5 MINUTES=0" in told
    assert "--- history of nic0 ---" in told
    assert "--- last lines of network-device-injector ---" in told
