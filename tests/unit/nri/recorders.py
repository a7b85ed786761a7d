"""A log and metrics that remember what they were told."""

from __future__ import annotations

from typing import Any, NamedTuple


class Line(NamedTuple):
    level: str
    message: str
    fields: dict[str, Any]


class RecordingLog:
    """handlers.Log."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def debug(self, message: str, **fields: Any) -> None:
        self.lines.append(Line("debug", message, fields))

    def info(self, message: str, **fields: Any) -> None:
        self.lines.append(Line("info", message, fields))

    def warn(self, message: str, **fields: Any) -> None:
        self.lines.append(Line("warn", message, fields))

    def error(self, message: str, **fields: Any) -> None:
        self.lines.append(Line("error", message, fields))

    def told(self, *levels: str) -> list[str]:
        """The messages of these levels; without any, of all but debug."""
        wanted = levels or ("info", "warn", "error")
        return [line.message for line in self.lines if line.level in wanted]

    def only(self, level: str) -> Line:
        (line,) = [each for each in self.lines if each.level == level]
        return line


class RecordingMetrics:
    """metrics.Metrics, without the seconds."""

    def __init__(self) -> None:
        self.counted: list[tuple[object, ...]] = []
        self.gauges: dict[str, int | bool] = {}

    def attached(self, result: str, seconds: float) -> None:
        assert seconds >= 0
        self.counted.append(("attached", result))

    def detached(self, result: str, seconds: float) -> None:
        assert seconds >= 0
        self.counted.append(("detached", result))

    def fell_back(self, links: int) -> None:
        if links:
            self.counted.append(("fell back", links))

    def lost(self, links: int) -> None:
        if links:
            self.counted.append(("lost", links))

    def lent(self, devices: int) -> None:
        self.gauges["lent"] = devices

    def without_device(self, pods: int) -> None:
        self.gauges["without"] = pods

    def reconnected(self) -> None:
        self.counted.append(("reconnected",))

    def ready(self, yes: bool) -> None:
        self.gauges["ready"] = yes

    def alive(self, stuck: str) -> None:
        self.gauges["alive"] = not stuck
