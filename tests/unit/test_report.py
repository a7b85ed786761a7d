from __future__ import annotations

from typing import Any

from cni_netdev import report


def test_a_table_is_as_wide_as_it_needs_and_never_obeys_a_tenant() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a\x1b[2J", "list": ["x", "y"], "none": None, "pair": {"host": "a", "pod": "b"}},
        {"name": "long name", "list": [], "none": "", "pair": {"host": "a", "pod": "a"}},
    ]
    columns = [("NAME", "name"), ("LIST", "list"), ("NONE", "none"), ("PAIR", "pair")]
    assert report.table(columns, rows) == (
        "NAME       LIST  NONE  PAIR\na\\x1b[2J   x, y  -     a as b\nlong name  -     -     a"
    )
    assert report.table(columns, []) == "NAME  LIST  NONE  PAIR"
