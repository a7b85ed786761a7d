"""Time limits for programs in the emulated machine, where a second is not what it was."""

from __future__ import annotations

from typing import TypedDict


class Limits(TypedDict):
    """Of a runtime for its NRI plugins, as Go writes durations."""

    registration_timeout: str
    request_timeout: str


# NRI's own are 5 s and 2 s.
PATIENT: Limits = {"registration_timeout": "60s", "request_timeout": "60s"}
