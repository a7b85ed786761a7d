"""Looking after the records now and then: what dead pods hold comes home, a share at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_netdev.core.ports import Key
    from cni_netdev.core.restore import Release

# Seconds that one look may keep others waiting, give or take one release.
_SHARE = 0.1


class Recovers(Protocol):
    """What is needed of engine.Injector."""

    def recoveries(self, ended: frozenset[str]) -> Iterator[Release]: ...


class Rounds:
    """Goes round the records; each release is told, and one that stays stuck is told once."""

    def __init__(
        self,
        engine: Recovers,
        tell: Callable[[Release, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """tell: gets each release with the seconds that it took."""
        self._engine = engine
        self._tell = tell
        self._clock = clock
        self._round: Iterator[Release] | None = None
        self._stuck: dict[Key, Release] = {}
        self._stuck_again: dict[Key, Release] = {}

    def look(self, ended: frozenset[str] = frozenset()) -> bool:
        """Go on with the round that was left, or begin one.

        True when the share of time was used up before its end: call it again, after whatever waits
        meanwhile.  ended: see engine.recover; counts from the next round on.
        """
        until = self._clock() + _SHARE
        try:
            self._round = self._round or self._engine.recoveries(ended)
            start = self._clock()
            for release in self._round:
                self._recovered(release, self._clock() - start)
                start = self._clock()
                if start > until:
                    return True
        except BaseException:
            self._end()
            raise
        self._end()
        return False

    def restart(self) -> None:
        """Let the next look begin at the beginning."""
        self._round = None

    def _end(self) -> None:
        self._round = None
        self._stuck, self._stuck_again = self._stuck_again, {}

    def _recovered(self, release: Release, seconds: float) -> None:
        key = release.owner.key
        if not release.complete:
            self._stuck_again[key] = release
        if self._stuck.get(key) != release:
            self._tell(release, seconds)
