"""Fixtures for the tests over fakes."""

from __future__ import annotations

import pytest

from tests.workbench import Bench, new_bench


@pytest.fixture
def bench() -> Bench:
    return new_bench()
