from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sysctls import unnoticed

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.vm


def test_none_changes_without_being_noticed(host: Host) -> None:
    """On another kernel than the one that tests/kernel runs on."""
    host.veth("nic1")
    assert unnoticed("nic1") == set()
