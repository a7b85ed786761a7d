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
from tests import faulty
from tests.agent import PROGRAM, SOCKET, CniAgent, ask
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


def stopped_in(host: Host, agent: CniAgent, pod: Pod, container: str) -> subprocess.Popen[str]:
    """A shim whose ADD the agent has begun, and before whose move it now stands still."""
    fifo, trace = host.directory / "fifo", host.directory / "trace"
    os.mkfifo(fifo)
    host.plugin("ADD", ONE, netns=pod.path, env={"NETDEV_TRACE": str(trace)}).ok()
    host.plugin("DEL", ONE, netns=pod.path).ok()
    events = trace.read_text().splitlines()
    (move,) = (n for n, each in enumerate(events, 1) if each.startswith("netlink move"))
    env = {"NETDEV_PAUSE_AT": f"{move}:{fifo}"}
    child = start(host, "ADD", pod, container=container, env=env)
    until(Path(f"{fifo}.held").exists, agent.log_file.read_text)
    return child


def go_on(host: Host) -> None:
    (host.directory / "fifo").read_bytes()


def test_a_shim_that_went_away_is_undone_by_the_del_that_follows(node: Host) -> None:
    pod = node.pod()
    with unharmed(node), CniAgent(node, program=faulty.netdevctl(node.directory)) as agent:
        child = stopped_in(node, agent, pod, "c1")
        child.kill()
        finish(child)
        undo = start(node, "DEL", pod)
        go_on(node)
        assert finish(undo).ok() is None
        assert pod.names() == ["lo"]
        assert agent.lines("a call goes its own way", reason="nobody waits for it any more")


def test_one_that_waits_for_its_turn_is_dropped_when_it_went_away(node: Host) -> None:
    pod, other = node.pod(), node.pod("other")
    with unharmed(node), CniAgent(node, program=faulty.netdevctl(node.directory)) as agent:
        child = stopped_in(node, agent, pod, "c1")
        gone = start(node, "ADD", other, container="c2", conf=TWO)
        last = start(node, "CHECK", other, container="c3")
        gone.kill()
        finish(gone)
        go_on(node)
        finish(child).ok()
        assert finish(last).error()[0] == 3
        assert not agent.lines("answered", sandbox="c2")
        node.plugin("DEL", ONE, netns=pod.path).ok()


def test_one_that_hangs_is_not_waited_for(node: Host) -> None:
    """Before it took a call: the shim does it.  When it goes on it does not do it again."""
    pod = node.pod()
    with unharmed(node), CniAgent(node) as agent:
        agent.send(signal.SIGSTOP)
        answers = [node.plugin(verb, ONE, netns=pod.path) for verb in ("ADD", "DEL")]
        assert [each.code for each in answers] == [0, 0]
        agent.send(signal.SIGCONT)
        node.plugin("STATUS", ONE).ok()
        assert not agent.lines("answered", command="ADD")
        assert pod.names() == ["lo"]


def test_one_that_hangs_in_a_call_keeps_its_locks_and_no_link(node: Host) -> None:
    """The runtime gives up, and its DEL is told to try again.  What nobody waits for is undone."""
    pod = node.pod()
    with unharmed(node), CniAgent(node, program=faulty.netdevctl(node.directory)) as agent:
        child = stopped_in(node, agent, pod, "c1")
        agent.send(signal.SIGSTOP)
        child.kill()
        finish(child)
        assert node.plugin("DEL", ONE, netns=pod.path).error()[0] == 11
        agent.send(signal.SIGCONT)
        go_on(node)
        agent.wait_for("a call goes its own way", reason="nobody waits for it any more")
        assert pod.names() == ["lo"]
        node.plugin("DEL", ONE, netns=pod.path).ok()


def test_a_lock_that_a_process_holds_is_waited_for_by_another_process(node: Host) -> None:
    """And not by the agent, who has others to serve."""
    pod, other = node.pod(), node.pod("other")
    fifo = node.directory / "fifo"
    os.mkfifo(fifo)
    with unharmed(node):
        before = (node.bin_dir / install.PLUGIN).read_bytes()
        faulty.install(node.bin_dir)
        env = {"NETDEV_PAUSE_AT": f"12:{fifo}"}
        holder = start(node, "ADD", pod, env=env)
        until(Path(f"{fifo}.held").exists, holder.poll)
        (node.bin_dir / install.PLUGIN).write_bytes(before)
        with CniAgent(node) as agent:
            waiting = start(node, "ADD", other, container="c2")
            agent.wait_for("a call goes its own way")
            assert node.plugin("CHECK", ONE, netns=other.path, container="c3").error()[0] == 3
            assert agent.answered() == 1
            go_on(node)
            finish(holder).ok()
            code, said = finish(waiting).error()
            assert (code, "is held by" in said) == (103, True)
            node.plugin("DEL", ONE, netns=pod.path).ok()


def test_two_agents(node: Host) -> None:
    """One is enough, and is not disturbed; when it was killed its socket is no hindrance."""
    with CniAgent(node) as first:
        second = node.netdevctl("agent")
        assert second.code == 1
        assert "an agent listens at /run/cni-netdev/agent.sock already" in second.stderr
        assert node.plugin("VERSION", CONF).ok()
        assert first.answered() == 1
        first.kill()
        assert SOCKET.exists()
        assert node.plugin("VERSION", CONF).ok()
        first.start()
        first.ready()
        assert node.plugin("VERSION", CONF).ok()
        assert first.answered() == 2
        assert first.terminate() == 0
    assert not SOCKET.exists()


