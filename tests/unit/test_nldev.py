"""RDMA's netlink, against a kernel that answers as hardware would: none is at hand that moves.

Messages are packed here by hand from rdma/rdma_netlink.h; a mistake in our own classes must not
hide itself.  tests/vm/test_rdma.py asks the real kernel.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import nldev
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.model import Rdma
from cni_netdev.core.netlink import NLM_F_ACK

if TYPE_CHECKING:
    from typing import Any

NLDEV = 5 << 10
GET, SET, NEWLINK, PORT_GET, SYS_GET = (NLDEV | each for each in (1, 2, 3, 5, 6))
INDEX, NAME, PORT, GUID, NDEV, NDEV_NAME, TYPE, MODE, PROTOCOL, NETNS = (
    *(1, 2, 3, 6, 50, 51, 65, 66, 67),
    68,
)


def attribute(number: int, value: int | str, size: int = 4) -> bytes:
    data = value.encode() + b"\0" if isinstance(value, str) else value.to_bytes(size, "little")
    return struct.pack("=HH", 4 + len(data), number) + data + bytes(-len(data) % 4)


def message(*attributes: bytes) -> bytes:
    body = b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), 0, 0, 0, 0) + body


def device(number: int, name: str, protocol: str = "roce") -> bytes:
    guid = attribute(GUID, 0x1000 + number, 8)
    return message(
        attribute(INDEX, number), attribute(NAME, name), guid, attribute(PROTOCOL, protocol)
    )


def port(number: int, ndev: int = 0) -> bytes:
    return message(attribute(PORT, number), attribute(NDEV, ndev) if ndev else b"")


class Kernel:
    """Answers by (type of message, its attributes as bytes)."""

    def __init__(self, answers: dict[tuple[int, bytes], list[bytes]]) -> None:
        self.answers = answers
        self.refusals: list[int] = []  # of what would change something
        self.said: list[tuple[int, bytes]] = []

    def request(self, what: str, filled: Any, kind: int, flags: int) -> list[Any]:
        assert flags in (0, 0x4, 0x300)
        filled.encode()
        asked = (kind, bytes(filled.data[16:]))
        self.said.append(asked)
        if self.refusals and flags == NLM_F_ACK:
            raise KernelRefused(what, self.refusals.pop())
        replies = [type(filled)(each) for each in self.answers.get(asked, [])]
        for each in replies:
            each.decode()
        return replies

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(
        {
            (SYS_GET, b""): [message(attribute(MODE, 0, 1))],
            (GET, b""): [device(3, "mlx5_0"), device(4, "mlx4_0"), device(5, "ibp1", "ib")],
            (PORT_GET, attribute(INDEX, 3)): [port(1, 7)],
            (PORT_GET, attribute(INDEX, 4)): [port(1, 7), port(2, 8)],
            (PORT_GET, attribute(INDEX, 5)): [port(1)],
        }
    )
    monkeypatch.setattr(nldev, "Connection", lambda protocol: made if protocol == 20 else None)
    return made


@pytest.mark.usefixtures("kernel")
def test_what_is_over_a_link() -> None:
    candidates = {"mlx5_0": False, "mlx4_0": False, "ibp1": False, "gone": False}
    assert nldev.Nldev().over(7, candidates) == (
        Rdma(3, "mlx5_0", 0x1003),
        Rdma(4, "mlx4_0", 0x1004, alone=False),
    )
    assert nldev.Nldev().over(7, {}) == ()
    assert nldev.Nldev().over(9, candidates) == ()


def test_in_shared_mode_or_on_a_kernel_without_modes(kernel: Kernel) -> None:
    for mode in ([message(attribute(MODE, 1, 1))], [message()]):
        kernel.answers[SYS_GET, b""] = mode
        (found,) = nldev.Nldev().over(7, {"mlx5_0": False})
        assert found.shared


@pytest.mark.parametrize(("protocol", "soft"), [("roce", "rxe"), ("iw", "siw")])
def test_what_is_made_in_software(kernel: Kernel, protocol: str, soft: str) -> None:
    kernel.answers[GET, b""] = [device(3, "fast", protocol)]
    (found,) = nldev.Nldev().over(7, {"fast": True})
    assert found.soft == soft


def test_software_that_nobody_knows_how_to_make_is_left_alone(kernel: Kernel) -> None:
    kernel.answers[GET, b""] = [device(3, "odd", "ib")]
    assert nldev.Nldev().over(7, {"odd": True}) == ()


@pytest.mark.usefixtures("kernel")
def test_found_by_its_number_or_guid() -> None:
    found = Rdma(3, "mlx5_0", 0x1003)
    assert nldev.Nldev().find(Rdma(3, "renamed")) == found
    assert nldev.Nldev().find(Rdma(9, "loaded anew", 0x1003)) == found
    assert nldev.Nldev().find(Rdma(9, "mlx5_0")) is None


def test_what_is_said_to_change_something(kernel: Kernel) -> None:
    connection = nldev.Nldev()
    connection.move(3, "mlx5_0", 12)
    connection.rename(3, "mine", "mlx5_0")
    connection.add("eth1", "fast", "rxe")
    name = attribute(NAME, "mlx5_0")
    assert kernel.said == [
        (SET, attribute(INDEX, 3) + attribute(NETNS, 12)),
        (SET, attribute(INDEX, 3) + name),
        (
            NEWLINK,
            attribute(NAME, "fast") + attribute(NDEV_NAME, "eth1") + attribute(TYPE, "rxe"),
        ),
    ]


@pytest.mark.parametrize(
    ("said", "meant"), [(errno.ENFILE, errno.EEXIST), (errno.ENOMEM, errno.ENOMEM)]
)
def test_a_name_that_is_taken(kernel: Kernel, said: int, meant: int) -> None:
    kernel.refusals = [said]
    with pytest.raises(KernelRefused) as refused:
        nldev.Nldev().add("eth1", "mlx5_0", "rxe")
    assert refused.value.errno == meant


@pytest.mark.parametrize("listed", [True, False])
def test_a_name_is_free_soon_when_the_link_of_its_device_has_left(
    kernel: Kernel, *, listed: bool
) -> None:
    """The kernel unregisters it by and by, and lists it no more before its name is free."""
    kernel.answers[GET, b""] = [device(5, "fast")] if listed else []
    kernel.refusals = [errno.ENFILE] * 3
    nldev.Nldev().add("eth1", "fast", "rxe")
    assert [kind for kind, _ in kernel.said].count(NEWLINK) == 4


def test_it_is_not_waited_for_for_ever(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nldev, "_ENDING_SECONDS", -1.0)
    kernel.refusals = [errno.ENFILE]
    with pytest.raises(KernelRefused, match="there is another fast"):
        nldev.Nldev().add("eth1", "fast", "rxe")
