"""The agent and its company: whom it serves, whom a shim asks, and too much, too slow, too full."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cni_netdev import install
from tests.agent import SOCKET, CniAgent, ask
from tests.agent_node import CONF, LINKS, ONE, PREVIOUS, finish, prepare, start, unharmed
from tests.faults import CONF as TWO
from tests.host import STATE_DIR, answer_of, run

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.e2e

NOBODY = 65534


@pytest.fixture
def node(cni: Host) -> Host:
    return prepare(cni)


# --- whom it serves, and whom a shim asks ----------------------------------------------------


def as_nobody(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python script of another user's."""
    head = f"import os, socket, sys, time; os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); "
    head += f"os.setresuid(*[{NOBODY}] * 3); "
    return subprocess.Popen(
        [sys.executable, "-c", head + script, *arguments], stdout=subprocess.PIPE, text=True
    )


def test_who_is_not_root_is_not_served(node: Host) -> None:
    """Neither as things are, nor if somebody opened the way."""
    ask = "s = socket.socket(socket.AF_UNIX); print(s.connect_ex(sys.argv[1]), flush=True); "
    ask += "print(s.recv(9))"
    with CniAgent(node) as agent:
        closed, _ = as_nobody(ask, str(SOCKET)).communicate(timeout=20)
        STATE_DIR.chmod(0o755)
        SOCKET.chmod(0o666)
        opened, _ = as_nobody(ask, str(SOCKET)).communicate(timeout=20)
        STATE_DIR.chmod(0o700)
        assert closed.split()[0] == "13"
        assert opened == "0\nb''\n"
        assert agent.lines("somebody who is not root tried to connect")
        assert node.plugin("VERSION", CONF).ok()


def test_an_agent_that_is_not_roots_is_told_nothing(node: Host) -> None:
    place = Path("/run/theirs")
    place.mkdir()
    place.chmod(0o777)
    listen = "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); "
    listen += "os.chmod(sys.argv[1], 0o777); print('ready', flush=True); "
    listen += "print(s.accept()[0].recv(9), flush=True)"
    pod = node.pod()
    with unharmed(node), as_nobody(listen, f"{place}/agent.sock") as impostor:
        assert impostor.stdout is not None
        assert impostor.stdout.readline() == "ready\n"
        conf = {**ONE, "agentSocket": f"{place}/agent.sock"}
        node.plugin("ADD", conf, netns=pod.path).ok()
        assert impostor.stdout.readline() == "b''\n"
        node.plugin("DEL", ONE, netns=pod.path).ok()


def test_the_configuration_names_the_agent(node: Host) -> None:
    """By its socket, or by the state directory; one of another is not asked to do it."""
    other = Path("/run/other")
    pod = node.pod()
    socket_path = Path("/run/sockets/agent")
    with (
        unharmed(node),
        CniAgent(node, "--state-dir", str(other), "--socket", str(socket_path)) as agent,
    ):
        here = {**ONE, "stateDir": str(other), "agentSocket": str(socket_path)}
        node.plugin("ADD", here, netns=pod.path).ok()
        assert agent.answered() == 1
        node.plugin("DEL", {**ONE, "agentSocket": str(socket_path)}, netns=pod.path).ok()
        assert pod.names() == ["lo", "net1"], "a DEL in another state directory knows nothing of it"
        assert agent.lines("a call goes its own way: another state directory")
        node.plugin("DEL", {**CONF, "stateDir": str(other)}, netns=pod.path).ok()
        assert pod.names() == ["lo"]
        assert agent.answered() == 1
    with unharmed(node), CniAgent(node, "--state-dir", str(other)) as agent:
        node.plugin("ADD", {**ONE, "stateDir": str(other)}, netns=pod.path).ok()
        node.plugin("DEL", {**CONF, "stateDir": str(other)}, netns=pod.path).ok()
        assert agent.answered() == 2


@pytest.mark.parametrize("kind", ["--net", "--mount"])
def test_called_in_another_namespace_the_shim_goes_its_own_way(node: Host, kind: str) -> None:
    what = {"--net": "network", "--mount": "mount"}[kind]
    command = ["unshare", kind, str(node.bin_dir / install.PLUGIN)]
    environ = {"CNI_COMMAND": "STATUS", "CNI_PATH": "/x", "PATH": os.environ["PATH"]}
    with CniAgent(node) as agent:
        answer = answer_of(command, environ, json.dumps(ONE))
        assert answer.code == (1 if kind == "--net" else 0), "nic1 is only here"
        agent.wait_for(f"a call goes its own way: called in another {what} namespace")
        assert agent.answered() == 0


def test_a_path_that_is_another_for_the_agent(node: Host) -> None:
    """/proc/self is; so is what begins in the shim's directory."""
    pod = node.pod()
    environ = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/x",
    }
    plugin = str(node.bin_dir / install.PLUGIN)
    with unharmed(node), CniAgent(node) as agent:
        script = f"exec {plugin} 7<{pod.path}"
        by_number = {**environ, "CNI_NETNS": "/proc/self/fd/7"}
        answer_of(["sh", "-c", script], by_number, json.dumps(ONE)).ok()
        answer_of([plugin], {**environ, "CNI_NETNS": pod.path[1:]}, json.dumps(ONE)).ok()
        assert agent.answered() == 0
        node.plugin("DEL", ONE, netns=pod.path).ok()
        assert agent.answered() == 1


# --- too much, too slow, too full ------------------------------------------------------------


