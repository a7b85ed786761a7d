"""The NRI plugin against Go's own runtime side, without containerd."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import faulty
from tests.host import PEERS
from tests.host import run as node_run
from tests.injector import KEY, PROGRAM, NriPlugin
from tests.linkstate import everything
from tests.nri_node import ONE, TWO, prepare, see_that_all_is_home, snapshot
from tests.nri_runtime import GoRuntime, PluginRefused, pod
from tests.proxy import OddPieces
from tests.wait import until

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.e2e


@pytest.fixture
def node(cni: Host) -> Host:
    return prepare(cni)


def slow(node: Host, runtime: GoRuntime, seconds: str, during: str = "attach") -> NriPlugin:
    """A plugin whose moves take so much longer while it attaches, or detaches."""
    env = {"NETDEV_SLOW": seconds, "NETDEV_DURING": during}
    return NriPlugin(node, runtime.socket, program=faulty.nri_plugin(node.directory), env=env)


# --- the wire --------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 7, 4096])
def test_odd_pieces(node: Host, most: int) -> None:
    before = snapshot()
    with (
        GoRuntime(node.directory) as runtime,
        OddPieces(node.directory / "odd.sock", runtime.socket, most) as odd,
        NriPlugin(node, odd.path),
    ):
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        one = pod("one", {KEY: TWO}, netns=inside.path)
        runtime.run(one)
        assert "192.168.2.2/24" in inside.addresses("eth33")
        runtime.create(one, "main")
        runtime.stop(one)
        runtime.remove(one)
        see_that_all_is_home(node, before)


def test_a_synchronization_of_many_messages(node: Host) -> None:
    """More than 4 MiB of pods: the runtime's client refuses to send it whole and sends chunks."""
    with GoRuntime(node.directory) as runtime:
        inside = node.pod()
        text = "x" * 60_000
        pods = [pod(f"p{number}", {"big": text}, netns=inside.path) for number in range(150)]
        runtime.set_pods([*pods, pod("last", {KEY: ONE}, netns=inside.path)])
        with NriPlugin(node, runtime.socket) as plugin:
            plugin.wait_for("a running pod lacks what it asked for", pod="last")
            assert plugin.wait_for("synchronized")["pods"] == 151
            runtime.wait_for("plugins", count=1)


def test_a_pod_larger_than_a_message_may_be(node: Host) -> None:
    """The runtime's side refuses to send it; the plugin serves the next one."""
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket):
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        with pytest.raises(PluginRefused, match="exceed"):
            runtime.run(pod("huge", {"big": "x" * (5 << 20)}, netns=inside.path))
        runtime.run(pod("one", {KEY: ONE, "big": "x" * (3 << 20)}, netns=inside.path))
        assert "eth33" in inside.names()


def test_garbage_ends_the_connection_and_not_the_process(node: Host) -> None:
    path = node.directory / "garbage.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with NriPlugin(node, path) as plugin:
            for garbage in (
                b"\0\0\0\0\0\0\0\4oops",
                b"\0\0\0\1\xff\xff\xff\xff",
                b"GET / HTTP/1.1",
            ):
                peer, _ = listener.accept()
                peer.sendall(garbage)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass
                peer.close()
            reasons = [each["reason"] for each in plugin.lines("connection ended")]
            assert "connection 0, which is reserved" in reasons[0]
            assert "a frame of 4294967295 bytes" in reasons[1]
            plugin.wait_for("connection ended", count=3)
            assert plugin.terminate() == 0


# --- restarts --------------------------------------------------------------------------------


def test_the_runtime_restarts_again_and_again(node: Host) -> None:
    before = snapshot()
    with NriPlugin(node, node.directory / "nri.sock", "-metrics", "127.0.0.1:9400") as plugin:
        plugin.wait_for("started")
        inside = node.pod()
        one = pod("one", {KEY: TWO}, netns=inside.path)
        for number in range(3):
            with GoRuntime(node.directory) as runtime:
                runtime.set_pods([one] if number else [])
                runtime.wait_for("plugins", count=1)
                until(lambda: answer("/readyz")[0] == 200, lambda: answer("/readyz"))
                if number == 0:
                    runtime.run(one)
                assert "192.168.2.2/24" in inside.addresses("eth33")
            (node.directory / "nri.sock").unlink(missing_ok=True)
            until(lambda: answer("/readyz")[0] == 503, lambda: answer("/readyz"))
        with GoRuntime(node.directory) as runtime:
            runtime.set_pods([])  # the pod has ended meanwhile
            inside.delete()
            see_that_all_is_home(node, before)
        assert value("netdev_reconnects_total") >= 3


