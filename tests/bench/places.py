"""Hosts beside each other, of which the bench is on one at a time."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from cni_netdev.core.libc import setns
from tests.agent import CniAgent
from tests.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class Place(NamedTuple):
    """A host, and the namespaces in which one is on it."""

    host: Host
    descriptors: tuple[int, ...]

    @classmethod
    def here(cls, host: Host) -> Place:
        kinds = ("net", "mnt")
        opened = (os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY) for kind in kinds)
        return cls(host, tuple(opened))

    def go(self) -> Host:
        """What is started from now on is there."""
        for descriptor in self.descriptors:
            setns(descriptor, 0)
        return self.host

    def starting(self, make: Callable[[], T]) -> Callable[[], T]:
        """The same, but what it makes is then started here."""

        def there() -> T:
            self.go()
            return make()

        return there


@contextmanager
def another() -> Iterator[Place]:
    """One more host, with the plugins installed; the caller goes back to its own."""
    with tempfile.TemporaryDirectory() as directory, Host.enter(Path(directory)) as host:
        host.install()
        place = Place.here(host)
        try:
            yield place
        finally:
            place.go()


@contextmanager
def with_agent() -> Iterator[Place]:
    """One with a resident agent."""
    with another() as place, CniAgent(place.host, verbose=False):
        yield place
