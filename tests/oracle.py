"""What must hold once everything has been cleared up, whatever failed or died before.

Each link that there was is in the pod that its record names, or on the host as it was; and no
other record, no lock, pin or namespace is left over.  One judgement for the fakes and the kernel:
each describes what it sees as a Scene.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tests.linkstate import differences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Scene(NamedTuple):
    """What there is; links by the names that they had on the host before.

    home: the state of each that is on the host.  inside: which pod has each that is in one.
    named: the pod that a complete record names for each.  litter: everything else that is there
    and should not be: half-done records, locks, pins without a record, mounts, namespaces.
    """

    home: Mapping[str, Any]
    inside: Mapping[str, str]
    named: Mapping[str, str]
    litter: Sequence[str] = ()


def violations(before: Mapping[str, Any], scene: Scene) -> list[str]:
    """What is not as it must be, a sentence each.  before: the links' states on the host."""
    found = [f"left over: {each}" for each in scene.litter]
    for name, state in before.items():
        pod, record = scene.inside.get(name), scene.named.get(name)
        if name in scene.home:
            found += differences(state, scene.home[name], f".{name}")
        elif pod is None:
            found.append(f"{name} is lost")
        if pod != record:
            found.append(f"{name} is {_place(pod)}, its record says {_place(record)}")
    return found


def _place(pod: str | None) -> str:
    return f"in {pod}" if pod else "at home"
