"""Fixtures for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The same examples every time: a failure in CI must be had again at the desk.
settings.register_profile("project", deadline=None, derandomize=True, max_examples=200)
settings.load_profile("project")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host of its own, with nothing but lo."""
    with Host.enter(tmp_path) as made:
        yield made


@pytest.fixture
def cni(host: Host) -> Host:
    """A host with our plugin and the real ones installed."""
    host.install()
    return host
