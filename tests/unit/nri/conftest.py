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
    from collections.abc import Coroutine, Iterator

    from tests.workbench import Bench


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(_limited(pyfuncitem.obj(**{each: pyfuncitem.funcargs[each] for each in names})))
    return True


async def _limited(test: Coroutine[None, None, None]) -> None:
    """A task that takes a cancellation for its end would let a test that hangs pass."""
    async with asyncio.timeout(PATIENCE) as limit:
        await test
    assert not limit.expired()


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
