"""conf/daemonset.yaml on the real containerd: its container, with its permissions and mounts.

The image is not the one of conf/Dockerfile but busybox with this machine's Python mounted into it;
the program, its arguments and all that Kubernetes would set are the DaemonSet's.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests import image
from tests.containerd import Containerd, RuntimeRefused
from tests.host import ROOT, run
from tests.injector import KEY, PROGRAM
from tests.linkstate import capture, differences
from tests.nri_node import prepare, see_that_all_is_home, snapshot
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host

pytestmark = pytest.mark.e2e

CONF = ROOT / "conf"
CONFIG_MAP, DAEMON_SET = yaml.safe_load_all((CONF / "daemonset.yaml").read_text())
TEMPLATE = DAEMON_SET["spec"]["template"]
CONTAINER = TEMPLATE["spec"]["containers"][0]
WANTED = "[{name: nic1, new_name: fast0, address: 192.168.2.2, prefix: 24, mtu: 1400}]"
# Of all namespaces, as the test's pods are in "default"; the DaemonSet's own policy is an example.
POLICY = "{default: deny, rules: [{allow: {names: [nic1, dummy0]}}]}"


def pythons() -> list[str]:
    """The directories that this machine's Python is in."""
    places = ["/usr", "/lib", "/lib64", sys.base_prefix, str(ROOT)]
    return [
        each
        for each in places
        if Path(each).exists() and (each == "/usr" or not each.startswith("/usr/"))
    ]


class Injector:
    """The DaemonSet's pod on a node, whose container may come and go."""

    def __init__(self, node: Host, containerd: Containerd) -> None:
        self._node = node
        self._containerd = containerd
        self._attempt = 0
        self._logs = node.directory / "logs"
        spec = TEMPLATE["spec"]
        self._pod = {
            **containerd.pod_config(
                "injector",
                TEMPLATE["metadata"]["annotations"],
                namespace=DAEMON_SET["metadata"]["namespace"],
                host_network=spec["hostNetwork"],
            ),
            "hostPID": spec["hostPID"],
            "logDirectory": str(self._logs),
        }
        self._id = containerd.ask("run-pod", **self._pod)["id"]
        self.container = ""
        self.start()

    def _volumes(self) -> dict[str, str]:
        """Where each volume is on the node, made as the kubelet does."""
        config = self._node.directory / "config-map"
        config.mkdir(exist_ok=True)
        for name, text in {**CONFIG_MAP["data"], "policy.yaml": POLICY}.items():
            (config / name).write_text(text)
        places = {}
        for volume in TEMPLATE["spec"]["volumes"]:
            place = volume["hostPath"]["path"] if "hostPath" in volume else str(config)
            Path(place).mkdir(parents=True, exist_ok=True)
            places[volume["name"]] = place
        return places

    def start(self) -> None:
        places = self._volumes()
        mounts = [
            {"hostPath": places[each["name"]], **{k: v for k, v in each.items() if k != "name"}}
            for each in CONTAINER["volumeMounts"]
        ]
        mounts += [{"hostPath": each, "mountPath": each, "readOnly": True} for each in pythons()]
        made = self._containerd.ask(
            "create",
            pod=self._id,
            config=self._pod,
            name=CONTAINER["name"],
            attempt=self._attempt,
            image=image.NAME,
            command=[str(PROGRAM), *CONTAINER["args"]],
            env=["PYTHONDONTWRITEBYTECODE=1"],
            mounts=mounts,
            security=CONTAINER["securityContext"],
            logPath=f"{self._attempt}.log",
        )
        self.container = made["id"]
        self._containerd.ask("start", id=self.container)
        until(lambda: probe("readinessProbe") == 200, lambda: self.log)
        assert probe("livenessProbe") == 200

    def stop(self) -> None:
        self._containerd.ask("stop-container", id=self.container)
        self._containerd.ask("remove-container", id=self.container)
        self._attempt += 1

    @property
    def log(self) -> str:
        return "".join(each.read_text() for each in sorted(self._logs.glob("*.log")))

    def said(self, message: str) -> list[dict[str, Any]]:
        lines = [json.loads(line.split(" ", 3)[3]) for line in self.log.splitlines()]
        return [each for each in lines if message in each["msg"]]