def test_two_hundred_at_once(node: Host) -> None:
    """Most ask for nothing; the two that do have theirs."""
    pods = [node.pod("pod0"), node.pod("pod1")]
    nothing = {**CONF, "prevResult": PREVIOUS}
    with unharmed(node), CniAgent(node) as agent:
        children = [start(node, "ADD", pods[0], container=f"x{n}", conf=nothing) for n in range(99)]
        asking = [
            start(node, "ADD", pod, container=pod.name, conf={**CONF, "devices": [{"name": link}]})
            for pod, link in zip(pods, LINKS, strict=True)
        ]
        children += [start(node, "DEL", pods[0], container=f"x{n}") for n in range(99)]
        assert [finish(each).code for each in asking] == [0, 0]
        answers = [finish(each) for each in children]
        assert {each.code for each in answers} == {0}
        assert [each.document for each in answers] == [PREVIOUS] * 99 + [None] * 99
        assert [each.names() for each in pods] == [["lo", "eth0"]] * 2
        assert agent.answered() > 100
        for pod in pods:
            node.plugin("DEL", CONF, container=pod.name).ok()


def test_silent_and_slow_clients_are_in_nobodys_way(node: Host) -> None:
    pod = node.pod()
    with unharmed(node), CniAgent(node) as agent, ExitStack() as stack:
        for number in range(100):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(SOCKET))
            if number % 2:
                client.send(b"netdev-agent 1 ")
        node.plugin("ADD", ONE, netns=pod.path).ok()
        node.plugin("DEL", ONE, netns=pod.path).ok()
        assert agent.answered() == 2
        client.settimeout(20)
        assert client.recv(9) == b"", "in the end they are dropped"


def test_standard_input_beyond_the_agents_measure(node: Host) -> None:
    """Annotations have 256 KiB at the most; more is the plugin's own to refuse or take."""
    long = {**CONF, "prevResult": {**PREVIOUS, "long": "x" * (1 << 20)}}
    with CniAgent(node) as agent:
        assert node.plugin("ADD", long, netns="/x").ok() == long["prevResult"]
        assert node.plugin("ADD", "x" * ((16 << 20) + 1), netns="/x").error()[0] == 6
        assert agent.answered() == 0


def test_a_full_disk_in_the_state_directory(node: Host) -> None:
    pod = node.pod()
    STATE_DIR.mkdir(mode=0o700)
    run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(STATE_DIR))
    with unharmed(node), CniAgent(node) as agent:
        fill = STATE_DIR / "fill"
        with pytest.raises(OSError, match="No space"):
            fill.write_bytes(b"x" * (1 << 20))
        code, said = node.plugin("ADD", ONE, netns=pod.path).error()
        assert (code, "No space left" in said) == (5, True)
        assert pod.names() == ["lo"]
        assert node.plugin("DEL", ONE, netns=pod.path).ok() is None
        fill.unlink()
        node.plugin("ADD", ONE, netns=pod.path).ok()
        node.plugin("DEL", ONE, netns=pod.path).ok()
        assert agent.answered() == 4


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-"])
def test_closed_standard_descriptors(node: Host, closed: str) -> None:
    """Then the shim asks nobody: the number could be its connection's."""
    environ = {"CNI_COMMAND": "VERSION", "PATH": os.environ["PATH"]}
    command = ["sh", "-c", f"exec {node.bin_dir / install.PLUGIN} {closed}"]
    with CniAgent(node) as agent:
        answer = answer_of(command, environ, json.dumps(CONF))
        assert answer.code == (0 if closed == "2>&-" else 1)
        assert agent.answered() == 0


def test_an_answer_that_nobody_takes_is_an_error(node: Host) -> None:
    pod = node.pod()
    with unharmed(node), CniAgent(node) as agent:
        child = start(node, "ADD", pod)
        assert child.stdout is not None
        child.stdout.close()
        child.stdout = None
        assert child.wait(20) == 1
        assert agent.answered() == 1
        assert child.stderr is not None
        assert "the answer could not be written" in child.stderr.read()
        child.stderr.close()
        node.plugin("DEL", ONE, netns=pod.path).ok()


def test_its_memory_stays_where_it_was(node: Host) -> None:
    """A thousand calls of every kind, and nine thousand of the most frequent one."""
    environ = {"CNI_IFNAME": "eth0", "CNI_NETNS": node.pod().path, "CNI_PATH": "/x"}
    nothing = {**CONF, "prevResult": PREVIOUS}
    text = {"netdevices.nri.containerd.io": "- {name: nic1, new_name: net7}"}
    annotated = {**nothing, "runtimeConfig": {"io.kubernetes.cri.pod-annotations": text}}
    round_ = [
        *(("ADD", conf, 0) for conf in (nothing, ONE, ONE)),
        *(("CHECK", conf, 0) for conf in (ONE, CONF)),
        *(("DEL", CONF, 0) for _ in range(2)),
        ("ADD", annotated, 0),
        ("ADD", TWO, 1),
        ("DEL", CONF, 0),
    ]

    def calls(count: int) -> None:
        for number in range(count):
            verb, conf, code = round_[number % len(round_)]
            container = f"c{number // len(round_)}"
            asked = {**environ, "CNI_COMMAND": verb, "CNI_CONTAINERID": container}
            assert ask(asked, conf) == code, (verb, conf)

    with unharmed(node), CniAgent(node) as agent:
        calls(400)
        memory, descriptors = agent.memory, agent.descriptors
        calls(600)
        asked = {**environ, "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c"}
        assert {ask(asked, nothing) for _ in range(9000)} == {0}
        assert agent.memory - memory < 200
        assert agent.memory < 45 << 10
        assert agent.descriptors < descriptors + 10
        assert agent.answered() == 10000
