"""The NRI plugin on the real containerd: pods by CRI, looked at from inside their containers."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests import faulty
from tests.containerd import Containerd, RuntimeRefused
from tests.host import PTP
from tests.injector import KEY, PROGRAM, NriPlugin
from tests.linkstate import capture, differences, everything
from tests.nri_node import ONE, OTHER, TWO, prepare, see_that_all_is_home, snapshot
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host

pytestmark = pytest.mark.e2e


@pytest.fixture
def node(cni: Host) -> Host:
    """A node with two links of its own and the reference plugins' network."""
    return prepare(cni)


@contextmanager
def running(
    node: Host, *flags: str, configuration: dict[str, Any] | None = None
) -> Iterator[tuple[Containerd, NriPlugin]]:
    """containerd, and the plugin connected to it."""
    with (
        Containerd(node) as containerd,
        NriPlugin(node, containerd.nri_socket, *flags, configuration=configuration) as plugin,
    ):
        plugin.wait_for("synchronized")
        yield containerd, plugin


def end(containerd: Containerd, pod: str) -> None:
    containerd.stop_pod(pod)
    containerd.remove_pod(pod)


def test_the_samples_story(node: Host) -> None:
    before = snapshot()
    with running(node) as (containerd, plugin):
        pod = containerd.run_pod("bbdev0", {KEY: ONE})
        assert "dummy0" not in node.names()
        for name in ("bbdev0-c1", "bbdev0-c2"):
            container = containerd.create(pod, name)
            seen = containerd.exec(container, "ip", "addr", "show", "eth33")
            assert "inet 192.168.2.2/24" in seen
            assert "mtu 1500" in seen
            assert ",UP" in seen
        attached = plugin.wait_for("attached", pod="bbdev0", namespace="default", sandbox=pod)
        assert attached["devices"] == ["dummy0 as eth33"]
        assert attached["ms"] > 0
        containerd.stop_pod(pod)
        see_that_all_is_home(node, before)
        assert plugin.wait_for("detached", pod="bbdev0")["devices"] == ["dummy0"]
        containerd.remove_pod(pod)


def test_two_devices_that_the_pod_tampers_with(node: Host) -> None:
    before = snapshot()
    with running(node) as (containerd, _):
        pod = containerd.run_pod("two", {f"{KEY}/pod": TWO})
        container = containerd.create(pod, "main")
        assert "192.168.2.2/24" in containerd.exec(container, "ip", "addr", "show", "eth33")
        seen = containerd.exec(container, "ip", "addr", "show", "nic1")
        assert "192.168.3.2/24" in seen
        assert "fd00:3::2/64" in seen
        assert "02:00:5e:10:00:01" in seen
        inside = containerd.netns(pod).rpartition("/")[2]
        for command in (
            "link set eth33 down",
            "link set eth33 name mine mtu 1300 address 02:bb:00:00:00:01 alias nic1 up",
            "link add spy link nic1 type macvlan",
        ):
            node.ip(f"-n {inside} {command}")
        end(containerd, pod)
        see_that_all_is_home(node, before)


