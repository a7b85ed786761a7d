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
    assert kernel.host.sysctls(second) == read
    values = mocker.spy(sysctl, "_value")
    assert kernel.host.sysctls(second) == read
    asked = {call.args[0] for call in values.call_args_list}
    assert {"stable_secret", "gc_stale_time"} <= asked
    assert "rp_filter" not in asked


@pytest.mark.parametrize("back", [False, True])
def test_what_changes_while_it_is_read_is_not_remembered(
    host: Host, mocker: MockerFixture, *, back: bool
) -> None:
    """Or the next link with these values would be taken to have others.

    back: it is as it was before the kernel is asked again.
    """
    kernel = SystemKernel()
    before = dict(sysctl.read(host.veth("nic1")))
    told = mocker.spy(rtnl, "devconf")
    key = "ipv4/conf/rp_filter"

    def somebody(entry: str, directory: int) -> str | None:
        if told.call_count > 1:
            return value(entry, directory)
        sysctl.write("nic1", key, "2")
        found = value(entry, directory)
        sysctl.write("nic1", key, before[key] if back else "2")
        return found

    value = sysctl._value
    mocker.patch.object(sysctl, "_value", somebody)
    assert dict(kernel.host.sysctls("nic1"))[key] == "2"
    host.veth("nic2")
    for _ in range(3):
        assert dict(kernel.host.sysctls("nic2")) == before


def test_no_more_is_remembered_than_needs_to_be(host: Host) -> None:
    host.veth("nic1")
    values = bytearray()
    memory = devconf.Memory(lambda _: {"ipv4/conf": bytes(values)})
    for _ in range(2 * devconf._MOST):
        values.append(1)
        memory.read("nic1")
        memory.read("nic1")
    assert len(memory._read) + len(memory._read_once) <= 2 * devconf._MOST
