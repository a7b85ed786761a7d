"""Whether a shim sees what the agent sees, by what it sends."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from cni_netdev.main import Elsewhere
from cni_netdev.place import Place, see_same_pod

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = ("/proc/self/ns/net", "/proc/self/ns/mnt", "/")
# Stands for another namespace of its kind, which it takes root to make.
OTHER = "/proc/self/ns/uts"


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def opened(stack: ExitStack, *paths: str) -> list[int]:
    found = [os.open(path, os.O_PATH) for path in paths]
    for each in found:
        stack.callback(os.close, each)
    return found


def test_the_same(place: Place, stack: ExitStack) -> None:
    place.see(opened(stack, *OWN))
    place.see(opened(stack, *OWN, OTHER))


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ((OTHER, OWN[1], OWN[2]), "another network namespace"),
        ((OWN[0], OTHER, OWN[2]), "another mount namespace"),
        ((OWN[0], OWN[1], "/proc"), "another root directory"),
        ((OWN[1], OWN[0], OWN[2]), "another network namespace"),
        (OWN[:2], "not known where"),
        ((), "not known where"),
    ],
)
def test_another(place: Place, stack: ExitStack, paths: tuple[str, ...], said: str) -> None:
    with pytest.raises(Elsewhere, match=said):
        place.see(opened(stack, *paths))


def test_the_pods_namespace(stack: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "pod"
    path.touch()
    sent = opened(stack, *OWN, str(path))
    see_same_pod(str(path), sent)
    path.rename(tmp_path / "moved")
    with pytest.raises(Elsewhere, match="gone by now"):
        see_same_pod(str(path), sent)
    path.touch()
    with pytest.raises(Elsewhere, match="another namespace here"):
        see_same_pod(str(path), sent)
    with pytest.raises(Elsewhere, match="gone by now"):
        see_same_pod("/\0", sent)


def test_what_the_shim_could_not_open_is_not_missed(stack: ExitStack) -> None:
    sent = opened(stack, *OWN)
    see_same_pod("/run/netns/none", sent)
    see_same_pod("", sent)
    with pytest.raises(Elsewhere, match="relative"):
        see_same_pod("netns/pod", sent)
