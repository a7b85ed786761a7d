"""SIGKILL around every netlink message and every journal write of ADD and DEL.

Whatever the moment, each way of clearing up must leave every link on the host exactly as it was and
nothing in the state directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import faulty
from tests.faults import CONF
from tests.linkstate import capture, differences

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host import Host, Pod

pytestmark = pytest.mark.e2e

LINKS = ("nic1", "nic2")


def add(host: Host, pod: Pod, **env: str) -> int:
    return host.plugin("ADD", CONF, netns=pod.path, env=env).code


def delete(host: Host, pod: Pod, **env: str) -> int:
    return host.plugin("DEL", CONF, netns=pod.path, env=env).code


def by_del(host: Host, pod: Pod) -> None:
    assert delete(host, pod) == 0


def by_adding_again(host: Host, pod: Pod) -> None:
    assert add(host, pod) == 0
    assert set(pod.names()) == {"lo", "nic1", "nic2"}
    assert delete(host, pod) == 0


def by_gc(host: Host, _pod: Pod) -> None:
    conf = {**CONF, "cni.dev/valid-attachments": []}
    host.plugin("GC", conf, container="", ifname="").ok()


def by_recover_after_the_pod(host: Host, pod: Pod) -> None:
    pod.delete()
    assert host.netdevctl("recover").code == 0


WAYS = (by_del, by_adding_again, by_gc, by_recover_after_the_pod)


@pytest.fixture
def ready(cni: Host) -> Host:
    faulty.install(cni.bin_dir)
    for number, name in enumerate(LINKS, 1):
        cni.configured(name, number)
    return cni


def tamper(pod: Pod) -> None:
    """The first link, which is called nic2 in the pod."""
    for arguments in (
        "link set nic2 down",
        "link set nic2 name mine mtu 1300 address 02:bb:00:00:00:01 alias forged",
        "link property add dev mine altname planted",
        "link set mine up promisc on",
    ):
        pod.ip(arguments)


def moments(host: Host, act: Callable[..., int], pod: Pod) -> list[int]:
    trace = host.directory / "trace"
    trace.unlink(missing_ok=True)
    assert act(host, pod, NETDEV_TRACE=str(trace)) == 0
    found = faulty.moments(trace.read_text().splitlines())
    assert len(found) > 15
    return found


def see_that_all_is_home(host: Host, before: dict[str, Any], moment: str) -> None:
    # A sweep may find the empty file of a lock that the killed process held; nothing else.
    host.netdevctl("recover")
    for name in LINKS:
        assert differences(before[name], capture(name)) == [], moment
    assert host.left_over() == [], moment


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_add_killed_at_every_event(
    ready: Host, way: Callable[[Host, Pod], None], when: str
) -> None:
    before = {name: capture(name) for name in LINKS}
    pod = ready.pod()
    numbers = moments(ready, add, pod)
    assert delete(ready, pod) == 0
    for number in numbers:
        assert add(ready, pod, NETDEV_KILL_AT=f"{number}:{when}") == -9
        way(ready, pod)
        see_that_all_is_home(ready, before, f"killed {when} event {number}")
        if not Path(pod.path).exists():
            pod = ready.pod()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_del_killed_at_every_event(
    ready: Host, way: Callable[[Host, Pod], None], when: str
) -> None:
    before = {name: capture(name) for name in LINKS}
    pod = ready.pod()
    assert add(ready, pod) == 0
    tamper(pod)
    for number in moments(ready, delete, pod):
        assert add(ready, pod) == 0
        tamper(pod)
        assert delete(ready, pod, NETDEV_KILL_AT=f"{number}:{when}") == -9
        way(ready, pod)
        see_that_all_is_home(ready, before, f"killed {when} event {number}")
        if not Path(pod.path).exists():
            pod = ready.pod()
