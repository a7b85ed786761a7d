"""What can go wrong between the runtime and us.

WireError
├── PeerError    the runtime sent what the protocol does not allow: the connection is over
└── Refusal      one call cannot be served: its caller gets the status, the connection goes on
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """The google.rpc.Code values that we send."""

    OK = 0
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class WireError(Exception):
    """Root of what this package raises on purpose."""


class PeerError(WireError):
    """The other side broke the protocol; the message says how."""


class Refusal(WireError):
    """A call ends with this status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