def get(host: str, port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


def probe(name: str) -> int:
    return get(**CONTAINER[name]["httpGet"])[0]


@pytest.fixture
def node(cni: Host) -> Host:
    """Its /run is shared, as systemd has it and as HostToContainer needs it."""
    run("mount", "--make-rshared", "/run")
    return prepare(cni)


@pytest.fixture
def containerd(node: Host) -> Iterator[Containerd]:
    with Containerd(node) as running:
        yield running


@pytest.fixture
def injector(node: Host, containerd: Containerd) -> Injector:
    return Injector(node, containerd)


def vanish(containerd: Containerd, pod: str) -> None:
    """The pod's processes and its namespace's path go, and no plugin is told."""
    netns = containerd.netns(pod)
    pid = containerd.ask("inspect-pod", id=pod)["info"]["info"]["pid"]
    run("kill", "-KILL", str(pid))
    run("umount", "--lazy", netns)
    Path(netns).unlink()


def test_the_container_is_as_unprivileged_as_it_says(
    containerd: Containerd, injector: Injector
) -> None:
    shell = f"grep CapEff /proc/{plugin_pid()}/status; touch /x /proc/sys/net/core/somaxconn"
    seen = containerd.execute(injector.container, "/bin/sh", "-c", shell)
    assert seen.stdout.split() == ["CapEff:", f"{1 << 12 | 1 << 19 | 1 << 21:016x}"]
    assert seen.stderr.count("Read-only file system") == 2


def plugin_pid() -> int:
    (pid,) = (
        int(each.parent.name)
        for each in Path("/proc").glob("[0-9]*/cmdline")
        if each.read_bytes().startswith(f"{sys.executable}\0{PROGRAM}\0".encode())
        and CONTAINER["args"][-1].encode() in each.read_bytes()
    )
    return pid


def test_a_pod_gets_its_device_and_the_host_gets_it_back(
    node: Host, containerd: Containerd, injector: Injector
) -> None:
    before = snapshot()
    pod = containerd.run_pod("one", {KEY: WANTED})
    container = containerd.create(pod, "main")
    seen = containerd.exec(container, "ip", "addr", "show", "fast0")
    assert "inet 192.168.2.2/24" in seen
    assert "mtu 1400" in seen
    assert "nic1" not in node.names()
    containerd.stop_pod(pod)
    assert differences(before["nic1"], capture("nic1")) == []
    see_that_all_is_home(node, before)
    assert injector.said("detached")[0]["devices"] == ["nic1"]


def test_the_policy_of_the_config_map_counts(containerd: Containerd, injector: Injector) -> None:
    with pytest.raises(RuntimeRefused, match=r"nic1p stays on the host: .*policy\.yaml"):
        containerd.run_pod("one", {KEY: "[{name: nic1p}]"})
    assert injector.said("not attached")


def test_the_container_restarts_and_keeps_what_it_lent(
    node: Host, containerd: Containerd, injector: Injector
) -> None:
    """The new one pins anew: the link outlives a pod of which nobody tells."""
    before = snapshot()
    pod = containerd.run_pod("one", {KEY: WANTED})
    injector.stop()
    injector.start()
    assert "nic1" not in node.names()
    vanish(containerd, pod)
    see_that_all_is_home(node, before)


def test_a_pod_stops_after_a_restart(
    node: Host, containerd: Containerd, injector: Injector
) -> None:
    before = snapshot()
    pod = containerd.run_pod("one", {KEY: WANTED})
    injector.stop()
    injector.start()
    netdevctl = str(PROGRAM.parent / "netdevctl")
    (listed,) = json.loads(containerd.exec(injector.container, netdevctl, "attachments", "--json"))
    assert (listed["sandbox"], listed["state"]) == (pod, "attached")
    containerd.stop_pod(pod)
    see_that_all_is_home(node, before)


def test_a_pod_ends_while_the_container_is_away(
    node: Host, containerd: Containerd, injector: Injector
) -> None:
    """Its pin died with the container, and a virtual link with the pod: told once, forgotten."""
    before = {"dummy0": snapshot()["dummy0"]}
    pod = containerd.run_pod("one", {KEY: WANTED})
    injector.stop()
    containerd.stop_pod(pod)
    injector.start()
    until(lambda: injector.said("nic1 is lost"), lambda: injector.log)
    see_that_all_is_home(node, before)
    assert "nic1" not in node.names()
    assert "netdev_devices_lent 0.0" in get("127.0.0.1", 9400, "/metrics")[1]
    assert len(injector.said("nic1 is lost")) == 1
    containerd.run_pod("two", {KEY: "[{name: dummy0}]"})
    assert "dummy0" not in node.names()


def test_a_pod_lives_on_while_the_container_is_away(
    node: Host, containerd: Containerd, injector: Injector
) -> None:
    before = snapshot()
    pod = containerd.run_pod("one", {KEY: WANTED})
    container = containerd.create(pod, "main")
    injector.stop()
    assert "inet 192.168.2.2/24" in containerd.exec(container, "ip", "addr", "show", "fast0")
    injector.start()
    containerd.stop_pod(pod)
    see_that_all_is_home(node, before)


# --- conf/containerd-nri.toml ----------------------------------------------------------------

REQUIRED = "required-plugins.noderesource.dev"
TOLERATE = "tolerate-missing-plugins.noderesource.dev"


def with_fragment(containerd: Containerd, fragment: str) -> Containerd:
    """containerd, not started yet, with this file imported."""
    path = containerd.host.directory / "nri.toml"
    path.write_text(fragment)
    text = containerd._config.read_text()
    containerd._config.write_text(f'imports = ["{path}"]\n{text}')
    return containerd


def test_a_pod_may_require_the_plugin(node: Host) -> None:
    fragment = (CONF / "containerd-nri.toml").read_text()
    with with_fragment(Containerd(node), fragment) as containerd:
        containerd.create(containerd.run_pod("plain"), "main")
        pod = containerd.run_pod("strict", {REQUIRED: "[network-device-injector]", KEY: WANTED})
        with pytest.raises(RuntimeRefused, match="network-device-injector"):
            containerd.create(pod, "main")
        Injector(node, containerd)
        again = containerd.run_pod("again", {REQUIRED: "[network-device-injector]", KEY: WANTED})
        containerd.create(again, "main")


def test_all_pods_may_require_it_and_its_own_container_starts(node: Host) -> None:
    fragment = (CONF / "containerd-nri.toml").read_text()
    assert "#required_plugins" in fragment
    required = fragment.replace("#required_plugins", "required_plugins")
    with with_fragment(Containerd(node), required) as containerd:
        with pytest.raises(RuntimeRefused, match="network-device-injector"):
            containerd.create(containerd.run_pod("plain"), "main")
        containerd.create(containerd.run_pod("system", {TOLERATE: "true"}), "main")
        Injector(node, containerd)
        containerd.create(containerd.run_pod("another"), "main")
