from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import devconf, rtnl, sysctl
from cni_netdev.core.kernel import SystemKernel
from tests.sysctls import unchanged, unnoticed

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from tests.host import Host

pytestmark = pytest.mark.kernel


def test_none_changes_without_being_noticed(host: Host) -> None:
    """Most of them are not read again while the kernel tells the same values."""
    host.veth("nic1")
    assert unnoticed("nic1") == set()
    host.veth("nic2")
    assert unchanged("nic2") == set()


def test_links_with_the_same_values_are_not_all_read(host: Host, mocker: MockerFixture) -> None:
    kernel = SystemKernel()
    first, second = host.veth("nic1"), host.veth("nic2")
    read = kernel.host.sysctls(first)
    values = mocker.spy(sysctl, "_value")
    assert kernel.host.sysctls(second) == read
    asked = {call.args[0] for call in values.call_args_list}
    assert {"stable_secret", "gc_stale_time"} <= asked
    assert "rp_filter" not in asked


def test_what_changes_while_it_is_read_is_not_remembered(host: Host, mocker: MockerFixture) -> None:
    """Or the next link with the values of before would be taken to have those of after."""
    kernel = SystemKernel()
    before = dict(sysctl.read(host.veth("nic1")))
    told = mocker.spy(rtnl, "devconf")

    def somebody(entry: str, directory: int) -> str | None:
        if told.call_count == 1:
            sysctl.write("nic1", "ipv4/conf/rp_filter", "2")
        return value(entry, directory)

    value = sysctl._value
    mocker.patch.object(sysctl, "_value", somebody)
    assert dict(kernel.host.sysctls("nic1"))["ipv4/conf/rp_filter"] == "2"
    assert dict(kernel.host.sysctls(host.veth("nic2"))) == before


def test_no_more_is_remembered_than_needs_to_be(host: Host) -> None:
    host.veth("nic1")
    values = bytearray()
    memory = devconf.Memory(lambda _: {"ipv4/conf": bytes(values)})
    for _ in range(2 * devconf._MOST):
        values.append(1)
        memory.read("nic1")
    assert len(memory._read) <= devconf._MOST
