"""SIGKILL of the plugin, and of containerd, around every step of attach and detach.

Whatever the moment: the plugin started again, with the runtime's own ending of the pod, brings
every link home exactly as it was and leaves nothing in the state directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import faulty
from tests.containerd import Containerd
from tests.injector import KEY, NriPlugin
from tests.nri_node import TWO, prepare, see_that_all_is_home, snapshot
from tests.nri_runtime import GoRuntime, PluginRefused, pod
from tests.wait import until

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.e2e


@pytest.fixture
def node(cni: Host) -> Host:
    return prepare(cni)


def moments(node: Host, runtime: GoRuntime, during: str) -> list[int]:
    found = faulty.moments(trace(node, runtime, during))
    assert len(found) > 15
    return found


def trace(node: Host, runtime: GoRuntime, during: str) -> list[str]:
    """The events of one attach or detach, both of two devices."""
    path = node.directory / f"trace-{during}"
    plugin = faulty_plugin(node, runtime.socket)
    plugin.start(NETDEV_TRACE=str(path), NETDEV_DURING=during)
    plugin.wait_for("synchronized")
    inside = node.pod("counted")
    counted = pod("counted", {KEY: TWO}, netns=inside.path)
    runtime.run(counted)
    runtime.stop(counted)
    inside.delete()
    plugin.terminate()
    return path.read_text().splitlines()


def faulty_plugin(node: Host, socket: str | Path) -> NriPlugin:
    return NriPlugin(node, socket, program=faulty.nri_plugin(node.directory))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("during", ["attach", "detach"])
def test_the_plugin_at_every_event(node: Host, during: str, when: str) -> None:
    before = snapshot()
    with GoRuntime(node.directory) as runtime:
        for number in moments(node, runtime, during):
            moment = f"killed {when} event {number} of {during}"
            plugin = faulty_plugin(node, runtime.socket)
            inside = node.pod(f"pod{number}")
            one = pod(f"p{number}", {KEY: TWO}, netns=inside.path)
            plugin.start(NETDEV_KILL_AT=f"{number}:{when}", NETDEV_DURING=during)
            plugin.wait_for("synchronized")
            runtime.run(one)
            if during == "detach":
                assert set(inside.names()) >= {"eth33", "nic1"}
                runtime.stop(one)
            assert plugin.wait() == -9, moment
            if number % 2:
                inside.delete()  # CRI-O's order; the other times the namespace is still there
            with plugin:
                plugin.wait_for("synchronized", count=2)
                if not number % 2:
                    runtime.stop(one)  # of an attach that was whole by then
                see_that_all_is_home(node, before)
            if not number % 2:
                inside.delete()


def test_sigterm_while_the_kernel_never_answers(node: Host) -> None:
    """It ends within the unit's TimeoutStopSec=; the next one goes on from the record."""
    before = snapshot()
    with GoRuntime(node.directory) as runtime:
        fifo = node.directory / "never"
        os.mkfifo(fifo)
        move = 1 + next(
            number for number, each in enumerate(trace(node, runtime, "attach")) if "move" in each
        )
        plugin = faulty_plugin(node, runtime.socket)
        plugin.start(NETDEV_PAUSE_AT=f"{move}:{fifo}", NETDEV_DURING="attach")
        with plugin:
            plugin.wait_for("synchronized")
            inside = node.pod()
            one = pod("one", {KEY: TWO}, netns=inside.path)
            with pytest.raises(PluginRefused, match="DeadlineExceeded"):
                runtime.run(one)
            assert plugin.terminate() == 1
            assert plugin.wait_for("ended while the worker is stuck; its work is on record")
            assert node.left_over()
        with plugin:
            see_that_all_is_home(node, before)


def test_containerd_at_every_event(node: Host) -> None:
    """The plugin is held at the event, containerd killed and started; then both go on."""
    before = snapshot()
    with GoRuntime(node.directory) as runtime:
        found = {during: moments(node, runtime, during) for during in ("attach", "detach")}
    with Containerd(node) as containerd:
        for during, numbers in found.items():
            for number in numbers:
                die_while_held(node, containerd, during, number, before)


def die_while_held(
    node: Host, containerd: Containerd, during: str, number: int, before: dict[str, Any]
) -> None:
    fifo = node.directory / f"hold-{during}-{number}"
    os.mkfifo(fifo)
    plugin = faulty_plugin(node, containerd.nri_socket)
    plugin.start(NETDEV_PAUSE_AT=f"{number}:{fifo}", NETDEV_DURING=during)
    with plugin:
        plugin.wait_for("synchronized")
        name = f"{during}{number}"
        if during == "attach":
            containerd.send("run-pod", **containerd.pod_config(name, {KEY: TWO}))
        else:
            containerd.send("stop-pod", id=containerd.run_pod(name, {KEY: TWO}))
        until(Path(f"{fifo}.held").exists, plugin.log_file.read_text)
        containerd.kill()
        containerd.start()
        fifo.read_bytes()
        plugin.wait_for("synchronized", count=2)
        for sandbox in containerd.pods():
            containerd.stop_pod(sandbox)
            containerd.remove_pod(sandbox)
        see_that_all_is_home(node, before)
