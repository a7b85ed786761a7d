"""docs/security.md names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "security.md").read_text())


@pytest.mark.parametrize(("path", "test"), NAMED)
def test_each_claim_has_its_test(path: str, test: str) -> None:
    text = (ROOT / path).read_text()
    assert not test or re.search(rf"^(async )?def {test}\(", text, re.MULTILINE)


def test_it_makes_claims() -> None:
    assert len(NAMED) > 50
