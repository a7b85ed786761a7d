"""Each kind of call to the kernel and of file operation fails once, for each verb, on real links.

`make faults` tries every one with every errno and SIGKILL.
"""

from __future__ import annotations

import pytest

from tests.faults import VERBS, some_cases, try_verb

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("name", VERBS)
def test_each_kind_of_call_fails_once(name: str) -> None:
    row = try_verb(name, some_cases)
    assert row.results["wrong"] == 0
    assert row.results["refused"] + row.results["survived"] >= 20
