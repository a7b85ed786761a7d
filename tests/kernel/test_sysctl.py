from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import sysctl
from cni_netdev.core.errors import KernelRefused
from tests.host import run
from tests.linkstate import sysctls

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from tests.host import Host

pytestmark = pytest.mark.kernel


def test_all_that_can_be_written_is_read(host: Host) -> None:
    host.veth("nic.1")
    read = dict(sysctl.read("nic.1"))
    real = sysctls("nic.1")
    assert read.items() <= real.items()
    assert {
        "ipv4/conf/rp_filter",
        "ipv6/conf/disable_ipv6",
        "ipv4/neigh/gc_stale_time",
    } <= read.keys()
    assert real.keys() - read.keys() <= {
        "ipv4/conf/mc_forwarding",
        "ipv6/conf/mc_forwarding",
        *(
            f"{family}/neigh/{key}"
            for family in ("ipv4", "ipv6")
            for key in ("base_reachable_time", "retrans_time")
        ),
    }


def test_written_is_what_is_read(host: Host) -> None:
    host.veth("nic1")
    sysctl.write("nic1", "ipv4/conf/rp_filter", "2")
    assert dict(sysctl.read("nic1"))["ipv4/conf/rp_filter"] == "2"


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.EPERM, errno.ENODEV])
@pytest.mark.parametrize("function", ["os.open", "os.read", "os.listdir"])
def test_one_that_cannot_be_read_is_not_left_out(
    host: Host, mocker: MockerFixture, function: str, code: int
) -> None:
    """It would not be put back."""
    host.veth("nic1")
    mocker.patch(function, side_effect=OSError(code, os.strerror(code)))
    with pytest.raises(KernelRefused) as caught:
        sysctl.read("nic1")
    assert caught.value.errno == code


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_one_that_nobody_may_read_is_left_out(host: Host, mocker: MockerFixture, code: int) -> None:
    host.veth("nic1")
    mocker.patch("os.read", side_effect=OSError(code, os.strerror(code)))
    assert sysctl.read("nic1") == ()


def test_refusals_name_the_key_and_the_value(host: Host) -> None:
    host.veth("nic1")
    with pytest.raises(KernelRefused, match="set sysctl ipv4/conf/rp_filter of nic1 to x"):
        sysctl.write("nic1", "ipv4/conf/rp_filter", "x")
    with pytest.raises(KernelRefused, match="of none"):
        sysctl.write("none", "ipv4/conf/rp_filter", "1")
    assert sysctl.read("none") == ()


def test_it_is_written_where_proc_sys_is_read_only(host: Host) -> None:
    """As in a container; what others see of /proc/sys stays as it is."""
    host.veth("nic1")
    before = sysctl.read("nic1")
    run("mount", "--bind", "/proc/sys", "/proc/sys")
    run("mount", "-o", "remount,bind,ro", "/proc/sys")
    path = Path("/proc/sys/net/ipv4/conf/nic1/rp_filter")
    with pytest.raises(OSError, match="Read-only"):
        path.write_text("2")
    assert sysctl.read("nic1") == before
    sysctl.write("nic1", "ipv4/conf/rp_filter", "2")
    assert path.read_text() == "2\n"
    with pytest.raises(OSError, match="Read-only"):
        path.write_text("1")
