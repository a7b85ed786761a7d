"""The writer of docs/reliability.md: one part's rows never cost another's."""

from __future__ import annotations

from tests.reliability import replaced

HEAD = "# Title\n\nWords.\n"


def test_a_part_is_added_and_replaced_and_the_others_stay() -> None:
    one = replaced(HEAD, "faults", "## Faults\n\n| a |\n")
    two = replaced(one, "soak", "## Soak\n")
    assert two == (
        "# Title\n\nWords.\n\n<!-- faults -->\n\n## Faults\n\n| a |\n\n<!-- soak -->\n\n## Soak\n"
    )
    three = replaced(two, "faults", "## Faults\n\nnone")
    assert three.index("none") < three.index("<!-- soak -->")
    assert "| a |" not in three
    assert replaced(three, "soak", "## Soak") == three


def test_the_same_text_again_changes_nothing() -> None:
    once = replaced(HEAD, "soak", "text")
    assert replaced(once, "soak", "text") == once
