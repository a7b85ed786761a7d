"""docs/reliability.md, whose parts are written by the programs that measured them.

A part goes from its marker, as ``<!-- soak -->`` on a line of its own, to the next one or the end.
"""

from __future__ import annotations

import re

from tests.host import ROOT

DOCUMENT = ROOT / "docs" / "reliability.md"
_HEAD = """\
# Reliability

What was tried on the real kernel, and what came of it.  `make faults` and `make soak` write it.
"""
_MARKER = re.compile(r"^<!-- (\w+) -->\n", re.MULTILINE)


def write_section(name: str, markdown: str) -> None:
    """Put the text in place of what the document says under this name, or at its end."""
    old = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else _HEAD
    DOCUMENT.write_text(replaced(old, name, markdown), encoding="utf-8")


def replaced(document: str, name: str, markdown: str) -> str:
    """The document with this section's text; the others stay as they are, in their order."""
    head, *rest = _MARKER.split(document)
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    sections[name] = markdown
    parts = (f"<!-- {each} -->\n\n{text.strip()}\n" for each, text in sections.items())
    return "\n".join((f"{head.strip()}\n", *parts))