def answer(path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:9400{path}", timeout=10) as got:
            return got.status, got.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def value(name: str) -> float:
    """The metric's only sample, or the one with these labels."""
    lines = [each for each in answer("/metrics")[1].splitlines() if each.startswith(f"{name} ")]
    assert len(lines) == 1, answer("/metrics")[1]
    return float(lines[0].split()[1])


def test_metrics_tell_what_was_done(node: Host) -> None:
    flags = ("-metrics", "127.0.0.1:9400")
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket, *flags):
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        one = pod("one", {KEY: TWO}, netns=inside.path)
        runtime.run(one)
        assert value("netdev_devices_lent") == 2
        node.veth("dummy0", "other")  # its name is taken when it comes home
        runtime.stop(one)
        with pytest.raises(PluginRefused):
            runtime.run(pod("two", {KEY: "- {name: nope}"}, netns=inside.path))
        assert value('netdev_attach_total{result="ok"}') == 1
        assert value('netdev_attach_total{result="DeviceNotFound"}') == 1
        assert value('netdev_detach_total{result="ok"}') == 1
        assert value("netdev_attach_seconds_count") == 2
        assert value("netdev_restore_fallbacks_total") == 1
        assert value("netdev_devices_lent") == 0
        assert answer("/healthz")[0] == answer("/readyz")[0] == 200
        assert answer("/")[0] == 404


# --- time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", ["0.8", "2.5"])
def test_a_slow_kernel(node: Host, seconds: str) -> None:
    """Moves that together, or one by one, outlast the runtime's 2 s."""
    before = snapshot()
    with GoRuntime(node.directory) as runtime, slow(node, runtime, seconds) as plugin:
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        one = pod("one", {KEY: TWO}, netns=inside.path)
        with pytest.raises(PluginRefused, match="DeadlineExceeded"):
            runtime.run(one)
        # As containerd does then; neither may fail, nor wait for the kernel.
        runtime.stop(one)
        runtime.remove(one)
        assert runtime.plugins()["count"] == 1
        see_that_all_is_home(node, before)
        with pytest.raises(PluginRefused, match="must not run without"):
            runtime.create(one, "main")
        assert plugin.lines("attached") == []


def test_a_slow_way_back(node: Host) -> None:
    before = snapshot()
    with GoRuntime(node.directory) as runtime, slow(node, runtime, "2.5", "detach") as plugin:
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        one = pod("one", {KEY: ONE}, netns=inside.path)
        runtime.run(one)
        runtime.stop(one)
        # Others are served meanwhile, those that ask for nothing.
        runtime.run(pod("plain", netns=inside.path))
        assert "eth33" in inside.names()
        runtime.remove(one)
        see_that_all_is_home(node, before)
        assert runtime.plugins()["count"] == 1
        assert plugin.wait_for("detached", pod="one")


def test_stopped_for_longer_than_the_limit(node: Host) -> None:
    """The runtime has gone on without: what it had asked for is done no more."""
    before = snapshot()
    with (
        GoRuntime(node.directory, request_timeout="500ms") as runtime,
        NriPlugin(node, runtime.socket) as plugin,
    ):
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        one = pod("one", {KEY: TWO}, netns=inside.path)
        os.kill(plugin.pid, signal.SIGSTOP)
        runtime.run(one)  # NRI passes over a plugin that does not answer
        runtime.set_pods([one])
        os.kill(plugin.pid, signal.SIGCONT)
        plugin.wait_for("a running pod lacks what it asked for", pod="one")
        runtime.wait_for("plugins", count=1)
        assert inside.names() == ["lo"]
        see_that_all_is_home(node, before)
        with pytest.raises(PluginRefused, match="must not run without"):
            runtime.create(one, "main")


def test_sigterm_finishes_what_was_begun(node: Host) -> None:
    before = snapshot()
    with GoRuntime(node.directory) as runtime, slow(node, runtime, "0.5") as plugin:
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        one = pod("one", {KEY: ONE}, netns=inside.path)
        running = threading.Thread(target=runtime.run, args=(one,))
        running.start()
        until(node.left_over, node.left_over)  # the intent is on record
        assert plugin.terminate() == 0
        running.join()
        assert "192.168.2.2/24" in inside.addresses("eth33")
        assert plugin.lines("attached", pod="one")
        with NriPlugin(node, runtime.socket):
            inside.delete()
            see_that_all_is_home(node, before)


