"""Each verb of CNI, as the runtimes call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.core import tuner
from tests.e2e.test_chain import ASKED, NETDEV, TUNING
from tests.host import PTP
from tests.lending import inside
from tests.linkstate import capture, differences

if TYPE_CHECKING:
    from tests.host import Answer, Host

pytestmark = pytest.mark.e2e
BOTH_WAYS = True

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "cni-netdev"}
ONE = {
    **CONF,
    "devices": [
        {
            "name": "nic1",
            "new_name": "net1",
            "address": "192.168.2.2/24",
            "mtu": 1400,
            "routes": [{"dst": "10.9.0.0/16", "gw": "192.168.2.1", "priority": 5}],
        }
    ],
}


@pytest.fixture
def ready(cni: Host) -> Host:
    cni.configured("nic1")
    return cni


@pytest.mark.parametrize("version", VERSIONS)
def test_every_spec_version_through_a_chain(ready: Host, version: str) -> None:
    before = capture("nic1")
    pod, network = ready.pod(), ready.conflist(PTP, NETDEV, version=version)
    result = ready.cnitool("add", network, pod.path, cap_args=ASKED).ok()
    assert result["cniVersion"] == version
    ours = result["interfaces"][-1]
    assert ours["name"] == "net1"
    assert ("mtu" in ours) == (version == "1.1.0")
    assert ("version" in result["ips"][0]) == (version < "1.0.0")
    if version >= "0.4.0":
        ready.cnitool("check", network, pod.path, cap_args=ASKED).ok()
    ready.cnitool("del", network, pod.path, cap_args=ASKED).ok()
    assert differences(before, capture("nic1")) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_only_plugin_of_a_list_is_called_ifname_and_reports_addresses(
    ready: Host, version: str
) -> None:
    device = {
        "name": "nic1",
        "address": "192.168.2.2/24",
        "routes": [{"dst": "default", "gw": "192.168.2.1"}],
    }
    pod, network = (
        ready.pod(),
        ready.conflist({"type": "cni-netdev", "devices": [device]}, version=version),
    )
    result = ready.cnitool("add", network, pod.path, ifname="data0").ok()
    assert [each["name"] for each in result["interfaces"]] == ["data0"]
    ip = result["ips"][0]
    assert (ip["address"], ip["interface"], ip["gateway"]) == ("192.168.2.2/24", 0, "192.168.2.1")
    assert (result["routes"][0]["dst"], result["routes"][0]["gw"]) == ("0.0.0.0/0", "192.168.2.1")
    assert pod.addresses("data0") == ["192.168.2.2/24"]
    if version >= "0.4.0":
        ready.cnitool("check", network, pod.path, ifname="data0").ok()
    ready.cnitool("del", network, pod.path, ifname="data0").ok()
    assert "nic1" in ready.names()


def test_route_fields_of_version_1_1(ready: Host) -> None:
    pod = ready.pod()
    result = ready.plugin("ADD", ONE, netns=pod.path).ok()
    assert result["routes"] == [{"dst": "10.9.0.0/16", "gw": "192.168.2.1", "priority": 5}]
    assert result["interfaces"][0]["mtu"] == 1400


def test_in_a_chain_addresses_are_reported_only_when_asked(ready: Host) -> None:
    pod = ready.pod()
    previous = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0"}],
        "ips": [{"address": "10.0.0.2/24", "interface": 0}],
        "custom": 1,
    }
    result = ready.plugin("ADD", {**ONE, "prevResult": previous}, netns=pod.path).ok()
    assert result["ips"] == previous["ips"]
    assert result["custom"] == 1
    ready.plugin("DEL", ONE, netns=pod.path).ok()
    asked = {**ONE, "prevResult": previous, "reportAddresses": True}
    result = ready.plugin("ADD", asked, netns=pod.path).ok()
    assert result["ips"][1] == {"address": "192.168.2.2/24", "interface": 1}


def test_the_second_identical_add_gives_the_same_result(ready: Host) -> None:
    pod = ready.pod()
    first = ready.plugin("ADD", ONE, netns=pod.path).ok()
    assert ready.plugin("ADD", ONE, netns=pod.path).ok() == first
    other = {**CONF, "devices": [{"name": "nic1", "new_name": "other"}]}
    code, said = ready.plugin("ADD", other, netns=pod.path).error()
    assert (code, "already holds nic1" in said) == (104, True)


def test_nothing_asked_for_passes_the_result_through(ready: Host) -> None:
    previous = {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0"}], "extra": {"a": [1]}}
    null = {"runtimeConfig": {"io.kubernetes.cri.pod-annotations": None}}
    pod = ready.pod()
    for conf in (CONF, {**CONF, **null}, {**CONF, "devices": []}):
        assert (
            ready.plugin("ADD", {**conf, "prevResult": previous}, netns=pod.path).ok() == previous
        )
        assert ready.plugin("ADD", conf, netns=pod.path).ok() == {"cniVersion": "1.1.0"}
        assert ready.plugin("DEL", conf, netns=pod.path).ok() is None
        assert ready.plugin("CHECK", conf, netns=pod.path).ok() is None


# --- DEL ---------------------------------------------------------------------------------------


def bare_del(host: Host, netns: str | None) -> Answer:
    """DEL as a runtime may call it: no capabilities, no devices, no prevResult."""
    return host.plugin("DEL", CONF, netns=netns)


def test_del_can_be_repeated_and_needs_nothing(ready: Host) -> None:
    before = capture("nic1")
    pod = ready.pod()
    ready.plugin("ADD", ONE, netns=pod.path).ok()
    for netns in (None, "", "/run/netns/none"):
        assert bare_del(ready, netns).ok() is None
        assert differences(before, capture("nic1")) == []
    assert ready.left_over() == []


def test_del_with_devices_that_have_become_invalid(ready: Host) -> None:
    pod = ready.pod()
    ready.plugin("ADD", ONE, netns=pod.path).ok()
    broken = {**CONF, "devices": "?", "policy": 7, "logLevel": "?", "ipam": {"type": "x"}}
    ready.plugin("DEL", broken, netns=pod.path).ok()
    assert "nic1" in ready.names()


@pytest.mark.parametrize("process", [False, True])
def test_del_after_the_namespace_is_gone(ready: Host, process: bool) -> None:
    """Also when a process keeps the namespace alive without its path."""
    before = capture("nic1")
    pod = ready.pod()
    ready.plugin("ADD", ONE, netns=pod.path).ok()
    if process:
        with pod.process():
            pod.delete()
            bare_del(ready, pod.path).ok()
    else:
        pod.delete()
        bare_del(ready, pod.path).ok()
    assert differences(before, capture("nic1")) == []
    assert ready.left_over() == []


def test_del_after_the_path_was_given_to_another_namespace(ready: Host) -> None:
    before = capture("nic1")
    pod = ready.pod()
    ready.plugin("ADD", ONE, netns=pod.path).ok()
    pod.delete()
    another = ready.pod(pod.name)
    another.ip("link add net1 type ifb")
    bare_del(ready, another.path).ok()
    assert another.names() == ["lo", "net1"]
    assert differences(before, capture("nic1")) == []


def test_del_of_an_unreadable_record_does_not_block_the_pod(ready: Host) -> None:
    pod = ready.pod()
    ready.plugin("ADD", ONE, netns=pod.path).ok()
    record = next(Path("/run/cni-netdev/records").iterdir())
    record.write_text(record.read_text()[:100])
    answer = bare_del(ready, pod.path)
    answer.ok()
    assert ".unreadable" in answer.stderr
    assert ready.netdevctl("attachments").code == 1


def test_del_of_a_pod_that_asked_for_nothing_needs_no_state_directory(ready: Host) -> None:
    Path("/run/cni-netdev").mkdir(exist_ok=True)
    Path("/run/cni-netdev").chmod(0o777)
    for container in ("c1", "x" * 300):
        ready.plugin("DEL", CONF, container=container).ok()
    ready.plugin("DEL", {**CONF, "stateDir": "/proc/version/x"}).ok()
    odd = {"prevResult": "x", "runtimeConfig": [], "logFile": 7, "agentSocket": 7}
    ready.plugin("DEL", {**CONF, **odd}).ok()


def test_several_attachments_of_one_sandbox_are_apart(ready: Host) -> None:
    ready.configured("nic2", 2)
    before = capture("nic1"), capture("nic2")
    pod = ready.pod()
    two = {**CONF, "devices": [{"name": "nic2", "new_name": "net2"}]}
    ready.plugin("ADD", ONE, netns=pod.path).ok()
    ready.plugin("ADD", two, netns=pod.path, ifname="eth1").ok()
    bare_del(ready, pod.path).ok()
    assert pod.names() == ["lo", "net2"]
    ready.plugin("DEL", CONF, ifname="eth1").ok()
    assert [
        differences(*pair) for pair in zip(before, (capture("nic1"), capture("nic2")), strict=True)
    ] == [[], []]


# --- CHECK, STATUS, GC, VERSION ----------------------------------------------------------------


def test_check_says_what_differs(ready: Host) -> None:
    pod = ready.pod()
    ready.plugin("ADD", ONE, netns=pod.path).ok()
    ready.plugin("CHECK", ONE, netns=pod.path).ok()
    for change, said in (
        ("addr del 192.168.2.2/24 dev net1", "lost address 192.168.2.2/24"),
        ("link set net1 mtu 1300", "MTU 1300 instead of 1400"),
        ("link set net1 address 02:00:00:00:00:77", "MAC 02:00:00:00:00:77"),
        ("link set net1 down", "net1 is down"),
        ("link set net1 name net7", "net1 is called net7"),
    ):
        pod.ip(change)
        code, message = ready.plugin("CHECK", ONE, netns=pod.path).error()
        assert code == 106
        assert said in message
    assert "lost route 10.9.0.0/16" in message
    assert ready.plugin("CHECK", CONF, netns=pod.path).error()[0] == 106  # the record decides
    other = ready.pod("other")
    assert "not the namespace" in ready.plugin("CHECK", ONE, netns=other.path).error()[1]
    assert ready.plugin("CHECK", ONE, netns=pod.path, container="c9").error()[0] == 3


def test_check_tolerates_what_a_later_plugin_reports(ready: Host) -> None:
    later = {**TUNING, "mac": "02:cc:00:00:00:01"}
    device = {"name": "nic1", "address": "192.168.2.2/24"}
    network = ready.conflist({"type": "cni-netdev", "devices": [device]}, later)
    pod = ready.pod()
    ready.cnitool("add", network, pod.path).ok()
    ready.cnitool("check", network, pod.path).ok()
    ready.cnitool("del", network, pod.path).ok()
    assert "nic1" in ready.names()


def test_status(ready: Host) -> None:
    pod = ready.pod()
    ready.plugin("STATUS", ONE).ok()
    ready.plugin("ADD", ONE, netns=pod.path).ok()
    ready.plugin("STATUS", ONE).ok()  # a lent device is no fault of the node
    missing = {**CONF, "devices": [{"name": "nic9"}]}
    code, said = ready.plugin("STATUS", missing).error()
    assert (code, "nic9" in said) == (50, True)
    Path("/run/readonly").write_text("")
    code, said = ready.plugin("STATUS", {**CONF, "stateDir": "/run/readonly/x"}).error()
    assert (code, "/run/readonly/x" in said) == (50, True)
    assert ready.plugin("STATUS", {**ONE, "cniVersion": "1.0.0"}).error()[0] == 1


def valid(*attachments: tuple[str, str]) -> list[dict[str, str]]:
    return [{"containerID": container, "ifname": ifname} for container, ifname in attachments]


@pytest.mark.parametrize("key", ["cni.dev/valid-attachments", "cni.dev/attachments"])
def test_gc_reaps_this_networks_invalid_attachments(ready: Host, key: str) -> None:
    before = capture("nic1")
    ready.veth("nic2")
    pod = ready.pod()
    ready.plugin("ADD", ONE, netns=pod.path).ok()
    foreign = {**CONF, "name": "another", "devices": [{"name": "nic2"}]}
    ready.plugin("ADD", foreign, netns=pod.path, ifname="eth1").ok()
    for conf in ({}, {key: None}, {key: valid(("c1", "eth0"))}):
        ready.plugin("GC", {**CONF, **conf}, container="", ifname="").ok()
        assert "net1" in pod.names()
    assert ready.plugin("GC", {**CONF, key: [{"containerID": 1}]}).error()[0] == 7
    assert "net1" in pod.names()
    ready.plugin("GC", {**CONF, key: []}, container="", ifname="").ok()
    assert differences(before, capture("nic1")) == []
    assert "eth1" in pod.names()


def test_gc_through_cnitool_and_of_a_dead_pod(ready: Host) -> None:
    before = capture("nic1")
    network = ready.conflist({**NETDEV, "devices": ONE["devices"]}, version="1.1.0")
    pod = ready.pod()
    ready.cnitool("add", network, pod.path).ok()
    ready.cnitool("status", network, pod.path).ok()
    pod.delete()
    ready.plugin("GC", CONF, container="", ifname="").ok()
    assert differences(before, capture("nic1")) == []


def test_version(ready: Host) -> None:
    answer = ready.plugin("VERSION", '{"cniVersion": "0.4.0"}').ok()
    assert answer == {"cniVersion": "0.4.0", "supportedVersions": list(VERSIONS)}
    assert json.loads(ready.plugin("VERSION", CONF).stdout)["cniVersion"] == "1.1.0"


def test_what_ethtool_sets_by_an_annotation(ready: Host) -> None:
    before = capture("nic1")
    pod = ready.pod()
    asked = "[{name: nic1, new_name: net1, ethtool: {features: {tso: off, gro: on}}}]"
    annotations = {"netdevices.nri.containerd.io": asked}
    conf = {**CONF, "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations}}
    result = ready.plugin("ADD", conf, netns=pod.path).ok()
    check = {**conf, "prevResult": result}
    ready.plugin("CHECK", check, netns=pod.path).ok()
    with inside(pod):
        tuner.tune("net1", (("features.tso", "on"),))
    code, told = ready.plugin("CHECK", check, netns=pod.path).error()
    assert code == 106
    assert "net1: ethtool's features.tso is on instead of off" in told
    ready.plugin("DEL", conf, netns=pod.path).ok()
    assert differences(before, capture("nic1")) == []


@pytest.mark.parametrize(
    ("asked", "privilege"), [("vf: {trust: on}", "vf"), ("ebpf: detach", "ebpf")]
)
def test_an_annotation_has_no_privilege_by_itself(ready: Host, asked: str, privilege: str) -> None:
    annotations = {"netdevices.nri.containerd.io": f"[{{name: nic1, {asked}}}]"}
    conf = {**CONF, "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations}}
    code, told = ready.plugin("ADD", conf, netns=ready.pod().path).error()
    assert code == 102
    assert f"policy.default (allow) does not grant {privilege}" in told


def test_annotation_order_of_keys(ready: Host) -> None:
    ready.veth("nic2")
    pod = ready.pod()
    annotations = {
        "netdevices.noderesource.dev": "- name: nic1",
        "netdevices.nri.containerd.io/pod": "- name: nic2",
        "unrelated": "x",
    }
    conf = {
        **CONF,
        "prevResult": {"cniVersion": "1.1.0"},
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations},
    }
    ready.plugin("ADD", conf, netns=pod.path).ok()
    assert pod.names() == ["lo", "nic2"]


def test_the_pods_namespace_counts_in_rules(ready: Host) -> None:
    rules = {"default": "deny", "rules": [{"allow": {"names": ["nic*"], "namespaces": ["hpc-*"]}}]}
    conf = {**CONF, "policy": rules, "runtimeConfig": {"netDevices": [{"name": "nic1"}]}}
    pod = ready.pod()
    for namespace, code in (("web", 1), ("", 1), ("hpc-1", 0)):
        env = {"CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=p"}
        answer = ready.plugin("ADD", conf, netns=pod.path, env=env if namespace else {})
        assert answer.code == code, answer.stdout


def test_policy_file_must_be_roots_alone(ready: Host) -> None:
    policy = Path("/run/etc/policy.yaml")
    policy.parent.mkdir(0o755)
    policy.write_text("default: deny\nrules:\n- allow: {names: [nic1]}\n")
    pod = ready.pod()
    conf = {**CONF, "policyFile": str(policy), "runtimeConfig": {"netDevices": [{"name": "nic1"}]}}
    policy.chmod(0o666)
    code, said = ready.plugin("ADD", conf, netns=pod.path).error()
    assert (code, "not writable by others" in said) == (7, True)
    policy.chmod(0o644)
    policy.parent.chmod(0o1777)
    code, said = ready.plugin("ADD", conf, netns=pod.path).error()
    assert (code, "its directory /run/etc must be root's" in said) == (7, True)
    policy.parent.chmod(0o755)
    ready.plugin("ADD", conf, netns=pod.path).ok()


def test_log_file_has_a_line_for_each_attach_and_detach(ready: Host, tmp_path: Path) -> None:
    log = tmp_path / "log"
    pod = ready.pod()
    conf = {**ONE, "logFile": str(log)}
    ready.plugin("ADD", conf, netns=pod.path).ok()
    ready.plugin("DEL", conf, netns=pod.path).ok()
    lines = log.read_text().splitlines()
    assert "ADD net c1/eth0: attached nic1 as net1" in lines[0]
    assert "DEL net c1/eth0: home again nic1" in lines[1]
    unwritable = {**ONE, "logFile": "/proc/none/log"}
    assert "cannot write log file" in ready.plugin("ADD", unwritable, netns=pod.path).stderr
