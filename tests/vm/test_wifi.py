"""Wi-Fi: the phy moves, with mac80211_hwsim's radios, which are hardware to the kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import run
from tests.linkstate import capture, differences
from tests.vm import cni
from tests.vm.cards import card
from tests.vm.test_kinds import configure
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host

pytestmark = pytest.mark.vm

ASKED: dict[str, object] = {"name": "wlan0", "new_name": "air0", "address": "192.168.2.2/24"}


@pytest.fixture(autouse=True)
def radio(guest: Host) -> Iterator[None]:  # noqa: ARG001 - it is taken away before that is cleared
    """wlan0 on phy0, configured."""
    run("modprobe", "mac80211_hwsim", "radios=1")
    (place,) = Path("/sys/class/ieee80211").iterdir()
    run("iw", "phy", place.name, "set", "name", "radio")
    configure(
        (
            "link set wlan0 mtu 1400 alias of-the-host txqueuelen 77",
            "link property add dev wlan0 altname wlan0alt",
            "link set wlan0 up",
            "addr add 10.1.0.1/24 dev wlan0",
        )
    )
    yield
    run("rmmod", "mac80211_hwsim")


def tamper(name: str, namespace: str) -> None:
    """Also with a link that is called as one of the host's, which has the kernel rename both."""
    inside = ["ip", "netns", "exec", namespace]
    configure((f"link set {name} down", f"link set {name} name mine mtu 1300"), namespace)
    run(*inside, "iw", "dev", "mine", "set", "type", "monitor")
    host = card("e1000e").name
    run(*inside, "iw", "phy", "radio", "interface", "add", host, "type", "monitor")
    run(*inside, "iw", "phy", "radio", "set", "name", "stolen")
    configure(("link set mine up",), namespace)


@pytest.mark.parametrize("end", ["returned", "its namespace destroyed first"])
def test_it_comes_home(guest: Host, end: str) -> None:
    before, names = capture("wlan0"), sorted(guest.names())
    pod = guest.pod()
    cni.add(pod, ASKED).ok()
    assert "wlan0" not in guest.names()
    assert pod.addresses("air0") == ["192.168.2.2/24"]
    assert "UP" in pod.json("link show air0")[0]["flags"]
    tamper("air0", pod.name)
    if end != "returned":
        pod.delete()
    cni.delete(pod).ok()
    until(
        lambda: not differences(before, capture("wlan0")),
        lambda: differences(before, capture("wlan0")),
    )
    assert [each.name for each in Path("/sys/class/ieee80211").iterdir()] == ["radio"]
    assert sorted(guest.names()) == names
    assert "type managed" in run("iw", "dev", "wlan0", "info")
    assert guest.left_over() == []


@pytest.mark.parametrize("end", ["returned", "its namespace destroyed first"])
def test_a_link_that_a_pod_deleted_is_made_anew(guest: Host, end: str) -> None:
    before, names = capture("wlan0"), sorted(guest.names())
    pod = guest.pod()
    cni.add(pod, ASKED).ok()
    pod.run("iw", "dev", "air0", "del")
    pod.run("iw", "phy", "radio", "interface", "add", "spy0", "type", "monitor")
    if end != "returned":
        pod.delete()
    cni.delete(pod).ok()
    assert differences(before, capture("wlan0")) == []
    assert sorted(guest.names()) == names
    assert guest.left_over() == []


def test_a_phy_with_further_links_is_refused_before_anything_changes(guest: Host) -> None:
    run("iw", "phy", "radio", "interface", "add", "mon0", "type", "monitor")
    before = capture("wlan0")
    code, told = cni.add(guest.pod(), ASKED).error()
    assert code == 102
    assert "radio, the phy that it moves with, has more links: mon0" in told
    assert differences(before, capture("wlan0")) == []
    assert guest.left_over() == []


def test_the_hosts_name_taken_meanwhile_gives_a_fall_back(guest: Host) -> None:
    pod = guest.pod()
    cni.add(pod, ASKED).ok()
    guest.ip("link add wlan0 type dummy")
    cni.delete(pod).ok()
    assert json.loads(run("ip", "-j", "link", "show", "wlan0_0"))[0]["mtu"] == 1400
    assert guest.left_over() == []


def test_a_name_taken_in_the_pod_is_refused(guest: Host) -> None:
    pod = guest.pod()
    pod.ip("link add air0 type dummy")
    before = capture("wlan0")
    assert cni.add(pod, ASKED).error()[0] == 104
    assert differences(before, capture("wlan0")) == []
