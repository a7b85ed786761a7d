"""Text for people's eyes on one line: terminals, logs and events obey what tenants write."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""The text with all that is not printable escaped, as ``\n``, ``\x1b`` or ``\u202e``.

    That is control and format characters (newlines, ANSI, bidi), separators other than the space,
    and halves of surrogate pairs.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
