from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import netns
from cni_netdev.core.errors import StateError
from cni_netdev.core.journal import FileJournal
from cni_netdev.core.kernel import SystemKernel

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from tests.host import Host

pytestmark = pytest.mark.kernel

KEY, OTHER = ("cni", "c1", "eth0"), ("cni", "c2", "eth0")


@pytest.fixture
def kernel(host: Host) -> SystemKernel:
    assert host
    return SystemKernel()


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def test_a_pin_keeps_a_namespace_until_the_last_is_dropped(
    host: Host, kernel: SystemKernel
) -> None:
    journal = FileJournal()
    pod = host.pod()
    pod.ip("link add keep type ifb")
    target = kernel.open(pod.path)
    cookie = target.cookie
    journal.pin(KEY, target)
    journal.pin(KEY, target)
    journal.pin(OTHER, target)
    target.close()
    pod.delete()
    for key in (KEY, OTHER):
        path = journal.pinned(key)
        assert path is not None
        assert kernel.cookie_at(path) == cookie
        again = kernel.open(path)
        assert again.link(name="keep") is not None
        again.close()
        journal.unpin(key)
        journal.unpin(key)
        assert journal.pinned(key) is None
    assert "cni-netdev-pins" not in mounts()
    assert host.left_over() == []


def test_a_pin_of_another_namespace_is_replaced(host: Host, kernel: SystemKernel) -> None:
    journal = FileJournal()
    for name in ("a", "b"):
        target = kernel.open(host.pod(name).path)
        journal.pin(KEY, target)
        path = journal.pinned(KEY)
        assert path is not None
        assert kernel.cookie_at(path) == target.cookie
    journal.unpin(KEY)
    assert host.left_over() == []


def test_pins_are_seen_in_their_own_mount_namespace_only(host: Host, kernel: SystemKernel) -> None:
    """Private: a child's mount namespace made before sees nothing of them."""
    shell = [
        "unshare",
        "-m",
        "--propagation",
        "slave",
        "sh",
        "-c",
        "echo ready; read x; cat /proc/self/mounts",
    ]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        journal = FileJournal()
        journal.pin(KEY, kernel.open(host.pod().path))
        assert "nsfs /run/cni-netdev/pins-" in mounts()
        seen, _ = child.communicate("go\n")
    assert "cni-netdev" not in seen
    journal.unpin(KEY)


def test_a_pin_that_was_never_mounted_counts_for_nothing(host: Host, kernel: SystemKernel) -> None:
    journal = FileJournal()
    journal.pin(OTHER, kernel.open(host.pod().path))
    directory = Path(f"/run/cni-netdev/pins-{journal.mount_namespace}")
    (directory / "cni@c1@eth0").touch()
    assert journal.pinned(KEY) is None
    journal.unpin(KEY)
    assert os.listdir(directory) == ["cni@c2@eth0"]
    assert journal.orphans() == (OTHER,)
    journal.unpin(OTHER)
    assert host.left_over() == []


def test_what_cannot_be_mounted_is_an_error_that_helps(
    host: Host, kernel: SystemKernel, mocker: MockerFixture
) -> None:
    mocker.patch(
        "cni_netdev.core.libc.mount", side_effect=PermissionError(1, "Operation not permitted")
    )
    with pytest.raises(StateError, match="Operation not permitted") as caught:
        FileJournal().pin(KEY, kernel.open(host.pod().path))
    assert "CAP_SYS_ADMIN" in caught.value.details
    assert netns.current().cookie == kernel.host.cookie
