"""The NRI plugin against Go's runtime side of the NRI versions before today's.

They tell pod events by StateChange.  Before 0.7 they do not tell their time limits, send all pods
in one message, however many there are, and never synchronize the plugins that they launch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests import faulty
from tests.injector import KEY, PROGRAM, NriPlugin
from tests.nri_node import ONE, TWO, prepare, see_that_all_is_home, snapshot
from tests.nri_runtime import OLD_VERSIONS, GoRuntime, PluginRefused, pod
from tests.wait import until

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = [pytest.mark.e2e, pytest.mark.parametrize("version", OLD_VERSIONS)]

BEFORE_0_7 = ("0.3", "0.6")
CONTAINER = {"id": "container-main", "pod": "sandbox-one", "name": "main"}


@pytest.fixture
def node(cni: Host) -> Host:
    return prepare(cni)


def stopped(one: dict[str, Any]) -> dict[str, Any]:
    """As containerd 1.7 and 2.0 can tell of it: without its namespace."""
    return {**one, "netns": ""}


def test_a_pods_life(node: Host, version: str) -> None:
    before = snapshot()
    inside = node.pod()
    one = pod("one", {KEY: TWO}, netns=inside.path)
    with GoRuntime(node.directory, version=version, request_timeout="3s") as runtime:
        runtime.set_pods([pod("other", netns=inside.path)])
        with NriPlugin(node, runtime.socket) as plugin:
            runtime.wait_for("plugins", count=1)
            configured = plugin.wait_for("configured", runtime="go-runtime")
            assert "nri" not in configured, "no version told before 0.12"
            assert configured["seconds"] == (2.0 if version in BEFORE_0_7 else 3.0)
            assert plugin.wait_for("synchronized")["pods"] == 1
            runtime.run(one)
            assert "192.168.2.2/24" in inside.addresses("eth33")
            assert "fd00:3::2/64" in inside.addresses("nic1")
            runtime.create(one, "main")
            for op in ("start-container", "stop-container", "remove-container"):
                runtime.do(op, pod=one, container=CONTAINER)
            runtime.stop(stopped(one))
            see_that_all_is_home(node, before)
            runtime.remove(stopped(one))
            told = [each["call"] for each in plugin.lines("nothing to do")]
            assert told == ["remove"], "only what was asked for is told"
            assert runtime.plugins()["count"] == 1


def test_a_pod_that_cannot_have_its_device(node: Host, version: str) -> None:
    before = snapshot()
    inside = node.pod()
    one = pod("one", {KEY: ONE + "- {name: nope}"}, netns=inside.path)
    with GoRuntime(node.directory, version=version) as runtime, NriPlugin(node, runtime.socket):
        runtime.wait_for("plugins", count=1)
        with pytest.raises(PluginRefused, match=r"code = NotFound .*nope"):
            runtime.run(one)
        see_that_all_is_home(node, before)
        with pytest.raises(PluginRefused, match="must not run without"):
            runtime.create(one, "main")
        runtime.stop(stopped(one))
        runtime.remove(stopped(one))
        assert runtime.plugins()["count"] == 1


def test_a_slow_kernel(node: Host, version: str) -> None:
    """DeadlineExceeded of ours fails the pod; the runtime's own would end the connection."""
    before = snapshot()
    inside = node.pod()
    one = pod("one", {KEY: TWO}, netns=inside.path)
    slow = {"NETDEV_SLOW": "2.5", "NETDEV_DURING": "attach"}
    program = faulty.nri_plugin(node.directory)
    with (
        GoRuntime(node.directory, version=version) as runtime,
        NriPlugin(node, runtime.socket, program=program, env=slow),
    ):
        runtime.wait_for("plugins", count=1)
        with pytest.raises(PluginRefused, match="DeadlineExceeded"):
            runtime.run(one)
        runtime.stop(stopped(one))
        runtime.remove(stopped(one))
        assert runtime.plugins()["count"] == 1
        see_that_all_is_home(node, before)


def test_a_pod_that_was_started_without_the_plugin(node: Host, version: str) -> None:
    inside = node.pod()
    one = pod("one", {KEY: ONE}, netns=inside.path)
    with GoRuntime(node.directory, version=version) as runtime:
        runtime.set_pods([one])
        with NriPlugin(node, runtime.socket) as plugin:
            runtime.wait_for("plugins", count=1)
            plugin.wait_for("a running pod lacks what it asked for", pod="one")
            with pytest.raises(PluginRefused, match="must not run without"):
                runtime.create(one, "main")
            runtime.create(pod("plain", netns=inside.path), "main")


def test_the_runtime_restarts(node: Host, version: str) -> None:
    before = snapshot()
    inside = node.pod()
    one = pod("one", {KEY: TWO}, netns=inside.path)
    with NriPlugin(node, node.directory / "nri.sock") as plugin:
        with GoRuntime(node.directory, version=version) as runtime:
            runtime.wait_for("plugins", count=1)
            runtime.run(one)
        plugin.wait_for("connection ended")
        with GoRuntime(node.directory, version=version) as runtime:
            runtime.set_pods([one])
            runtime.wait_for("plugins", count=1)
            assert "192.168.2.2/24" in inside.addresses("eth33")
            runtime.create(one, "main")
            runtime.stop(stopped(one))
            see_that_all_is_home(node, before)


def test_a_synchronization_larger_than_a_message(node: Host, version: str) -> None:
    """9 MB of pods.  Before 0.7 Go's own plugins cannot take that; then it comes in chunks."""
    inside = node.pod()
    text = "x" * 60_000
    pods = [pod(f"p{number}", {"big": text}, netns=inside.path) for number in range(150)]
    with GoRuntime(node.directory, version=version) as runtime:
        runtime.set_pods([*pods, pod("last", {KEY: ONE}, netns=inside.path)])
        with NriPlugin(node, runtime.socket) as plugin:
            runtime.wait_for("plugins", count=1)
            plugin.wait_for("a running pod lacks what it asked for", pod="last")
            assert plugin.wait_for("synchronized")["pods"] == 151


def test_launched_by_the_runtime(node: Host, version: str) -> None:
    before = snapshot()
    plugins, configs = node.directory / "plugins", node.directory / "conf.d"
    for path in (plugins, configs):
        path.mkdir()
    (plugins / "10-network-device-injector").symlink_to(PROGRAM)
    log = node.directory / "launched.log"
    (configs / "network-device-injector.conf").write_text(f"log: {{file: {log}}}")
    inside = node.pod()
    one = pod("one", {KEY: TWO}, netns=inside.path)
    with GoRuntime(
        node.directory, version=version, plugin_path=plugins, config_path=configs
    ) as runtime:
        assert runtime.plugins()["count"] == 1
        runtime.run(one)
        assert "192.168.2.2/24" in inside.addresses("eth33")
        runtime.create(one, "main")
        runtime.stop(stopped(one))
        see_that_all_is_home(node, before)
        until(lambda: "detached" in log.read_text(), log.read_text)
