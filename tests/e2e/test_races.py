"""Many at once: pods side by side, pods that want one link, the same call twice.

tests/kernel/test_intruders.py has others at work before every event of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import faulty
from tests.host import STATE_DIR
from tests.linkstate import capture, differences
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host, Pod

pytestmark = pytest.mark.e2e
BOTH_WAYS = True

CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "cni-netdev"}


def start(
    host: Host, verb: str, container: str, pod: Pod, link: str, **env: str
) -> subprocess.Popen[str]:
    """The plugin, left running."""
    child = subprocess.Popen(
        [host.bin_dir / "cni-netdev"],
        env={
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": pod.path,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(host.bin_dir),
            **env,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps({**CONF, "devices": [{"name": link, "address": "10.7.0.2/24"}]}))
    child.stdin.close()
    child.stdin = None
    return child


def finish(child: subprocess.Popen[str]) -> tuple[int, Any]:
    out, _ = child.communicate(timeout=60)
    assert child.returncode in (0, 1)
    return child.returncode, json.loads(out) if out else None


def test_eight_pods_at_once(cni: Host) -> None:
    links = [cni.configured(f"nic{number}", number) for number in range(1, 9)]
    before = {link: capture(link) for link in links}
    pods = [cni.pod(f"pod{number}") for number in range(8)]
    for verb in ("ADD", "DEL", "ADD", "DEL"):
        running = [
            start(cni, verb, f"c{number}", pod, link)
            for number, (pod, link) in enumerate(zip(pods, links, strict=True))
        ]
        assert [finish(child)[0] for child in running] == [0] * 8
        if verb == "ADD":
            assert [pod.names() for pod in pods] == [["lo", "eth0"]] * 8
    assert {link: differences(before[link], capture(link)) for link in links} == {
        link: [] for link in links
    }
    assert cni.left_over() == []


def test_two_pods_race_for_one_link(cni: Host) -> None:
    cni.configured("nic1")
    before = capture("nic1")
    pods = [cni.pod("pod0"), cni.pod("pod1")]
    winners = set()
    for _ in range(20):
        racing = [start(cni, "ADD", f"c{number}", pod, "nic1") for number, pod in enumerate(pods)]
        results = [finish(child) for child in racing]
        codes = [code for code, _ in results]
        assert sorted(codes) == [0, 1]
        loser = codes.index(1)
        assert results[loser][1]["code"] == 103
        assert f"c{1 - loser}/eth0" in results[loser][1]["msg"]
        assert pods[loser].names() == ["lo"]
        assert pods[1 - loser].names() == ["lo", "eth0"]
        winners.add(1 - loser)
        for number, pod in enumerate(pods):  # a DEL follows even a failed ADD
            assert finish(start(cni, "DEL", f"c{number}", pod, "nic1"))[0] == 0
        assert differences(before, capture("nic1")) == []
        assert cni.left_over() == []


def test_add_and_del_of_one_attachment_at_once_leave_a_whole_state(cni: Host) -> None:
    cni.configured("nic1")
    before = capture("nic1")
    pod = cni.pod()
    for _ in range(10):
        children = [start(cni, verb, "c1", pod, "nic1") for verb in ("ADD", "DEL", "ADD", "DEL")]
        assert {finish(child)[0] for child in children} == {0}
        if "eth0" in pod.names():
            assert pod.addresses("eth0") == ["10.7.0.2/24"]
            assert finish(start(cni, "DEL", "c1", pod, "nic1"))[0] == 0
        assert differences(before, capture("nic1")) == []
        assert cni.left_over() == []


def test_a_link_handed_from_pod_to_pod(cni: Host) -> None:
    """DEL of the one and ADD of the other at once: the other waits, or is told who holds it."""
    cni.configured("nic1")
    before = capture("nic1")
    pods = [cni.pod("pod0"), cni.pod("pod1")]
    holder = 0
    assert finish(start(cni, "ADD", "c0", pods[0], "nic1"))[0] == 0
    for _ in range(10):
        other = 1 - holder
        leaving = start(cni, "DEL", f"c{holder}", pods[holder], "nic1")
        coming = start(cni, "ADD", f"c{other}", pods[other], "nic1")
        assert finish(leaving)[0] == 0
        code, document = finish(coming)
        if code:
            assert document["code"] == 103
            assert finish(start(cni, "ADD", f"c{other}", pods[other], "nic1"))[0] == 0
        assert pods[other].names() == ["lo", "eth0"]
        holder = other
    assert finish(start(cni, "DEL", f"c{holder}", pods[holder], "nic1"))[0] == 0
    assert differences(before, capture("nic1")) == []


@pytest.fixture
def stoppable(host: Host) -> Host:
    """Whose plugin can be held at an event; it is always a process of its own."""
    host.install()
    faulty.install(host.bin_dir)
    return host


@contextmanager
def held(
    host: Host, verb: str, container: str, pod: Pod, before: str
) -> Iterator[subprocess.Popen[str]]:
    """The plugin, standing still before the first such event until the block ends."""
    trace, fifo = host.directory / "trace", host.directory / f"{verb}.fifo"
    trace.unlink(missing_ok=True)
    assert finish(start(host, "ADD", "trial", pod, "nic1", NETDEV_TRACE=str(trace)))[0] == 0
    if verb == "DEL":
        trace.unlink()
    assert finish(start(host, "DEL", "trial", pod, "nic1", NETDEV_TRACE=str(trace)))[0] == 0
    events = trace.read_text().splitlines()
    number = 1 + next(at for at, each in enumerate(events) if each.startswith(before))
    if verb == "DEL":
        assert finish(start(host, "ADD", container, pod, "nic1"))[0] == 0
    os.mkfifo(fifo)
    child = start(host, verb, container, pod, "nic1", NETDEV_PAUSE_AT=f"{number}:{fifo}")
    until(Path(f"{fifo}.held").exists, child.poll)
    yield child
    fifo.read_bytes()


def host_device(host: Host, verb: str, pod: Pod) -> Any:
    conf = {"cniVersion": "1.0.0", "name": "hd", "type": "host-device", "device": "nic1"}
    path = {"PATH": os.environ["PATH"]}
    return host.plugin(
        verb, conf, netns=pod.path, container="hd", program="host-device", env=path
    ).ok()


def test_host_device_takes_the_link_that_we_are_about_to_move(stoppable: Host) -> None:
    stoppable.configured("nic1")
    pods = [stoppable.pod("pod0"), stoppable.pod("pod1")]
    with held(stoppable, "ADD", "c0", pods[0], "pin") as ours:
        host_device(stoppable, "ADD", pods[1])
    code, document = finish(ours)
    assert (code, document["code"]) == (1, 101)
    assert (pods[0].names(), pods[1].names()) == (["lo"], ["lo", "eth0"])
    assert finish(start(stoppable, "DEL", "c0", pods[0], "nic1"))[0] == 0
    assert pods[1].names() == ["lo", "eth0"]
    host_device(stoppable, "DEL", pods[1])
    assert "nic1" in stoppable.names()
    assert stoppable.left_over() == []


def test_host_device_takes_the_link_that_just_came_home(stoppable: Host) -> None:
    stoppable.configured("nic1")
    pods = [stoppable.pod("pod0"), stoppable.pod("pod1")]
    with held(stoppable, "DEL", "c0", pods[0], "netlink add address") as ours:
        host_device(stoppable, "ADD", pods[1])
    assert finish(ours) == (0, None)
    assert (pods[0].names(), pods[1].names()) == (["lo"], ["lo", "eth0"])
    assert stoppable.left_over() == []
    assert json.loads(stoppable.netdevctl("recover", "--json").stdout) == []
    assert pods[1].names() == ["lo", "eth0"]


def test_another_pod_waits_while_a_link_is_being_lent(stoppable: Host) -> None:
    """And is told who has it, once that is so."""
    stoppable.configured("nic1")
    pods = [stoppable.pod("pod0"), stoppable.pod("pod1")]
    with held(stoppable, "ADD", "c0", pods[0], "netlink move") as ours:
        second = start(stoppable, "ADD", "c1", pods[1], "nic1")
        own_lock = STATE_DIR / "locks" / "attachment-cni-c1-eth0.lock"
        until(own_lock.exists, second.poll)
    assert finish(ours)[0] == 0
    code, document = finish(second)
    assert (code, document["code"]) == (1, 103)
    assert (pods[0].names(), pods[1].names()) == (["lo", "eth0"], ["lo"])
