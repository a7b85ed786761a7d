"""What came of a soak, as a table; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.soak.chronicle import Chronicle
    from tests.soak.node import Sample

_ROWS = {
    "pods": "pods",
    "attached": "attached",
    "devices": "devices in them",
    "detached": "detached",
    "tampered": "tampered with, by a pod",
    "refused": "refused",
    "containers": "containers created",
    "without": "pods that started while their plugin was away",
    "let through": "containers that containerd let through as their plugin was killed meanwhile",
    "checks": "CHECK",
    "answered": "calls of the CNI plugin that an agent made",
    "operator": "calls of GC, STATUS and netdevctl",
    "killed": "killed",
    "looks": "looks at every link and record",
}


def markdown(chronicle: Chronicle, samples: Sequence[Sample], seed: str, machine: str) -> str:
    """Of a soak in which nothing was lost, or there would be no table."""
    minutes = chronicle.seconds / 60
    first, last = samples[0], samples[-1]
    lines = [
        f"## Soak: {minutes:.0f} minutes",
        "",
        f"Written by `make soak`, SEED={seed}; {machine}.",
        "Random pods on the CNI plugin and on two NRI runtimes at once, random kills; each of",
        f"{chronicle.total('rounds')} rounds ends with every link at home, compared whole.",
        "",
        "| what | how many | of which |",
        "|---|---|---|",
        *(_row(chronicle, what, words) for what, words in _ROWS.items()),
        f"| seconds | {chronicle.seconds:.0f} | |",
        "| **lost** | **0** | |",
        "",
        "| the NRI plugin that is never killed | first round | last round |",
        "|---|---|---|",
        f"| memory, MiB | {first.memory / 1024:.1f} | {last.memory / 1024:.1f} |",
        f"| open descriptors | {first.descriptors} | {last.descriptors} |",
    ]
    return "\n".join(lines)


def _row(chronicle: Chronicle, what: str, words: str) -> str:
    kinds = {kind: n for kind, n in chronicle.kinds(what).items() if kind}
    listed = sorted(kinds.items(), key=lambda each: -each[1])
    return (
        f"| {words} | {chronicle.total(what)} | {'; '.join(f'{n} {kind}' for kind, n in listed)} |"
    )
