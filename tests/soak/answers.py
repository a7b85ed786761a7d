"""What refusals say, whichever way they came: CNI's documents, cnitool's words, gRPC's status."""

from __future__ import annotations

# The first whose words are in the answer.
_WORDS = {
    "killed": ("signal: killed", "killed by us"),
    "malformed": ("70000 is above 65535",),
    "missing": ("no link on the host has name 'nope0'",),
    "inapplicable": ("Operation not supported (errno 95)",),
    "denied": ("stays on the host: policy.rules[0] (deny)",),
    "guarded": ("stays on the host: ",),
    "held": (" is held by ",),
    "busy": ("is being worked on by process", "changed while they were being locked"),
    "late": ("DeadlineExceeded", "DEADLINE_EXCEEDED", "did not suffice"),
    "without its device": ("must not run without",),
    "without its plugin": ("required plugin",),
    "runtime away": (
        "is not running",
        "connection error",
        "connection reset",
        "error reading from server",
    ),
}
_OURS = ("network device injector", "cni-netdev")
RUNTIMES_OWN = "a trouble of the runtime's own"


def reason(text: str) -> str:
    """Why, in a word or two; the text itself when it is none of those foreseen."""
    for why, words in _WORDS.items():
        if any(each in text for each in words):
            return why
    return text


def reason_of_containerd(text: str) -> str:
    """The same; what names none of our programs is left over from a death of containerd itself."""
    why = reason(text)
    ours = why != text or any(each in text for each in _OURS)
    return why if ours else RUNTIMES_OWN
