"""Fixtures for all tests."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.agent import CniAgent
from tests.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AGENT = "agent"

# The same examples every time: a failure in CI must be had again at the desk.
settings.register_profile("project", deadline=None, derandomize=True, max_examples=200)
settings.load_profile("project")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host of its own, with nothing but lo."""
    with Host.enter(tmp_path) as made:
        yield made


@pytest.fixture
def cni(host: Host, request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host with our plugin and the real ones installed, and an agent if there is to be one."""
    host.install()
    with agent_if_asked(host, request):
        yield host


@contextmanager
def agent_if_asked(host: Host, request: pytest.FixtureRequest) -> Iterator[None]:
    """One is there if the test's parameter says so, and was asked when the test is over."""
    if getattr(request, "param", "") != AGENT:
        yield
        return
    with CniAgent(host) as agent:
        yield
        assert agent.answered() > 0, "nobody asked the agent"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of a module with ``BOTH_WAYS`` run twice: a process for each call, and the agent.

    Also where another module has taken them over.
    """
    own = sys.modules[metafunc.function.__module__]
    if "cni" in metafunc.fixturenames and getattr(own, "BOTH_WAYS", False):
        metafunc.parametrize("cni", ["process", AGENT], indirect=True)
