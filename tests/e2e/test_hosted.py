"""CNI's calls answered by network-device-injector, beside NRI's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev import install
from tests import faulty
from tests.agent import SOCKET, CniAgent
from tests.injector import KEY, PROGRAM, NriPlugin
from tests.nri_node import ONE, prepare, see_that_all_is_home, snapshot
from tests.nri_runtime import GoRuntime, pod
from tests.wait import until

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.e2e

CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "cni-netdev"}
OTHER = {**CONF, "devices": [{"name": "nic1", "address": "192.168.3.2/24"}]}


@pytest.fixture
def node(cni: Host) -> Host:
    return prepare(cni)


def test_both_front_ends_in_one_process(node: Host) -> None:
    before = snapshot()
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket) as plugin:
        runtime.wait_for("plugins", count=1)
        plugin.wait_for("answering the CNI plugin", socket=str(SOCKET))
        inside = node.pod()
        one = pod("one", {KEY: ONE}, netns=inside.path)
        runtime.run(one)
        node.plugin("ADD", OTHER, netns=inside.path, container=one["id"]).ok()
        assert set(inside.names()) == {"lo", "eth0", "eth33"}
        node.plugin("CHECK", OTHER, netns=inside.path, container=one["id"]).ok()
        runtime.stop(one)
        node.plugin("DEL", CONF, container=one["id"]).ok()
        see_that_all_is_home(node, before)
        answered = [each["command"] for each in plugin.lines("answered")]
        assert answered == ["ADD", "CHECK", "DEL"]
        assert plugin.terminate() == 0
        assert not SOCKET.exists()


@pytest.mark.parametrize("way", ["flag", "file"])
def test_it_can_be_turned_off_or_put_elsewhere(node: Host, way: str) -> None:
    elsewhere = Path("/run/sockets/cni")
    for path in ("", str(elsewhere)):
        flags = ("-agent-socket", path) if way == "flag" else ()
        config = {} if way == "flag" else {"agentSocket": path}
        with (
            GoRuntime(node.directory) as runtime,
            NriPlugin(node, runtime.socket, *flags, configuration=config) as plugin,
        ):
            runtime.wait_for("plugins", count=1)
            if path:
                plugin.wait_for("answering the CNI plugin", socket=path)
            conf = {**CONF, "agentSocket": str(elsewhere)}
            assert node.plugin("VERSION", conf).ok()
            assert len(plugin.lines("answered")) == (1 if path else 0)
            assert not SOCKET.exists()


def test_the_runtimes_configuration_can_put_it_elsewhere(node: Host) -> None:
    """A launched plugin hears of it when it is serving already."""
    plugins, config = node.directory / "plugins", node.directory / "conf.d"
    for each in (plugins, config):
        each.mkdir()
    name = "network-device-injector"
    (plugins / f"10-{name}").symlink_to(PROGRAM)
    log = node.directory / "launched.log"
    wanted = {"stateDir": "/run/other", "log": {"file": str(log), "format": "json"}}
    (config / f"{name}.conf").write_text(json.dumps(wanted))
    with GoRuntime(node.directory, plugin_path=plugins, config_path=config):
        place = Path("/run/other/agent.sock")
        conf = {**OTHER, "stateDir": "/run/other"}
        before = snapshot()
        inside = node.pod()
        until(place.exists, log.read_text)
        node.plugin("ADD", conf, netns=inside.path).ok()
        node.plugin("DEL", conf, netns=inside.path).ok()
        see_that_all_is_home(node, before)
        until(lambda: not SOCKET.exists(), log.read_text)


def test_a_call_under_a_time_limit_waits_for_one_of_the_others_and_not_for_all(node: Host) -> None:
    """Ten attachments by CNI take longer than the runtime's limit for one by NRI."""
    links = [node.veth(f"lent{number}") for number in range(10)]
    env = {"NETDEV_SLOW": "0.3", "NETDEV_DURING": "attach"}
    program = faulty.nri_plugin(node.directory)
    with (
        GoRuntime(node.directory, request_timeout="2s") as runtime,
        NriPlugin(node, runtime.socket, program=program, env=env) as plugin,
    ):
        runtime.wait_for("plugins", count=1)
        plugin.wait_for("answering the CNI plugin")
        inside = node.pod()
        children = [add(node, link, inside.path) for link in links]
        plugin.wait_for("answered")
        runtime.run(pod("one", {KEY: ONE}, netns=inside.path))
        assert len(plugin.lines("answered")) < len(links), "it did not wait for all"
        assert [child.wait(60) for child in children] == [0] * len(links)
        assert len(plugin.lines("answered")) == len(links)


def add(host: Host, link: str, netns: str) -> subprocess.Popen[bytes]:
    environ = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": link,
        "CNI_NETNS": netns,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(host.bin_dir),
    }
    conf = {**CONF, "devices": [{"name": link, "new_name": link}]}
    text = host.directory / f"{link}.json"
    text.write_text(json.dumps(conf))
    with text.open("rb") as stdin:
        plugin = str(host.bin_dir / install.PLUGIN)
        return subprocess.Popen([plugin], env=environ, stdin=stdin, stdout=subprocess.DEVNULL)


def test_beside_an_agent_it_leaves_cni_to_that_until_it_ends(node: Host) -> None:
    with (
        CniAgent(node) as agent,
        GoRuntime(node.directory) as runtime,
        NriPlugin(node, runtime.socket) as plugin,
    ):
        runtime.wait_for("plugins", count=1)
        plugin.wait_for("not answering the CNI plugin")
        assert node.plugin("VERSION", CONF).ok()
        assert agent.answered() == 1
        agent.terminate()
        plugin.wait_for("answering the CNI plugin")
        assert node.plugin("VERSION", CONF).ok()
        assert len(plugin.lines("answered")) == 1
