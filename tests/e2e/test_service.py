"""conf/*.service: plugin and agent with no more rights than their units leave them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core import bpf, netns
from tests import bpf_programs
from tests.agent import PROGRAM as NETDEVCTL
from tests.agent import CniAgent
from tests.confine import read_unit
from tests.host import ROOT, run
from tests.injector import KEY, PROGRAM, NriPlugin
from tests.nri_node import TWO, prepare, see_that_all_is_home, snapshot
from tests.nri_runtime import GoRuntime, PluginRefused, pod

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host import Host, Pod

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="knows the groups of calls"),
]

UNIT = ROOT / "conf" / "network-device-injector.service"
AGENT = ROOT / "conf" / "cni-netdev-agent.service"
CONF = {"cniVersion": "1.1.0", "name": "net", "type": "cni-netdev"}


def confined(
    directory: Path, program: str = str(PROGRAM), lacking: str = "", source: Path = UNIT
) -> Path:
    """An executable that runs the program as the unit does, or with one capability less."""
    unit = directory / f"without-{lacking}.service"
    unit.write_text(re.sub(rf"(CapabilityBoundingSet=.*){lacking}", r"\1", source.read_text()))
    script = directory / f"confined-{lacking}"
    command = f'exec {sys.executable} -m tests.confine {unit} {program} "$@"'
    script.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} {command}\n")
    script.chmod(0o755)
    return script


def plant_program(inside: Pod, name: str) -> None:
    handle = netns.open_namespace(inside.path)
    with netns.inside(handle.fd):
        bpf_programs.attach_tcx(inside.json(f"link show {name}")[0]["ifindex"], "ingress")
    handle.close()


@pytest.fixture
def node(host: Host) -> Host:
    return prepare(host)


def test_what_is_not_granted_is_refused(node: Host) -> None:
    """The confinement itself."""
    shell = confined(node.directory, "/bin/sh")
    done = subprocess.run(
        [shell, "-c", "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; unshare -u true"],
        capture_output=True,
        text=True,
        check=False,
    )
    rights = f"{1 << 12 | 1 << 19 | 1 << 21:016x}"
    assert done.stdout.split() == ["CapEff:", rights, "NoNewPrivs:", "1", "Seccomp:", "2"]
    assert done.returncode != 0
    assert "Operation not permitted" in done.stderr


def test_it_lends_and_takes_back(node: Host) -> None:
    before = snapshot()
    with (
        GoRuntime(node.directory) as runtime,
        NriPlugin(
            node, runtime.socket, "-metrics", "127.0.0.1:9400", program=confined(node.directory)
        ) as plugin,
    ):
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        one = pod("one", {KEY: TWO}, netns=inside.path)
        runtime.run(one)
        assert "192.168.2.2/24" in inside.addresses("eth33")
        inside.ip("link set eth33 alias planted promisc on")
        inside.ip("link add planted link eth33 type macvlan")
        plant_program(inside, "eth33")
        runtime.stop(one)
        assert bpf.tcx(node.json("link show dummy0")[0]["ifindex"]) == ()
        see_that_all_is_home(node, before)
        assert plugin.terminate() == 0
        assert not [line for line in plugin.lines() if line["level"] in {"warn", "error"}]


def test_what_it_lent_outlives_its_restart_and_the_pod(node: Host) -> None:
    """Its pins are in the node's own mount namespace."""
    before = snapshot()
    with (
        GoRuntime(node.directory) as runtime,
        NriPlugin(node, runtime.socket, program=confined(node.directory)) as plugin,
    ):
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        runtime.run(pod("one", {KEY: TWO}, netns=inside.path))
        plugin.kill()
        inside.delete()
        plugin.start()
        see_that_all_is_home(node, before)


@pytest.mark.parametrize("capability", ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"])
def test_it_needs_each_capability_to_lend(node: Host, capability: str) -> None:
    program = confined(node.directory, lacking=capability)
    before = snapshot()
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket, program=program):
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        with pytest.raises(PluginRefused, match="network device injector"):
            runtime.run(pod("one", {KEY: TWO}, netns=inside.path))
        see_that_all_is_home(node, before)


def test_it_needs_ptrace_to_know_that_a_pod_is_dead(node: Host) -> None:
    script = "from cni_netdev.core import processes; print(processes.occupancy(1))"
    for lacking, answer in (("", "empty"), ("CAP_SYS_PTRACE", "unknown")):
        python = confined(node.directory, sys.executable, lacking)
        assert run(str(python), "-c", script) == f"{answer}\n"


def test_the_agent_lends_and_takes_back(node: Host) -> None:
    """It is in the shim's own namespaces, is told of its pod, and looks after the dead."""
    node.install()
    before = snapshot()
    program = confined(node.directory, str(NETDEVCTL), source=AGENT)
    devices = [{"name": "dummy0", "new_name": "net0", "address": "192.168.2.2/24"}]
    with CniAgent(node, program=program) as agent:
        inside = node.pod()
        node.plugin("ADD", {**CONF, "devices": devices}, netns=inside.path).ok()
        inside.ip("link set net0 alias planted promisc on")
        inside.ip("link add planted link net0 type macvlan")
        plant_program(inside, "net0")
        node.plugin("DEL", CONF, netns=inside.path).ok()
        see_that_all_is_home(node, before)
        node.plugin("ADD", {**CONF, "devices": devices}, netns=inside.path).ok()
        inside.delete()
        see_that_all_is_home(node, before)
        assert agent.answered() == 3
        assert agent.terminate() == 0
        assert not [line for line in agent.lines() if line["level"] in {"warn", "error"}]


@pytest.mark.parametrize("unit", [UNIT, AGENT])
def test_no_key_gives_it_a_mount_namespace(unit: Path) -> None:
    """systemd makes one for any of these, whatever their value says (systemd.exec(5))."""
    makes = re.compile(
        r"(Protect(System|Home|Proc|Kernel\w+|ControlGroups|Hostname)|Private\w+|ProcSubset|"
        r"(ReadOnly|ReadWrite|Inaccessible|Exec|NoExec|Bind|BindReadOnly)Paths|Root\w+|Mount\w+|"
        r"TemporaryFileSystem|DynamicUser|ExtensionImages|LogNamespace|\w+Directory)"
    )
    assert [key for key in read_unit(unit) if makes.fullmatch(key)] == []


@pytest.mark.parametrize("names", [(UNIT,), (AGENT, AGENT.with_suffix(".socket"))])
def test_systemd_takes_the_units(node: Host, names: tuple[Path, ...]) -> None:
    """With the programs in a place where they are."""
    copies = []
    for unit in names:
        copies.append(node.directory / unit.name)
        text = unit.read_text().replace("/opt/cni-netdev/bin", str(PROGRAM.parent))
        copies[-1].write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, copies)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert (done.returncode, done.stderr) == (0, "")
