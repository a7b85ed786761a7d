"""What the demo says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tests.linkstate import capture, differences

if TYPE_CHECKING:
    from tests.host import Host


def say(text: str) -> None:
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


def show(output: str) -> None:
    print("\n".join(f"    {line}" for line in output.rstrip().splitlines()), flush=True)


def compare(host: Host, before: dict[str, Any]) -> bool:
    """Say of each link whether it is as it was, and what is left over; whether all is well."""
    lost = {name: differences(state, capture(name)) for name, state in before.items()}
    for name, lines in lost.items():
        show(f"{name}: {'; '.join(lines) or 'exactly as it was'}")
    left = host.left_over()
    show(f"left over in the state directory: {', '.join(left) or 'nothing'}")
    return not left and not any(lost.values())