# --- pods ------------------------------------------------------------------------------------


def test_a_stop_without_a_namespace_goes_by_the_record(node: Host) -> None:
    before = snapshot()
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket):
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        one = pod("one", {KEY: TWO}, netns=inside.path)
        runtime.run(one)
        runtime.stop({**one, "netns": "", "annotations": {}})
        see_that_all_is_home(node, before)


def test_the_namespace_goes_before_stop(node: Host) -> None:
    """CRI-O's order."""
    before = snapshot()
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket):
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        one = pod("one", {KEY: TWO}, netns=inside.path)
        runtime.run(one)
        inside.delete()
        runtime.stop({**one, "netns": ""})
        runtime.remove({**one, "netns": ""})
        see_that_all_is_home(node, before)


def test_a_full_state_directory_keeps_no_link_in_a_pod(node: Host) -> None:
    before = snapshot()
    state = Path("/run/cni-netdev")
    state.mkdir(mode=0o700)
    node_run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", str(state))
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket):
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        one = pod("one", {KEY: TWO}, netns=inside.path)
        runtime.run(one)
        with pytest.raises(OSError, match="No space left"):
            (state / "filled").write_bytes(bytes(1 << 20))
        runtime.stop(one)
        assert inside.names() == ["lo"]
        with pytest.raises(PluginRefused, match="No space left"):
            runtime.run(one)
        (state / "filled").unlink()
        see_that_all_is_home(node, before)


def test_no_runtime_tells_of_the_end(node: Host) -> None:
    before = snapshot()
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket) as plugin:
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        with inside.process():
            runtime.run(pod("one", {KEY: TWO}, netns=inside.path))
            inside.delete()
            looks = len(plugin.lines("looked after the records"))
            plugin.wait_for("looked after the records", count=looks + 2)
            assert "dummy0" not in node.names()  # somebody is still inside
        see_that_all_is_home(node, before)


def test_what_nri_attached_cni_leaves_alone(node: Host) -> None:
    before = snapshot()
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket):
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        one = pod("one", {KEY: TWO}, netns=inside.path)
        runtime.run(one)
        conf = {
            "cniVersion": "1.0.0",
            "name": "pods",
            "type": "cni-netdev",
            "prevResult": {"cniVersion": "1.0.0", "interfaces": [], "ips": []},
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {KEY: TWO}},
        }
        node.plugin("ADD", conf, netns=inside.path, container=one["id"]).ok()
        node.plugin("DEL", conf, netns=inside.path, container=one["id"]).ok()
        assert "192.168.2.2/24" in inside.addresses("eth33")
        runtime.stop(one)
        see_that_all_is_home(node, before)


def test_synchronize_leaves_pods_that_are_being_created_alone(node: Host) -> None:
    before = snapshot()
    inside = node.pod()
    one = pod("one", {KEY: TWO}, netns=inside.path)
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket) as plugin:
        runtime.wait_for("plugins", count=1)
        runtime.run(one)
        plugin.kill()
        runtime.set_pods([])  # it is not listed until it runs
        plugin.start()
        runtime.wait_for("synchronized")
        plugin.wait_for("synchronized", count=2)
        assert "192.168.2.2/24" in inside.addresses("eth33")
        runtime.create(one, "main")
        runtime.stop(one)
        see_that_all_is_home(node, before)


def test_two_injectors_do_not_share_a_link(node: Host) -> None:
    """Under two indexes, as when an upgrade overlaps: the second finds all done already."""
    before = snapshot()
    with (
        GoRuntime(node.directory) as runtime,
        NriPlugin(node, runtime.socket),
    ):
        runtime.wait_for("plugins", count=1)
        second = subprocess.Popen(
            [PROGRAM, "-idx", "11", "-socket", str(runtime.socket)], stderr=subprocess.DEVNULL
        )
        try:
            runtime.wait_for("plugins", count=2)
            inside = node.pod()
            one = pod("one", {KEY: TWO}, netns=inside.path)
            runtime.run(one)
            assert "192.168.2.2/24" in inside.addresses("eth33")
            runtime.stop(one)
            runtime.remove(one)
            see_that_all_is_home(node, before)
        finally:
            second.send_signal(signal.SIGTERM)
            assert second.wait(30) == 0


