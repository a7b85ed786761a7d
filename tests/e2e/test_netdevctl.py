"""The operator's commands, as an operator types them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.request import FIELDS
from tests.host import ROOT
from tests.linkstate import capture, differences

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.e2e

CONF: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "net",
    "type": "cni-netdev",
    "devices": [{"name": "nic1", "new_name": "net1"}],
}
POD_ARGS = {"CNI_ARGS": "K8S_POD_NAMESPACE=hpc;K8S_POD_NAME=solver"}


def test_install_makes_an_executable_that_needs_nothing(host: Host, tmp_path: Path) -> None:
    bin_dir, conf_dir = tmp_path / "opt/bin", tmp_path / "net.d"
    answer = host.netdevctl("install", "--bin-dir", str(bin_dir), "--conf-dir", str(conf_dir))
    assert answer.code == 0, answer.stderr
    plugin = bin_dir / "cni-netdev"
    assert os.access(plugin, os.X_OK)
    assert plugin.read_text().splitlines()[0].endswith(" -IS")
    written = json.loads((conf_dir / "cni-netdev.conflist.example").read_text())
    assert written["plugins"][-1]["type"] == "cni-netdev"
    example = str(conf_dir / "cni-netdev.conflist.example")
    assert host.netdevctl("validate", example).code == 0
    assert not list(conf_dir.glob("*.conflist"))
    assert host.netdevctl("install", "--bin-dir", str(bin_dir)).code == 0
    assert host.netdevctl("uninstall", "--bin-dir", str(bin_dir)).code == 0
    assert list(bin_dir.iterdir()) == []
    assert "is not there" in host.netdevctl("uninstall", "--bin-dir", str(bin_dir)).stdout


def test_install_says_what_is_wrong(host: Host) -> None:
    answer = host.netdevctl("install", "--bin-dir", "/proc/none")
    assert answer.code == 1
    assert "cannot write /proc/none/cni-netdev" in answer.stderr
    assert host.netdevctl("install").code == 2


@pytest.mark.parametrize(
    ("text", "what", "fault"),
    [
        ("- name: dummy0\n  mtu: 1500\n", "annotation", ""),
        ("- name: dummy0\n  mtu: 99999\n", "annotation", "[0].mtu: 99999 is above 65535"),
        ("[{", "annotation", "neither JSON nor YAML"),
        ('{"plugins": [{"type": "cni-netdev"}]}', "conflist", ""),
        ('{"plugins": [{"type": "ptp"}]}', "conflist", "no entry of type cni-netdev"),
        ('{"type": "cni-netdev", "devices": [{}]}', "conflist", "devices[0]: exactly one of"),
        ('{"type": "cni-netdev", "logLevel": "x"}', "conflist", "logLevel"),
        ('{"type": "cni-netdev", "policy": {"x": 1}}', "conflist", "policy.x: unknown key"),
        ("default: deny\nrules: []\n", "policy", ""),
        ("rules: [{allow: {names: ['[']}}]\n", "policy", "that nothing closes"),
    ],
)
def test_validate(host: Host, text: str, what: str, fault: str) -> None:
    answer = host.netdevctl("validate", "-", stdin=text)
    assert answer.code == (1 if fault else 0)
    assert answer.stdout.startswith(f"{what}: ")
    assert fault in answer.stderr
    machine = host.netdevctl("validate", "--json", "-", stdin=text)
    assert json.loads(machine.stdout)["valid"] == (not fault)


def test_validate_tells_every_fault_of_an_entry_at_once(host: Host) -> None:
    entry = {
        "type": "cni-netdev",
        "ipam": {"type": "bin/host-local"},
        "logLevel": "loud",
        "reportAddresses": "yes",
        "stateDir": "here",
        "logFile": "here",
        "agentSocket": 5,
        "policy": {"x": 1},
        "policyFile": "there",
        "devices": [{"name": "nic1", "mtu": 5}, {"nme": "nic2"}],
    }
    conflist = {"plugins": [{"type": "ptp"}, entry]}
    answer = host.netdevctl("validate", "-", stdin=json.dumps(conflist))
    assert answer.code == 1
    assert [line.partition(":")[0] for line in answer.stderr.splitlines()] == [
        "stateDir",
        "agentSocket",
        "logFile",
        "logLevel",
        "ipam.type",
        "reportAddresses",
        "policyFile",
        "policy and policyFile",
        "devices[0].mtu",
        "devices[1].nme",
        "devices[1]",
        "policy.x",
    ]


def test_validate_knows_every_field_that_is_read() -> None:
    source = (ROOT / "cni_netdev" / "request.py").read_text()
    reader = source.split("\ndef read_config(")[1].split("\ndef _is_plain(")[0]
    read = set(re.findall(r'(?:_path\(conf, |conf\.get\()"(\w+)"', reader))
    assert read | {"logLevel"} == {*FIELDS, "devices", "policy"}


def test_validate_a_file_with_many_manifests(host: Host) -> None:
    """As people apply them: lists, and documents one behind the other."""
    metadata = 'metadata: {annotations: {netdevices.nri.containerd.io: "- nme: x"}}'
    spec = f"{{jobTemplate: {{spec: {{template: {{{metadata}}}}}}}}}"
    items = f"[{{kind: Service, metadata: {{}}}}, {{kind: CronJob, metadata: {{}}, spec: {spec}}}]"
    documents = (
        "kind: ConfigMap\nmetadata: {}",
        f"kind: List\nitems: {items}",
        f"kind: Pod\n{metadata}",
    )
    answer = host.netdevctl("validate", "-", stdin="\n---\n".join(documents))
    assert answer.code == 1
    key = "metadata.annotations['netdevices.nri.containerd.io'][0].nme"
    where = [line.partition(": unknown")[0] for line in answer.stderr.splitlines()]
    assert f"document 2: items[1].spec.jobTemplate.spec.template.{key}" in where
    assert f"document 3: {key}" in where


@pytest.mark.parametrize("kind", ["Pod", "Deployment"])
def test_validate_a_manifest(host: Host, kind: str) -> None:
    metadata = 'metadata: {annotations: {netdevices.nri.containerd.io: "- nme: x"}}'
    text = f"kind: {kind}\n" + (
        metadata if kind == "Pod" else f"metadata: {{}}\nspec:\n  template:\n    {metadata}"
    )
    answer = host.netdevctl("validate", "-", stdin=text + "\n")
    assert answer.code == 1
    assert "pod manifest" in answer.stdout
    assert "did you mean name?" in answer.stderr


def test_policy_test_says_beforehand_what_add_then_says(cni: Host) -> None:
    for link in ("nic1", "nic2", "uplink"):
        cni.veth(link)
    cni.ip("addr add 10.250.0.1/24 dev uplink")
    cni.ip("route add default via 10.250.0.254")
    rules = {"default": "deny", "rules": [{"allow": {"names": ["nic1"], "namespaces": ["hpc"]}}]}
    conf = {**CONF, "policy": rules, "devices": None}
    file = cni.directory / "10.conf"
    file.write_text(json.dumps(conf))
    pod = cni.pod()
    for name, allowed in (("nic1", True), ("nic2", False), ("uplink", False)):
        typed = ("policy", "test", str(file), "--pod", "hpc/solver", "--device", name, "--json")
        answer = cni.netdevctl(*typed)
        (row,) = json.loads(answer.stdout)
        assert (answer.code, row["verdict"]) == ((0, "allowed") if allowed else (1, "refused"))
        asked = {**conf, "runtimeConfig": {"netDevices": [{"name": name}]}}
        done = cni.plugin("ADD", asked, netns=pod.path, container=name, env=POD_ARGS)
        if allowed:
            done.ok()
        else:
            code, said = done.error()
            assert (code, row["why"] in said) == (102, True)
    everything = cni.netdevctl("policy", "test", str(file), "--pod", "web/x")
    assert (everything.code, "allowed" in everything.stdout) == (0, False)


def test_devices_says_what_could_be_lent_and_who_holds_it(cni: Host) -> None:
    for link in ("nic1", "nic2", "uplink"):
        cni.veth(link)
    cni.ip("addr add 10.250.0.1/24 dev uplink")
    cni.ip("route add default via 10.250.0.254")
    pod = cni.pod()
    cni.plugin("ADD", CONF, netns=pod.path, env=POD_ARGS).ok()
    policy = '{"rules": [{"deny": {"names": ["nic2"], "namespaces": ["web"]}}]}'
    Path("/run/policy.json").write_text(policy)
    answer = cni.netdevctl(
        "devices", "--json", "--policy", "/run/policy.json", "--namespace", "web"
    )
    rows = {row["name"]: (row["state"], row["why"]) for row in json.loads(answer.stdout)}
    assert rows["lo"] == ("stays", "it is the loopback link, which cannot move")
    assert rows["nic1"] == ("lent", "lent to c1/eth0 (hpc/solver)")
    assert rows["nic2"] == ("stays", "policy.rules[0] (deny)")
    assert rows["nic2p"] == ("free", "policy.default (allow)")
    assert "default route" in rows["uplink"][1]
    table = cni.netdevctl("devices").stdout.splitlines()
    assert table[0].split() == ["NAME", "KIND", "DRIVER", "PCI", "MAC", "MTU", "STATE", "WHY"]
    assert len({line.find("veth") for line in table if " veth " in line}) == 1


def test_attachments_release_and_recover(cni: Host) -> None:
    cni.configured("nic1")
    before = capture("nic1")
    assert json.loads(cni.netdevctl("attachments", "--json").stdout) == []
    pod = cni.pod()
    cni.plugin("ADD", CONF, netns=pod.path, env=POD_ARGS).ok()
    (row,) = json.loads(cni.netdevctl("attachments", "--json").stdout)
    assert (row["sandbox"], row["pod"], row["state"]) == ("c1", "hpc/solver", "attached")
    assert row["devices"] == [{"host": "nic1", "pod": "net1"}]
    assert "nic1 as net1" in cni.netdevctl("attachments").stdout
    assert json.loads(cni.netdevctl("recover", "--json").stdout) == []
    assert cni.netdevctl("release", "c9").code == 1
    answer = cni.netdevctl("release", "c1", "eth0")
    assert answer.code == 0
    assert "nic1" in answer.stdout
    assert differences(before, capture("nic1")) == []
    cni.plugin("ADD", CONF, netns=pod.path).ok()
    pod.delete()
    assert "dead" in cni.netdevctl("attachments").stdout
    (row,) = json.loads(cni.netdevctl("recover", "--json").stdout)
    assert (row["home"], row["complete"]) == (["nic1"], True)
    assert differences(before, capture("nic1")) == []


def test_uninstall_refuses_while_devices_are_lent_or_drains(cni: Host) -> None:
    cni.configured("nic1")
    before = capture("nic1")
    pod = cni.pod()
    cni.plugin("ADD", CONF, netns=pod.path).ok()
    refused = cni.netdevctl("uninstall", "--bin-dir", str(cni.bin_dir))
    assert refused.code == 1
    assert "devices are lent to c1/eth0" in refused.stderr
    assert (cni.bin_dir / "cni-netdev").exists()
    assert cni.netdevctl("uninstall", "--bin-dir", str(cni.bin_dir), "--drain").code == 0
    assert not (cni.bin_dir / "cni-netdev").exists()
    assert differences(before, capture("nic1")) == []


def test_uninstall_looks_where_the_conflists_say(cni: Host) -> None:
    cni.veth("nic1")
    cni.conflist({"type": "ptp"}, {**CONF, "stateDir": "/run/elsewhere"})
    (cni.conf_dir / "98-torn.conflist").write_text("{")
    (cni.conf_dir / "99-notes.txt").write_text("{")
    cni.plugin("ADD", {**CONF, "stateDir": "/run/elsewhere"}, netns=cni.pod().path).ok()
    uninstall = ["uninstall", "--bin-dir", str(cni.bin_dir), "--conf-dir", str(cni.conf_dir)]
    refused = cni.netdevctl(*uninstall)
    assert refused.code == 1
    assert "devices are lent to c1/eth0 by /run/elsewhere" in refused.stderr
    assert "98-torn.conflist cannot be read" in refused.stderr
    assert "99" not in refused.stderr
    assert (cni.bin_dir / "cni-netdev").exists()
    done = cni.netdevctl(*uninstall, "--drain")
    assert done.code == 0
    assert "nic1" in done.stdout
    assert "looked for lent devices in /run/cni-netdev, /run/elsewhere" in done.stdout
    assert not (cni.bin_dir / "cni-netdev").exists()
    wrong = cni.netdevctl("uninstall", "--bin-dir", str(cni.bin_dir), "--conf-dir", "/nowhere")
    assert wrong.code == 2


def test_an_unreadable_record_blocks_uninstall(cni: Host) -> None:
    """It may be all that is known of a device that is still away."""
    cni.veth("nic1")
    pod = cni.pod()
    cni.plugin("ADD", CONF, netns=pod.path).ok()
    next(Path("/run/cni-netdev/records").iterdir()).write_text("torn")
    for command in (["uninstall", "--bin-dir", str(cni.bin_dir)], ["recover"], ["attachments"]):
        answer = cni.netdevctl(*command)
        assert answer.code == 1
        assert "unreadable" in answer.stderr


def test_state_dir_is_an_option_of_all(cni: Host) -> None:
    for command in (["devices"], ["attachments"], ["recover"], ["release", "x"]):
        answer = cni.netdevctl(*command, "--state-dir", "/run/elsewhere")
        assert answer.code == (1 if command[0] == "release" else 0), answer.stderr