REFUSED = {
    "missing device": ("- {name: nope}", {}, "NotFound", "no link on the host has name 'nope'"),
    "name taken": (
        "- {name: dummy0}\n- {name: nic1, new_name: eth0}",
        {},
        "FailedPrecondition",
        "'eth0' is the name or altname of another link in the pod",
    ),
    "policy": (
        "- {name: nic1, new_name: a}\n- {name: dummy0, new_name: b}",
        {"policy": {"rules": [{"deny": {"names": ["dummy*"]}}]}},
        "PermissionDenied",
        "dummy0 stays on the host: policy.rules[0] (deny)",
    ),
    "malformed": (
        "- {name: dummy0, mtu: 70000, colour: red}",
        {},
        "InvalidArgument",
        "mtu: 70000 is above 65535",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_failed_injection_fails_the_pod_and_leaves_the_host_alone(node: Host, case: str) -> None:
    annotation, configuration, code, words = REFUSED[case]
    with running(node, configuration=configuration) as (containerd, plugin):
        before = everything()
        with pytest.raises(RuntimeRefused) as refused:
            containerd.run_pod("bad", {KEY: annotation})
        assert f"code = {code}" in str(refused.value)
        assert words in str(refused.value)
        assert plugin.wait_for("not attached", pod="bad")
        for left in containerd.pods():  # containerd's own clean-up loses a race now and then
            end(containerd, left)
        until(lambda: everything() == before, lambda: differences(before, everything()))
        assert node.left_over() == []


def test_a_slow_kernel_fails_the_pod_in_time(node: Host) -> None:
    """One move takes longer than the 2 s after which containerd would go on without us."""
    before = snapshot()
    program = faulty.nri_plugin(node.directory)
    slow = {"NETDEV_SLOW": "2.5", "NETDEV_DURING": "attach"}
    with (
        Containerd(node) as containerd,
        NriPlugin(node, containerd.nri_socket, program=program, env=slow) as plugin,
    ):
        plugin.wait_for("synchronized")
        with pytest.raises(RuntimeRefused, match="DeadlineExceeded"):
            containerd.run_pod("slow", {KEY: ONE})
        see_that_all_is_home(node, before)
        assert plugin.lines("connection ended") == []


def test_a_pod_on_the_hosts_network_is_refused(node: Host) -> None:
    with running(node) as (containerd, _):
        before = everything()
        with pytest.raises(RuntimeRefused, match="uses the host's network"):
            containerd.run_pod("host", {KEY: ONE}, host_network=True)
        assert everything() == before
        assert containerd.run_pod("plain", host_network=True)


def test_killed_while_a_pod_runs(node: Host) -> None:
    """The plugin, containerd, then both; each comes back, and the pod ends as any other."""
    before = snapshot()
    with running(node) as (containerd, plugin):
        for number, kills in enumerate((("plugin",), ("containerd",), ("plugin", "containerd"))):
            pod = containerd.run_pod(f"pod{number}", {KEY: TWO})
            container = containerd.create(pod, "main")
            synchronized = len(plugin.lines("synchronized"))
            for each in kills:
                (plugin if each == "plugin" else containerd).kill()
            for each in kills:
                (plugin if each == "plugin" else containerd).start()
            plugin.wait_for("synchronized", count=synchronized + 1)
            assert "192.168.2.2/24" in containerd.exec(container, "ip", "addr", "show", "eth33")
            # After a restart of containerd no Stop comes for this pod.
            end(containerd, pod)
            see_that_all_is_home(node, before)


def test_a_pod_that_ends_while_the_plugin_is_away(node: Host) -> None:
    before = snapshot()
    with running(node) as (containerd, plugin):
        pod = containerd.run_pod("one", {KEY: TWO})
        plugin.kill()
        end(containerd, pod)
        assert "dummy0" not in node.names()
        plugin.start()
        see_that_all_is_home(node, before)


def test_containerd_dies_and_the_pod_with_it(node: Host) -> None:
    """No runtime is there to tell of it: link events and the plugin's own look must do."""
    before = snapshot()
    with running(node) as (containerd, _):
        pod = containerd.run_pod("one", {KEY: TWO})
        namespace = containerd.netns(pod)
        containerd.kill()
        name = namespace.rpartition("/")[2]
        for pid in node.ip(f"netns pids {name}").split():
            os.kill(int(pid), signal.SIGKILL)
        node.ip(f"netns delete {name}")
        see_that_all_is_home(node, before)
        containerd.start()


def test_a_pod_that_was_started_without_us_is_told_of_and_gets_no_container(node: Host) -> None:
    with Containerd(node) as containerd:
        pod = containerd.run_pod("early", {KEY: ONE})
        with NriPlugin(node, containerd.nri_socket) as plugin:
            line = plugin.wait_for("a running pod lacks what it asked for", pod="early")
            assert line["devices"] == ["name 'dummy0'"]
            plugin.wait_for("synchronized")
            with pytest.raises(RuntimeRefused, match="must not run without"):
                containerd.create(pod, "main")
            other = containerd.run_pod("plain")
            containerd.create(other, "main")


def test_required_plugins_stop_containers_while_the_plugin_is_away(node: Host) -> None:
    required = ["network-device-injector"]
    with Containerd(node, required_plugins=required) as containerd:
        pod = containerd.run_pod("one", {KEY: ONE})
        with pytest.raises(RuntimeRefused, match="network-device-injector"):
            containerd.create(pod, "main")
        end(containerd, pod)
        with NriPlugin(node, containerd.nri_socket) as plugin:
            plugin.wait_for("synchronized")
            pod = containerd.run_pod("two", {KEY: ONE})
            containerd.create(pod, "main")


def test_launched_by_the_runtime(node: Host) -> None:
    """It has no PATH and no streams; its configuration comes in Configure."""
    before = snapshot()
    containerd = Containerd(node)
    log = node.directory / "launched.log"
    (containerd.nri_plugin_dir / "10-network-device-injector").symlink_to(PROGRAM)
    (containerd.nri_config_dir / "network-device-injector.conf").write_text(
        f"log: {{file: {log}, format: json}}\npolicy: {{rules: [{{deny: {{names: [nic1]}}}}]}}\n"
    )
    with containerd:
        pod = containerd.run_pod("bbdev0", {KEY: ONE})
        container = containerd.create(pod, "main")
        assert "192.168.2.2/24" in containerd.exec(container, "ip", "addr", "show", "eth33")
        with pytest.raises(RuntimeRefused, match=r"policy.rules\[0\] \(deny\)"):
            containerd.run_pod("other", {KEY: OTHER})
        end(containerd, pod)
        see_that_all_is_home(node, before)
        assert '"attached"' in log.read_text()


def test_what_cni_attached_is_left_to_cni(node: Host) -> None:
    before = snapshot()
    netdev = {"type": "cni-netdev", "capabilities": {"io.kubernetes.cri.pod-annotations": True}}
    node.conflist(PTP, netdev, name="pods")
    with running(node) as (containerd, plugin):
        pod = containerd.run_pod("both", {KEY: TWO})
        assert [record["front"] for record in attachments(node) if record["devices"]] == ["cni"]
        assert plugin.wait_for("name 'dummy0' is already attached by cni")
        container = containerd.create(pod, "main")
        assert "192.168.2.2/24" in containerd.exec(container, "ip", "addr", "show", "eth33")
        end(containerd, pod)
        see_that_all_is_home(node, before)


def attachments(node: Host) -> Any:
    return node.netdevctl("attachments", "--json").ok()


def test_fifty_pods_one_after_the_other(node: Host) -> None:
    before = snapshot()
    with running(node) as (containerd, plugin):
        for number in range(50):
            pod = containerd.run_pod(f"pod{number}", {KEY: TWO})
            assert "dummy0" not in node.names()
            end(containerd, pod)
        see_that_all_is_home(node, before)
        assert len(plugin.lines("attached")) == len(plugin.lines("detached")) == 50


def test_eight_pods_at_once(node: Host) -> None:
    names = [f"par{number}" for number in range(8)]
    for name in names:
        node.veth(name)
    before = {name: capture(name) for name in names}
    with running(node) as (containerd, _):

        def life(name: str) -> None:
            pod = containerd.run_pod(name, {KEY: f"- {{name: {name}, new_name: eth33}}"})
            container = containerd.create(pod, "main")
            assert containerd.exec(container, "ip", "link", "show", "eth33")
            end(containerd, pod)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(life, names))
        see_that_all_is_home(node, before)


def test_migration_from_the_go_injector(node: Host) -> None:
    """Its devices are still lent: moved by what it does, with the host's name as their alias.

    What the pod made itself is not taken for one.
    """
    with Containerd(node) as containerd:
        node.veth("plain0")
        before = {"plain0": capture("plain0")}
        asked = "- {name: plain0, new_name: eth33}\n- {name: free0, new_name: forged}"
        pod = containerd.run_pod("old", {KEY: asked})
        inside = containerd.netns(pod).rpartition("/")[2]
        for command in (
            "link set plain0 down",
            "link set plain0 alias plain0",
            f"link set plain0 netns {inside}",
            f"-n {inside} link set plain0 name eth33",
            f"-n {inside} link set eth33 up",
            f"-n {inside} link add forged type ifb",
            f"-n {inside} link set forged alias free0",
        ):
            node.ip(command)
        with NriPlugin(node, containerd.nri_socket, "-adopt") as plugin:
            adopted = plugin.wait_for("adopted from the Go injector", pod="old")
            assert adopted["devices"] == ["plain0"]
            assert "'forged' is younger than its pod" in plugin.wait_for("not adopted")["error"]
            plugin.wait_for("synchronized")
            end(containerd, pod)
            see_that_all_is_home(node, before)
            assert "free0" not in node.names()