@pytest.mark.parametrize(("index", "first"), [("05", "the other"), ("20", "ours")])
def test_an_injector_of_another_kind_beside_ours(node: Host, index: str, first: str) -> None:
    """For the same link and pod, in the Go way: whoever is asked second refuses the pod."""
    before = snapshot()
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket):
        runtime.wait_for("plugins", count=1)
        command = [str(PEERS / "nri-go-way"), "-link", "dummy0", "-as", "eth33", "-idx", index]
        with subprocess.Popen([*command, "-socket", str(runtime.socket)]) as other:
            runtime.wait_for("plugins", count=2)
            inside = node.pod()
            one = pod("one", {KEY: ONE}, netns=inside.path)
            with pytest.raises(PluginRefused, match="not found" if first == "ours" else "no link"):
                runtime.run(one)
            assert "eth33" in inside.names(), "the first one's, until the pod is stopped"
            with suppress(PluginRefused):  # the other has nothing to give back
                runtime.stop(one)
            other.terminate()
        assert inside.names() == ["lo"]
        assert "dummy0" in node.names()
        if first == "ours":
            see_that_all_is_home(node, before)
        assert node.left_over() == []


@pytest.mark.usefixtures("host")
def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [str(PROGRAM), "-idx", "10", "-metrics", address]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    words = f"metrics: cannot listen on {address}: Address already in use"
    assert words in " ".join(done.stderr.split())


# --- wrong use -------------------------------------------------------------------------------

WRONG: dict[str, tuple[list[str], str, str]] = {
    "no index": ([], "", "must be two digits"),
    "index": (["-idx", "7"], "", "'7' must be two digits"),
    "name": (["-idx", "10", "-name", "a/b"], "", "letters, digits"),
    "metrics": (["-idx", "10", "-metrics", "9400"], "", "no address to listen on"),
    "socket": (["-idx", "10", "-socket", "/run/" + "x" * 103], "", "is no path of a socket"),
    "flag": (["-idx", "10", "-verbos"], "", "No such option"),
    "file": (["-idx", "10", "-config", "/nowhere"], "", "/nowhere"),
    "keys": (
        ["-idx", "10", "-config", "CONFIG"],
        "polic: {}\nlog: {level: loud}\nstateDir: here",
        "unknown key; did you mean policy",
    ),
    "policy": (
        ["-idx", "10", "-config", "CONFIG"],
        "policy: {rules: [{allow: {nmes: [a]}}]}",
        "rules[0].allow.nmes: unknown key",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_told_and_nothing_starts(node: Host, case: str) -> None:
    arguments, text, words = WRONG[case]
    config = node.directory / "config.yaml"
    config.write_text(text)
    before = everything()
    command = [str(PROGRAM), *(str(config) if each == "CONFIG" else each for each in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert words in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert everything() == before


def test_a_configuration_that_others_may_write_is_not_read(node: Host) -> None:
    """The policy may be in it."""
    config = node.directory / "config.yaml"
    config.write_text("policy: {default: deny}\n")
    config.chmod(0o666)
    command = [str(PROGRAM), "-idx", "10", "-config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert "must be root's and not writable by others" in done.stderr.replace("\n", " ")


def test_a_configuration_by_configure_that_is_wrong(node: Host) -> None:
    """The runtime is told what is wrong; the plugin goes on trying."""
    config_path = node.directory / "conf.d"
    plugin_path = node.directory / "plugins"
    for path in (config_path, plugin_path):
        path.mkdir()
    (plugin_path / "10-network-device-injector").symlink_to(PROGRAM)
    (config_path / "network-device-injector.conf").write_text("policy: {rulez: []}")
    with GoRuntime(node.directory, plugin_path=plugin_path, config_path=config_path) as runtime:
        assert runtime.plugins()["count"] == 0
        assert "policy.rulez: unknown key; did you mean rules?" in runtime.log.read_text()


def test_fields_of_the_log_are_escaped(node: Host) -> None:
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket) as plugin:
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        evil = 'evil\n\x1b[2J{"msg": "attached"}'
        with pytest.raises(PluginRefused):
            runtime.run(pod(evil, {KEY: f"- {{name: {json.dumps(evil)}}}"}, netns=inside.path))
        assert plugin.wait_for("not attached")["pod"] == evil
        assert "\x1b" not in Path(plugin.log_file).read_text()
        assert plugin.lines("attached") == []
