"""Each file that an operator may copy from conf/ is valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_netdev.validate import policy_from, validate_text

CONF = Path(__file__).parent.parent.parent / "conf"
KINDS = {
    "10-pods.conflist": "conflist",
    "20-storage.conflist": "conflist",
    "policy.yaml": "policy",
    "pod.yaml": "pod manifest",
}


def test_every_file_is_checked() -> None:
    assert {path.name for path in CONF.iterdir()} == set(KINDS)


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_it_is_valid(name: str, kind: str) -> None:
    assert validate_text((CONF / name).read_text()) == (kind, ())


def test_the_policy_is_read_as_one() -> None:
    assert len(policy_from((CONF / "policy.yaml").read_text()).rules) == 3
