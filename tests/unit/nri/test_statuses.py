from __future__ import annotations

import pytest

from cni_netdev.core import errors
from cni_netdev.core.errors import Fault, KernelRefused, NetdevError, RequestError
from nri_plugin.errors import Code, Refusal
from nri_plugin.statuses import CODES, refusal_of


def classes(root: type[NetdevError] = NetdevError) -> list[type[NetdevError]]:
    return [root, *(each for child in root.__subclasses__() for each in classes(child))]


def test_every_error_of_the_core_has_its_code() -> None:
    assert {each.__name__ for each in classes()} == set(CODES)
    assert {each.__module__ for each in classes()} == {errors.__name__}


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RequestError((Fault("[0].mtu", "is 5"), Fault("[1]", "x"))), 3, "[0].mtu: is 5; [1]: x"),
        (errors.NetnsError("no namespace"), 3, "no namespace"),
        (errors.DeviceNotFound("no link"), 5, "no link"),
        (errors.PolicyRefused("stays"), 7, "stays"),
        (errors.DeviceHeld("held", "wait"), 9, "held (wait)"),
        (errors.CannotApply("taken", "rename"), 9, "taken (rename)"),
        (KernelRefused("move", 16), 13, "move: Device or resource busy (errno 16)"),
        (errors.LockTimeout("locked"), 10, "locked"),
        (errors.OutOfTime("late", "undone"), 4, "late (undone)"),
        (errors.StateError("disk"), 14, "disk"),
        (errors.RecordUnreadable("torn"), 14, "torn"),
        (NetdevError("other"), 13, "other"),
    ],
)  # fmt: skip
def test_what_the_runtime_is_told(error: NetdevError, code: int, text: str) -> None:
    refusal = refusal_of(error)
    assert (refusal.code, refusal.message) == (code, f"network device injector: {text}")


def test_a_refusal_is_what_it_is() -> None:
    refusal = Refusal(Code.UNIMPLEMENTED, "no such method")
    assert refusal_of(refusal) is refusal


def test_anything_else_is_a_fault_of_ours() -> None:
    refusal = refusal_of(ZeroDivisionError("division by zero"))
    assert refusal.code == Code.INTERNAL
    assert refusal.message == (
        "network device injector: ZeroDivisionError: division by zero; "
        "a fault of ours, please report"
    )
