"""What is counted, and nothing that counts: see prometheus."""

from __future__ import annotations

from typing import Protocol


class Metrics(Protocol):
    """Its methods may be called from any thread.  result: ``ok``, or what went wrong."""

    def attached(self, result: str, seconds: float) -> None: ...

    def detached(self, result: str, seconds: float) -> None: ...

    def fell_back(self, links: int) -> None:
        """So many links came home under another name than their own."""

    def lost(self, links: int) -> None:
        """So many links were destroyed, by their pod or with its namespace."""

    def lent(self, devices: int) -> None:
        """So many devices are lent now."""

    def without_device(self, pods: int) -> None:
        """So many running pods lack what they asked for."""

    def reconnected(self) -> None: ...

    def ready(self, yes: bool) -> None:
        """Whether the runtime has registered and synchronized us."""

    def alive(self, stuck: str) -> None:
        """Called by the event loop now and then.  stuck: what does not get on, or empty."""


class NoMetrics:
    """For when nobody asks."""

    def attached(self, result: str, seconds: float) -> None: ...
    def detached(self, result: str, seconds: float) -> None: ...
    def fell_back(self, links: int) -> None: ...
    def lost(self, links: int) -> None: ...
    def lent(self, devices: int) -> None: ...
    def without_device(self, pods: int) -> None: ...
    def reconnected(self) -> None: ...
    def ready(self, yes: bool) -> None: ...
    def alive(self, stuck: str) -> None: ...
