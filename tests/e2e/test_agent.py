"""The resident agent with real shims: the same answers, and nothing lost whatever happens to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev import install
from tests import faulty
from tests.agent import PROGRAM, SOCKET, CniAgent
from tests.agent_node import CONF, LINKS, ONE, PREVIOUS, finish, prepare, start, unharmed
from tests.bad_inputs import TABLE
from tests.faults import CONF as TWO
from tests.host import ROOT, STATE_DIR, Answer, answer_of, run
from tests.wait import until

if TYPE_CHECKING:
    from tests.host import Host, Pod

pytestmark = pytest.mark.e2e


@pytest.fixture
def node(cni: Host) -> Host:
    return prepare(cni)


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


def stopped_in(host: Host, agent: CniAgent, pod: Pod, container: str) -> subprocess.Popen[str]:
    """A shim whose ADD the agent has begun, and before whose move it now stands still."""
    fifo, trace = host.directory / "fifo", host.directory / "trace"
    os.mkfifo(fifo)
    for _ in range(3):  # the first ones ask more, of sysctls that are not known yet
        trace.unlink(missing_ok=True)
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


def test_records_that_are_taken_away_with_the_socket_are_put_back(node: Host) -> None:
    pod = node.pod()
    with unharmed(node), CniAgent(node) as agent:
        node.plugin("ADD", ONE, netns=pod.path).ok()
        agent.wait_for("answered")
        with pod.process():
            run("umount", "-l", *(str(each) for each in STATE_DIR.glob("pins-*")))
            shutil.rmtree(STATE_DIR)
            assert agent.wait() == 1
        (record,) = (STATE_DIR / "records").iterdir()
        assert record.name == "cni@c1@eth0.json"
        node.plugin("CHECK", ONE, netns=pod.path).ok()
        node.plugin("DEL", ONE, netns=pod.path).ok()


def test_it_cannot_begin_where_others_may_write(node: Host) -> None:
    STATE_DIR.mkdir(mode=0o700)
    STATE_DIR.chmod(0o777)
    answer = node.netdevctl("agent")
    assert (answer.code, "others may write it" in answer.stderr) == (1, True)


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
