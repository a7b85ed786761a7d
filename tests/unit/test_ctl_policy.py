"""`netdevctl devices` and `policy test` as typed, on a made-up host."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from cni_netdev import ctl_policy
from cni_netdev.core.annotations import KEYS
from cni_netdev.core.model import Route
from cni_netdev.ctl import cli
from tests.workbench import OWNER, Bench, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RULES = {
    "default": "deny",
    "rules": [
        {"allow": {"names": ["eth1"], "namespaces": ["hpc"]}},
        {"allow": {"names": ["eth2"], "labels": {"app": "solver"}}},
    ],
}


@pytest.fixture
def run(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """netdevctl with these arguments; {policy} is a file with the policy given (or RULES)."""
    system = SimpleNamespace(kernel=bench.kernel, journal=bench.journal)
    monkeypatch.setattr(ctl_policy, "System", lambda _: system)

    def call(*arguments: str, policy: Any = RULES) -> Result:
        file = tmp_path / "policy"
        file.write_text(policy if isinstance(policy, str) else json.dumps(policy))
        typed = [each.replace("{policy}", str(file)) for each in arguments]
        return CliRunner().invoke(cli, typed)

    return call


def tried(result: Result) -> dict[str, tuple[str, str, str]]:
    """By link, or by what was asked for where there is none: source, verdict, why."""
    rows = json.loads(result.stdout)
    return {
        each["link"] or each["asks"]: (each["source"], each["verdict"], each["why"])
        for each in rows
    }


TEST = ("policy", "test", "{policy}", "--json", "--pod")


def manifest(tmp_path: Path, *devices: dict[str, Any], **metadata: Any) -> str:
    metadata = {"name": "solver", **metadata, "annotations": {KEYS[0]: json.dumps(devices)}}
    file = tmp_path / "pod.yaml"
    file.write_text(json.dumps({"kind": "Pod", "metadata": metadata}))
    return str(file)


def test_every_link_of_the_host_fails_nobody(run: Callable[..., Result]) -> None:
    result = run(*TEST, "hpc/solver")
    assert tried(result) == {
        "eth1": ("annotation", "allowed", "policy.rules[0] (allow)"),
        "eth2": ("annotation", "refused", "policy.default (deny)"),
    }
    assert result.exit_code == 0
    assert tried(run(*TEST, "web/solver"))["eth1"][1] == "refused"


def test_named_devices_decide_the_exit_code(run: Callable[..., Result]) -> None:
    assert run(*TEST, "hpc/solver", "--device", "eth1").exit_code == 0
    result = run(*TEST, "hpc/solver", "--device", "eth1", "--device", "eth2", "--device", "none")
    assert result.exit_code == 1
    assert [verdict for _, verdict, _ in tried(result).values()] == ["allowed", "refused", "absent"]


def test_the_table(run: Callable[..., Result]) -> None:
    result = run("policy", "test", "{policy}", "--pod", "hpc/solver", "--device", "eth1")
    assert result.stdout.splitlines() == [
        "POD         SOURCE      ASKS         LINK  VERDICT  WHY",
        "hpc/solver  annotation  name 'eth1'  eth1  allowed  policy.rules[0] (allow)",
    ]


def test_labels_are_the_nri_plugins(run: Callable[..., Result]) -> None:
    typed = (*TEST, "web/solver", "--label", "app=solver", "--device", "eth2")
    result = run(*typed)
    assert (result.exit_code, tried(result)["eth2"][2]) == (0, "policy.rules[1] (allow)")
    assert "CNI knows no labels" in result.stderr
    nri = run(*typed, policy={"policy": RULES})
    assert (nri.exit_code, nri.stderr) == (0, "")
    cni = run(*typed, policy={"type": "cni-netdev", "policy": RULES})
    assert (cni.exit_code, tried(cni)["eth2"][2]) == (1, "policy.default (deny)")
    assert "CNI knows no labels" in cni.stderr


def test_a_manifest(run: Callable[..., Result], tmp_path: Path) -> None:
    wishes = ({"name": "eth1"}, {"name": "eth2-alt"})
    file = manifest(tmp_path, *wishes, namespace="hpc", labels={"app": "solver"})
    result = run(*TEST, file)
    assert (result.exit_code, set(tried(result))) == (0, {"eth1", "eth2"})
    where = json.loads(result.stdout)[1]["where"]
    assert where == f"metadata.annotations['{KEYS[0]}'][1]"
    other = manifest(tmp_path, *wishes, namespace="hpc", labels={"app": "other"})
    assert run(*TEST, other).exit_code == 1
    assert run(*TEST, other, "--label", "app=solver").exit_code == 0


def test_a_manifest_without_a_namespace(run: Callable[..., Result], tmp_path: Path) -> None:
    file = manifest(tmp_path, {"name": "eth1"})
    result = run(*TEST, file)
    assert (result.exit_code, tried(result)["eth1"][1]) == (1, "refused")
    assert "names no namespace; see --namespace" in result.stderr
    assert run(*TEST, file, "--namespace", "hpc").exit_code == 0


def test_several_pods(run: Callable[..., Result], tmp_path: Path) -> None:
    text = (
        f"kind: Pod\nmetadata: {{name: NAME, namespace: hpc, annotations: {{{KEYS[0]}: '[]'}}}}\n"
    )
    file = tmp_path / "pods.yml"
    file.write_text("---\n".join(text.replace("NAME", name) for name in ("a", "b")))
    rows = json.loads(run(*TEST, str(file), "--device", "eth1").stdout)
    assert [each["pod"] for each in rows] == ["hpc/a", "hpc/b"]


def test_a_conflists_own_devices(run: Callable[..., Result], bench: Bench) -> None:
    conf = {"type": "cni-netdev", "policy": RULES, "devices": [{"name": "eth2"}]}
    result = run(*TEST, "web/solver", policy=conf)
    own = "asked for by the node's own configuration"
    assert (result.exit_code, tried(result)) == (0, {"eth2": ("config", "allowed", own)})
    bench.second.routes.append(Route(2, "0.0.0.0/0", gateway="10.0.2.254"))
    assert run(*TEST, "web/solver", policy=conf).exit_code == 1


def test_what_is_lent(run: Callable[..., Result], bench: Bench) -> None:
    bench.attach(request("eth1"), owner=OWNER._replace(pod="hpc/solver"))
    result = run(*TEST, "hpc/solver", "--device", "eth1")
    assert result.exit_code == 0
    assert tried(result)["eth1"][2] == "policy.rules[0] (allow); lent to c1/eth0 (hpc/solver) now"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing option '--pod'"),
        (("--pod", "solver"), "'solver' is neither NAMESPACE/NAME nor a manifest"),
        (("--pod", "a/b/c"), "is neither"),
        (("--pod", "/b"), "is neither"),
        (("--pod", "a/"), "is neither"),
        (("--pod", "a/b", "--namespace", "c"), "--namespace belongs to a manifest"),
        (("--pod", "none.yaml"), "'none.yaml': No such file or directory"),
        (("--pod", "a/b", "--label", "x"), "'x' is no KEY=VALUE"),
        (("--pod", "a/b", "--label", "=x"), "is no KEY=VALUE"),
    ],
)
def test_wrong_usage(run: Callable[..., Result], arguments: tuple[str, ...], said: str) -> None:
    result = run("policy", "test", "{policy}", *arguments)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert run("policy", "test", "/none", "--pod", "a/b").exit_code == 2


def test_no_pod_in_a_manifest(run: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for data, code in ((b"[", 2), (b"default: deny", 2), (b"\xff", 1)):
        file.write_bytes(data)
        assert run("policy", "test", "{policy}", "--pod", str(file)).exit_code == code


# --- devices ---------------------------------------------------------------------------------


def test_devices(run: Callable[..., Result], bench: Bench) -> None:
    bench.attach(request("eth2"), owner=OWNER._replace(pod="hpc/other"))
    rows = json.loads(run("devices", "--json", "--policy", "{policy}", "--namespace", "hpc").stdout)
    assert [(each["name"], each["state"], each["why"]) for each in rows] == [
        ("eth1", "free", "policy.rules[0] (allow)"),
        ("eth2", "lent", "lent to c1/eth0 (hpc/other)"),
    ]
    (row,) = [
        each for each in json.loads(run("devices", "--json").stdout) if each["name"] == "eth1"
    ]
    assert (row["state"], row["why"]) == ("free", "policy.default (allow)")
    assert "stays" in run("devices", "--policy", "{policy}").stdout
