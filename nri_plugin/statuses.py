"""From the core's errors to the status that a runtime is told; pure."""

from __future__ import annotations

from cni_netdev.core.errors import NetdevError
from cni_netdev.core.printable import printable
from nri_plugin.errors import Code, Refusal

CODES = {
    "RequestError": Code.INVALID_ARGUMENT,
    "NetnsError": Code.INVALID_ARGUMENT,
    "DeviceNotFound": Code.NOT_FOUND,
    "PolicyRefused": Code.PERMISSION_DENIED,
    "DeviceHeld": Code.FAILED_PRECONDITION,
    "CannotApply": Code.FAILED_PRECONDITION,
    "KernelRefused": Code.INTERNAL,
    "LeaseRefused": Code.INTERNAL,  # CNI's alone
    "LockTimeout": Code.ABORTED,
    "LinkChanged": Code.ABORTED,
    "OutOfTime": Code.DEADLINE_EXCEEDED,
    "StateError": Code.UNAVAILABLE,
    "RecordUnreadable": Code.UNAVAILABLE,
    "NetdevError": Code.INTERNAL,
}


def refusal_of(error: Exception) -> Refusal:
    """What the runtime gets; it shows the message to whoever starts the pod."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, NetdevError):
        text = f"{error.message} ({error.details})" if error.details else error.message
        return _refusal(CODES[type(error).__name__], text)
    text = f"{type(error).__name__}: {error}; a fault of ours, please report"
    return _refusal(Code.INTERNAL, text)


def _refusal(code: Code, text: str) -> Refusal:
    """Pods' events and the runtime's log show it: one line."""
    return Refusal(code, f"network device injector: {printable(text)}")