def test_it_ends_when_its_socket_is_taken_away(node: Host) -> None:
    """So that systemd starts one that can be found."""
    with CniAgent(node) as agent:
        SOCKET.unlink()
        assert node.plugin("VERSION", CONF).ok()
        assert agent.wait() == 1
        assert agent.answered() == 0
        assert "was taken away" in agent.log_file.read_text()


def test_it_cannot_begin_where_others_may_write(node: Host) -> None:
    STATE_DIR.mkdir(mode=0o700)
    STATE_DIR.chmod(0o777)
    answer = node.netdevctl("agent")
    assert (answer.code, "others may write it" in answer.stderr) == (1, True)


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
    """A thousand calls of every kind; ten thousand were tried by hand, with the same result."""
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
        assert agent.memory - memory < 200
        assert agent.memory < 45 << 10
        assert agent.descriptors < descriptors + 10
        assert agent.answered() == 1000


# --- what it looks after, its end, and its successor -----------------------------------------


def test_a_pod_that_died_without_a_word_is_noticed(node: Host) -> None:
    with unharmed(node), CniAgent(node) as agent:
        pod = node.pod()
        node.plugin("ADD", ONE, netns=pod.path).ok()
        pod.delete()
        agent.wait_for("detached")


def test_told_to_stop_it_finishes_what_it_began(node: Host) -> None:
    """Those in the queue go their own way."""
    pod, other = node.pod(), node.pod("other")
    with unharmed(node), CniAgent(node, program=faulty.netdevctl(node.directory)) as agent:
        child = stopped_in(node, agent, pod, "c1")
        waiting = start(node, "CHECK", other, container="c2")
        agent.send(signal.SIGTERM)
        assert finish(waiting).error()[0] == 3
        assert child.poll() is None
        assert not SOCKET.exists()
        go_on(node)
        finish(child).ok()
        assert agent.wait() == 0
        assert agent.lines("answered")[-1]["command"] == "ADD"
        assert agent.lines("stopped by a signal")
        node.plugin("DEL", ONE, netns=pod.path).ok()


def test_another_version_says_so_and_its_successor_reads_the_records(
    node: Host, tmp_path: Path
) -> None:
    """An upgrade while a pod has a device: package and agent first, the executable last."""
    older = tmp_path / "older"
    run("cp", "-r", str(ROOT / "cni_netdev"), str(older / "cni_netdev"), *_made(older))
    with (older / "cni_netdev" / "shim.py").open("a") as file:
        file.write("# an older one\n")
    old = node.directory / "old-netdevctl"
    old.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(older)!r})\n"
        "from cni_netdev.ctl import entry\nentry()\n"
    )
    old.chmod(0o755)
    new_plugin = (node.bin_dir / install.PLUGIN).read_bytes()
    run(str(old), "install", "--bin-dir", str(node.bin_dir))
    pod = node.pod()
    with unharmed(node):
        with CniAgent(node, program=old) as agent:
            node.plugin("ADD", ONE, netns=pod.path).ok()
            assert agent.answered() == 1
        with CniAgent(node, program=PROGRAM) as agent:
            node.plugin("CHECK", ONE, netns=pod.path).ok()
            assert agent.lines()[-1]["msg"].startswith("a call goes its own way: another version")
            (node.bin_dir / install.PLUGIN).write_bytes(new_plugin)
            node.plugin("CHECK", ONE, netns=pod.path).ok()
            node.plugin("DEL", ONE, netns=pod.path).ok()
            assert agent.answered() == 2


def _made(directory: Path) -> tuple[()]:
    directory.mkdir()
    return ()


def test_records_of_the_first_format_are_read(node: Host) -> None:
    """As 0.1 wrote them before they were one line."""
    pod = node.pod()
    with unharmed(node), CniAgent(node) as agent:
        node.plugin("ADD", ONE, netns=pod.path).ok()
        (record,) = (STATE_DIR / "records").iterdir()
        record.write_text(json.dumps(json.loads(record.read_text()), indent=2, sort_keys=True))
        node.plugin("CHECK", ONE, netns=pod.path).ok()
        node.plugin("DEL", ONE, netns=pod.path).ok()
        assert agent.answered() == 3


# --- systemd ---------------------------------------------------------------------------------


def test_systemd_may_listen_for_it(node: Host) -> None:
    """The first call starts it, and no call is lost while it starts anew."""
    pod = node.pod()
    STATE_DIR.mkdir(mode=0o700)
    log = node.directory / "activate.log"
    command = ["systemd-socket-activate", "-l", str(SOCKET), str(PROGRAM), "agent", "--verbose"]
    with unharmed(node), log.open("wb") as file:
        environ = {"PATH": os.environ["PATH"]}
        with subprocess.Popen(command, stderr=file, env=environ) as activator:
            until(SOCKET.exists, log.read_text)
            node.plugin("ADD", ONE, netns=pod.path).ok()
            node.plugin("DEL", ONE, netns=pod.path).ok()
            until(lambda: log.read_text().count("msg=answered") > 0, log.read_text)
            activator.terminate()
            assert activator.wait(20) == 0
        assert SOCKET.exists(), "it is systemd's"


def test_it_tells_systemd_when_it_is_ready(node: Host) -> None:
    for address in (str(node.directory / "notify"), "@cni-netdev-test"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.settimeout(20)
            systemd.bind(address.replace("@", "\0"))
            with CniAgent(node, env={"NOTIFY_SOCKET": address}) as agent:
                assert systemd.recv(99) == b"READY=1"
                assert node.plugin("VERSION", CONF).ok()
                agent.terminate()
                assert systemd.recv(99) == b"STOPPING=1"
