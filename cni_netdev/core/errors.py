"""The failure vocabulary of the injection core.

    NetdevError
    ├── RequestError        the caller asked for something malformed; all faults at once
    ├── NetnsError          a path that is no network namespace, or the host's own
    ├── DeviceNotFound      no link, or more than one, answers to the selector
    ├── PolicyRefused       the link may not go to this pod
    ├── DeviceHeld          another pod has the link
    ├── CannotApply         the pod's side refuses: name taken, MTU out of range, route refused
    ├── KernelRefused       an errno that none of the above explains
    ├── LeaseRefused        an IPAM plugin did not give or check what it was asked for
    ├── LockTimeout         somebody else worked on the link for too long: try again
    ├── LinkChanged         somebody else changed the link while it was being lent: try again
    ├── OutOfTime           the caller's time limit ran out; what was done is undone
    └── StateError          the state directory or a record in it cannot be used
        └── RecordUnreadable

Every message names the field or link, the value, and what to do.  How each class is told to a
caller (a CNI code, a gRPC status) is the front ends' business.
"""

from __future__ import annotations

from cni_netdev.core.lean import NamedTuple

_MOST_FAULTS_TOLD = 50  # a tenant's text could have thousands


class Fault(NamedTuple):
    """One thing wrong in a request.

    path: where, as ``devices[1].mtu`` or ``[1].mtu``; empty for the whole text.
    message: what is wrong and what would be right.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class NetdevError(Exception):
    """Root of everything that the core raises on purpose.

    message: one line for the caller.  details: what helps to mend it; may be empty.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def with_details(self, more: str) -> NetdevError:
        """The same error with ``more`` added to its details."""
        self.details = f"{self.details}; {more}" if self.details else more
        return self


class RequestError(NetdevError):
    """A request that cannot be read or contradicts itself; ``faults`` holds every one found."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        told = [str(fault) for fault in faults[:_MOST_FAULTS_TOLD]]
        if len(faults) > _MOST_FAULTS_TOLD:
            told.append(f"and {len(faults) - _MOST_FAULTS_TOLD} more")
        super().__init__("; ".join(told))
        self.faults = faults


class NetnsError(NetdevError):
    """The path is no network namespace, cannot be opened, or is the host's own."""


class DeviceNotFound(NetdevError):
    """No link on the host, or more than one, answers to the selector."""


class PolicyRefused(NetdevError):
    """A guard or a rule keeps the link on the host; the message names it."""


class DeviceHeld(NetdevError):
    """Another attachment holds the link; the message names it."""


class CannotApply(NetdevError):
    """The link exists and may go, but what was asked for cannot be set in the pod."""


class KernelRefused(NetdevError):
    """The kernel answered a request with an errno.

    errno: the positive number.  kernel_text: the extended acknowledgement's text, or "".
    """

    def __init__(self, what: str, errno: int, kernel_text: str = "") -> None:
        from os import strerror

        reason = f"{strerror(errno)} (errno {errno})"
        super().__init__(f"{what}: {reason}" + (f": {kernel_text}" if kernel_text else ""))
        self.what = what
        self.errno = errno
        self.kernel_text = kernel_text


class LeaseRefused(NetdevError):
    """An IPAM plugin failed; the message has its name and what it said."""


class LockTimeout(NetdevError):
    """A lock was not had within its time limit."""


class LinkChanged(NetdevError):
    """Somebody outside of our locks changed or took a link between our look and its move."""


class OutOfTime(NetdevError):
    """The caller's time limit ran out before everything was done."""


class StateError(NetdevError):
    """The state directory cannot be read or written."""


class RecordUnreadable(StateError):
    """A record that is torn, foreign, or of a version that this code does not know."""
