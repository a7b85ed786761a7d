"""Each kind of call to the kernel and of file operation fails once, for each verb, on real links.

`make faults` tries every one with every errno, and with SIGKILL.  What several verbs have in common
is shared out among them here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import nri_faults
from tests.faults import Case, some_cases, try_verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.seams import Event

pytestmark = pytest.mark.e2e


def one_in(step: int, first: int = 0) -> Callable[[Sequence[Event]], Iterable[Case]]:
    return lambda events: list(some_cases(events))[first::step]


@pytest.mark.parametrize(
    ("name", "step", "first"),
    [
        ("ADD", 1, 0),
        ("DEL", 1, 0),
        ("CHECK", 1, 0),
        ("GC", 3, 0),
        ("recover, pod dead", 3, 1),
        ("recover, ADD killed", 3, 2),
    ],
)
def test_of_the_cni_plugin(name: str, step: int, first: int) -> None:
    row = try_verb(name, one_in(step, first))
    assert row.results["wrong"] == 0
    assert row.results["refused"] + row.results["survived"] > 15


@pytest.mark.parametrize(
    ("name", "first"), [("RunPodSandbox", 0), ("StopPodSandbox", 1), ("Synchronize", 2)]
)
def test_of_the_nri_plugin(name: str, first: int) -> None:
    row = nri_faults.try_deed(name, one_in(3, first))
    assert row.results["wrong"] == 0
    assert row.results["refused"] > 5
