"""The resident agent with real shims: the same answers, and nothing lost whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev import install
from cni_netdev.core.journal import DEFAULT_DIRECTORY
from tests import faulty
from tests.agent import PROGRAM, SOCKET, CniAgent
from tests.bad_inputs import TABLE
from tests.e2e.test_killed import CONF as TWO
from tests.e2e.test_killed import LINKS
from tests.host import ROOT, STATE_DIR, Answer, answer_of, run
from tests.linkstate import capture, differences
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host, Pod

pytestmark = pytest.mark.e2e

CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "cni-netdev"}
ONE = {**CONF, "devices": [{"name": "nic1", "new_name": "net1", "address": "192.168.2.2/24"}]}
PREVIOUS = {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0"}], "ips": []}
NOBODY = 65534


@pytest.fixture
def node(cni: Host) -> Host:
    """Two configured links; no agent yet."""
    for number, name in enumerate(LINKS, 1):
        cni.configured(name, number)
    return cni


@contextmanager
def unharmed(host: Host) -> Iterator[None]:
    """In the end all is as it was in the beginning, at once or when it was looked after."""
    before = {name: capture(name) for name in LINKS}

    def trouble() -> list[str]:
        if away := set(LINKS) - set(host.names()):
            return [f"{away} away"]
        found = [line for name in LINKS for line in differences(before[name], capture(name))]
        return found + host.left_over()

    yield
    until(lambda: not trouble(), trouble)


# --- the same answers ------------------------------------------------------------------------


def calls(pod: Pod) -> list[dict[str, Any]]:
    """A bit of everything, in an order that makes sense."""
    versions = [{**CONF, "cniVersion": each, "prevResult": PREVIOUS} for each in ("0.4.0", "1.0.0")]
    denied = {**ONE, "policy": {"rules": [{"deny": {"names": ["*"]}}]}, "reportAddresses": True}
    sequence: list[tuple[str, dict[str, Any]]] = [
        ("VERSION", CONF),
        *(("ADD", each) for each in (CONF, *versions)),
        ("STATUS", ONE),
        ("CHECK", ONE),
        ("ADD", {**CONF, "devices": [{"name": "nic9"}, {"nme": 1}]}),
        ("ADD", {**CONF, "devices": [{"name": "nic9"}]}),
        ("ADD", {**CONF, "runtimeConfig": {"netDevices": [{"name": "lo"}]}}),
        ("ADD", {**denied, "devices": [], "runtimeConfig": {"netDevices": ONE["devices"]}}),
        ("ADD", {**ONE, "prevResult": PREVIOUS}),
        ("ADD", {**ONE, "prevResult": PREVIOUS}),
        ("ADD", TWO),
        ("CHECK", ONE),
        ("STATUS", ONE),
        ("CHECK", {**CONF, "cniVersion": "0.3.0"}),
        ("GC", {**CONF, "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}),
        ("CHECK", ONE),
        ("DEL", {**CONF, "devices": "?"}),
        ("DEL", CONF),
        ("ADD", TWO),
        ("GC", {**CONF, "cni.dev/valid-attachments": []}),
        ("GC", {**CONF, "cni.dev/valid-attachments": 7}),
    ]
    return [{"verb": verb, "conf": conf, "netns": pod.path} for verb, conf in sequence]


def test_a_process_and_the_agent_give_the_same_bytes(node: Host) -> None:
    pod, plugin = node.pod(), str(node.bin_dir / install.PLUGIN)
    env = {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=hpc;K8S_POD_NAME=solver"}

    def all_answers() -> list[Answer]:
        answers = [node.plugin(**each, env=env) for each in calls(pod)]
        bad = (each for each in TABLE if each.code in {1, 2, 4, 6, 7})
        return answers + [answer_of([plugin], each.environ, each.stdin) for each in bad]

    by_process = all_answers()
    with CniAgent(node) as agent:
        by_agent = all_answers()
        told = agent.answered()
    assert by_agent == by_process
    assert {each.code for each in by_agent} == {0, 1}
    assert told > len(by_agent) - 10, "the agent leaves only what is too long or has no verb"


def test_the_executable_is_one_file_and_needs_no_agent(node: Host) -> None:
    (plugin,) = [each for each in node.bin_dir.iterdir() if not each.is_symlink()]
    first, rest = plugin.read_bytes().split(b"\n", 1)
    assert first.endswith(b" -IS")
    assert str(SOCKET).encode() in rest
    pod = node.pod()
    with unharmed(node):
        node.plugin("ADD", ONE, netns=pod.path).ok()
        node.plugin("DEL", ONE, netns=pod.path).ok()


def test_another_interpreter_than_it_was_compiled_for_compiles_it(node: Host) -> None:
    """As after an update of Python, until `netdevctl install` is run again."""
    plugin = node.bin_dir / install.PLUGIN
    plugin.write_text(plugin.read_text().replace("sys.hexversion ==", "sys.hexversion !="))
    with CniAgent(node) as agent:
        assert node.plugin("ADD", {**CONF, "prevResult": PREVIOUS}, netns=node.pod().path).ok()
        assert agent.answered() == 1


# --- it dies, hangs, or is not alone ---------------------------------------------------------


def changes(host: Host, agent: CniAgent, verb: str, pod: Pod) -> list[int]:
    """The numbers of the events of this call, of looks in a row the first."""
    trace = host.directory / f"trace-{verb}"
    answered = agent.answered()
    host.plugin(verb, ONE, netns=pod.path, env={"NETDEV_TRACE": str(trace)}).ok()
    assert agent.answered() == answered + 1
    looks = [
        line.startswith(("netlink look", "netlink list")) for line in trace.read_text().splitlines()
    ]
    return [
        number
        for number, (look, before) in enumerate(zip(looks, [False, *looks], strict=False), 1)
        if not (look and before)
    ]


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_killed_at_every_step_the_shim_does_it(node: Host, verb: str) -> None:
    """With others waiting for their turn, who do it themselves too."""
    pod, other = node.pod(), node.pod("other")
    with unharmed(node), CniAgent(node, program=faulty.netdevctl(node.directory)) as agent:
        expected = node.plugin("ADD", ONE, netns=pod.path).ok()
        numbers = {
            "DEL": changes(node, agent, "DEL", pod),
            "ADD": changes(node, agent, "ADD", pod),
        }[verb]
        node.plugin("DEL", ONE, netns=pod.path).ok()
        assert len(numbers) > 8
        for number in numbers:
            if verb == "DEL":
                node.plugin("ADD", ONE, netns=pod.path).ok()
            waiting = start(node, "CHECK", other, container="c2")
            answer = node.plugin(
                verb, ONE, netns=pod.path, env={"NETDEV_KILL_AT": f"{number}:after"}
            )
            assert agent.wait() == -signal.SIGKILL
            assert answer.ok() == (expected if verb == "ADD" else None), number
            assert finish(waiting).error()[0] == 3
            assert set(LINKS) - set(node.names()) == ({"nic1"} if verb == "ADD" else set())
            agent.start()
            agent.ready()
            node.plugin("DEL", ONE, netns=pod.path).ok()


def start(host: Host, verb: str, pod: Pod, **options: Any) -> subprocess.Popen[str]:
    """A shim, left running; see finish."""
    environ = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": options.get("container", "c1"),
        "CNI_NETNS": pod.path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(host.bin_dir),
        **options.get("env", {}),
    }
    child = subprocess.Popen(
        [host.bin_dir / install.PLUGIN],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(options.get("conf", ONE)))
    child.stdin.close()
    child.stdin = None
    return child


def finish(child: subprocess.Popen[str]) -> Answer:
    out, err = child.communicate(timeout=60)
    return Answer(child.returncode, out, err)
