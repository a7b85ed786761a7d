"""Fixtures of the NRI plugin's tests; a test that is a coroutine function is run as one."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.unit.nri.bench import Nri
from tests.unit.nri.peer import PATIENCE, Gate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.workbench import Bench


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    test = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    asyncio.run(asyncio.wait_for(test, PATIENCE))
    return True


@pytest.fixture
def nri(bench: Bench) -> Nri:
    return Nri(bench)


@pytest.fixture
def worker() -> Iterator[ThreadPoolExecutor]:
    """The one thread that handlers run on."""
    with ThreadPoolExecutor(1) as threads:
        yield threads


@pytest.fixture
def gate(worker: ThreadPoolExecutor) -> Iterator[Gate]:
    """Opened at the end, so that a test that fails does not wait for the worker."""
    assert worker
    made = Gate()
    yield made
    made.open()
