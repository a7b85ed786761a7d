"""What has a lent link's place, name or number by now is not that link, and is left alone.

Namespaces that came to the same path, links made anew under the same name and ifindex, in the pod
and on the host; whichever verb it is that looks for what was lent.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import children
from tests.children import answer
from tests.linkstate import capture, captures, differences

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host import Answer, Host, Pod

pytestmark = pytest.mark.e2e

CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "cni-netdev"}
ONE = {**CONF, "devices": [{"name": "nic1", "new_name": "net1", "address": "192.168.2.2/24"}]}
NAME = "pod"
PATH = f"/run/netns/{NAME}"


def plugin(
    verb: str, conf: dict[str, Any] = ONE, container: str = "c1", path: str = PATH
) -> Answer:
    return answer(lambda: children.cni(verb, conf, netns=path, container=container))


def by_del() -> Answer:
    return plugin("DEL")


def by_gc() -> Answer:
    return plugin("GC", {**ONE, "cni.dev/valid-attachments": []})


def by_recover() -> Answer:
    return answer(lambda: children.netdevctl("recover"))


WAYS: tuple[Callable[[], Answer], ...] = (by_del, by_gc, by_recover)


@pytest.fixture
def ready(host: Host) -> Host:
    host.configured("nic1")
    return host


def lent(host: Host) -> Pod:
    pod = host.pod(NAME)
    plugin("ADD").ok()
    return pod


def with_a_namesake(host: Host, ifindex: int) -> Pod:
    """Another namespace at the path, with a link of the lent one's name and ifindex."""
    pod = host.pod(NAME)
    pod.ip(f"link add net1 index {ifindex} type veth peer name other")
    pod.ip("link set net1 alias mine up")
    return pod


def ifindex(pod: Pod) -> int:
    number: int = pod.json("link show dev net1")[0]["ifindex"]
    return number


@pytest.mark.parametrize("inhabited", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_another_namespace_at_the_path(
    ready: Host, way: Callable[[], Answer], *, inhabited: bool
) -> None:
    """Also while a process of the old one lives on: only DEL and GC may take its device then."""
    before = capture("nic1")
    old = lent(ready)
    number = ifindex(old)
    with old.process() if inhabited else nullcontext():
        old.delete()
        new = with_a_namesake(ready, number)
        there = new.ip("-d link"), new.ip("addr")
        assert way().code == 0
        assert (new.ip("-d link"), new.ip("addr")) == there
        assert ("nic1" in ready.names()) == (not inhabited or way is not by_recover)
    by_recover()
    assert differences(before, capture("nic1")) == []
    assert (new.ip("-d link"), new.ip("addr")) == there
    assert ready.left_over() == []


def test_another_namespace_at_the_path_when_it_is_attached_again(ready: Host) -> None:
    """The same container id, as after a crash of the runtime: the device goes on to the new one."""
    before = capture("nic1")
    old = lent(ready)
    old.delete()
    new = ready.pod(NAME)
    new.ip("link add other type ifb")
    assert "not the namespace" in plugin("CHECK").error()[1]
    plugin("ADD").ok()
    assert set(new.names()) == {"lo", "other", "net1"}
    plugin("CHECK").ok()
    by_del().ok()
    assert differences(before, capture("nic1")) == []


@pytest.mark.parametrize("way", WAYS)
def test_another_link_of_its_name_and_number_in_the_pod(
    ready: Host, way: Callable[[], Answer]
) -> None:
    pod = lent(ready)
    number = ifindex(pod)
    pod.ip("link del net1")
    pod.ip(f"link add net1 index {number} type veth peer name other")
    pod.ip("addr add 192.168.2.2/24 dev net1")
    pod.ip("link set net1 up")
    assert "net1 (the host's nic1) is not in the pod" in plugin("CHECK").error()[1]
    if way is by_recover:
        with pod.process():  # alive; then its path is gone
            assert way().code == 0
            assert ifindex(pod) == number
            by_del().ok()
    else:
        said = way()
        assert said.code == 0
        assert "nic1 is lost" in said.stderr
    assert ifindex(pod) == number
    assert pod.addresses("net1") == ["192.168.2.2/24"]
    assert "nic1" not in ready.names()
    assert ready.left_over() == []


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_another_link_of_its_name_and_number_on_the_host(
    ready: Host, way: Callable[[], Answer], *, lost: bool
) -> None:
    """lost: the lent one was destroyed in the pod meanwhile; nothing is put on the other then."""
    before = capture("nic1")
    number = ready.json("link show dev nic1")[0]["ifindex"]
    pod = lent(ready)
    if lost:
        pod.ip("link del net1")
    ready.ip(f"link add nic1 index {number} type veth peer name another")
    ready.ip("addr add 10.77.0.1/24 dev nic1")
    ready.ip("link set nic1 up")
    there = captures("nic1", "another")
    pod.delete()
    said = way()
    assert said.code == 0
    assert differences(there, captures("nic1", "another")) == []
    if lost:
        assert "nic1 is lost" in said.stderr + said.stdout
        assert "nic1_0" not in ready.names()
    else:
        assert "came home as nic1_0" in said.stderr + said.stdout
        home = capture("nic1_0")
        assert home["addresses"][0]["local"] == before["addresses"][0]["local"]
    assert ready.left_over() == []


def test_a_link_made_anew_on_the_host_is_lent_as_another(ready: Host) -> None:
    """Between DEL and the next ADD; what is on record is what is lent now."""
    number = ready.json("link show dev nic1")[0]["ifindex"]
    lent(ready)
    by_del().ok()
    ready.ip("link del nic1")
    ready.ip(f"link add nic1 index {number} type veth peer name nic1p")
    ready.ip("addr add 10.78.0.1/24 dev nic1")
    before = capture("nic1")
    plugin("ADD").ok()
    by_del().ok()
    assert differences(before, capture("nic1")) == []


def test_a_container_id_that_is_used_again(ready: Host) -> None:
    """Its first pod is gone without a DEL; the second has its own attachment, and its own end."""
    before = capture("nic1")
    old = lent(ready)
    old.delete()
    assert not Path(PATH).exists()
    second = ready.pod("second")
    plugin("ADD", path=second.path).ok()
    assert "net1" in second.names()
    plugin("DEL", path=second.path).ok()
    assert differences(before, capture("nic1")) == []
    assert ready.left_over() == []
