from __future__ import annotations

import errno
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import descriptors, netns, processes

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from tests.host import Host

pytestmark = pytest.mark.kernel


def test_occupancy_of_a_namespace(host: Host) -> None:
    pod = host.pod()
    handle = netns.open_namespace(pod.path)
    assert processes.occupancy(handle.cookie) == "empty"
    assert processes.find_namespace(handle.cookie) is None
    with pod.process():
        assert processes.occupancy(handle.cookie) == "occupied"
        found = processes.find_namespace(handle.cookie)
        assert found is not None
        assert found.cookie == handle.cookie
        found.close()
    assert processes.occupancy(handle.cookie) == "empty"


def test_a_scan_that_was_refused_anything_knows_nothing(host: Host, mocker: MockerFixture) -> None:
    handle = netns.open_namespace(host.pod().path)
    mocker.patch.object(
        processes, "_namespace_files", return_value=["/proc/self/ns/net", "/hidden"]
    )
    real = os.stat

    def stat(path: str, *rest: object, **more: object) -> os.stat_result:
        if path == "/hidden":
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **more)  # type: ignore[arg-type]

    mocker.patch("os.stat", stat)
    assert processes.occupancy(handle.cookie) == "unknown"


@pytest.mark.parametrize("function", ["os.open", "os.listdir", "cni_netdev.core.libc.setns"])
def test_without_the_means_to_look_nothing_is_said(
    host: Host, mocker: MockerFixture, function: str
) -> None:
    """Neither that somebody is inside, nor that nobody is, nor that it cannot be told."""
    handle = netns.open_namespace(host.pod().path)
    mocker.patch(function, side_effect=OSError(errno.EMFILE, "Too many open files"))
    for look in (
        lambda: processes.occupancy(handle.cookie),
        lambda: processes.find_namespace(handle.cookie),
        lambda: list(descriptors.namespaces(time.monotonic() + 60)),
    ):
        with pytest.raises(OSError, match="Too many open files"):
            look()


def test_a_process_that_sees_not_all_others_knows_nothing(
    host: Host, mocker: MockerFixture
) -> None:
    handle = netns.open_namespace(host.pod().path)
    mocker.patch.object(netns, "sees_the_kernels_threads", return_value=False)
    assert processes.occupancy(handle.cookie) == "unknown"


def test_what_is_mounted_in_another_mount_namespace(host: Host, mocker: MockerFixture) -> None:
    place = host.directory / "place"
    place.mkdir()
    shell = ["unshare", "-m", "sh", "-c", f"mount -t tmpfs x {place}; echo ready; read x"]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        there = os.stat(f"/proc/{child.pid}/ns/mnt").st_ino
        here = os.stat("/proc/self/ns/mnt").st_ino
        assert processes.mounted_in(there, "/place")
        assert not processes.mounted_in(there, "/other")
        assert not processes.mounted_in(here, "/place")
        child.communicate(b"go\n")
    assert not processes.mounted_in(there, "/place")
    mocker.patch.object(netns, "sees_the_kernels_threads", return_value=False)
    assert processes.mounted_in(there, "/place"), "in doubt"


def test_no_descriptor_is_left_open(host: Host) -> None:
    pod = host.pod()
    before = len(os.listdir("/proc/self/fd"))
    with pod.process():
        processes.occupancy(1)
        for handle in processes.namespaces():
            handle.close()
    assert len(os.listdir("/proc/self/fd")) == before
