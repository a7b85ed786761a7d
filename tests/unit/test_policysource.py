from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.core.errors import RequestError
from cni_netdev.core.policy import Policy, parse_policy
from cni_netdev.policysource import PolicySource, read_policy

if TYPE_CHECKING:
    from pathlib import Path

RULES = {"default": "deny", "rules": [{"allow": {"names": ["enp*"]}}]}
POLICY = parse_policy(RULES)
ENTRY = {"type": "cni-netdev", "policy": RULES, "devices": [{"name": "nic1"}]}


def read(document: Any) -> PolicySource:
    return read_policy(json.dumps(document), "file")


def test_a_policy() -> None:
    assert read(RULES) == PolicySource(POLICY)
    yaml = "default: deny\nrules:\n- allow: {names: ['enp*']}\n"
    assert read_policy(yaml, "file") == PolicySource(POLICY)


@pytest.mark.parametrize(
    "document", [ENTRY, {"name": "net", "plugins": [{"type": "ptp"}, ENTRY]}], ids=["conf", "list"]
)
def test_a_conflist_and_its_own_devices(document: Any) -> None:
    source = read(document)
    assert (source.policy, source.front) == (POLICY, "cni")
    (device,) = source.devices
    assert (str(device.selector), device.source, device.where) == (
        "name 'nic1'",
        "config",
        "devices[0]",
    )


def test_the_nri_plugins_configuration() -> None:
    assert read({"policy": RULES, "log": {"level": "info"}}) == PolicySource(POLICY, (), "nri")
    assert read({"stateDir": "/x"}) == PolicySource(Policy(), (), "nri")
    assert read({"type": "cni-netdev"}) == PolicySource(Policy(), (), "cni")


def test_a_policy_file_is_read_and_judged(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps(RULES))
    for holder in ({"type": "cni-netdev", "policyFile": str(file)}, {"policyFile": str(file)}):
        assert read(holder).policy == parse_policy(RULES, str(file))
    file.chmod(0o666)
    with pytest.raises(RequestError, match="not writable by others"):
        read({"policyFile": str(file)})


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "policy: must be an object"),
        ({}, ""),
        ({"rulez": []}, "policy.rulez: unknown key; did you mean rules?"),
        ({"plugins": [{"type": "ptp"}]}, "plugins: there is no entry of type cni-netdev"),
        ({"plugins": 5}, "plugins: there is no entry of type cni-netdev"),
        ({"type": "ptp"}, "plugins: there is no entry of type cni-netdev"),
        ({**ENTRY, "policy": {"rules": 5}}, "policy.rules: must be a list"),
        ({**ENTRY, "devices": [{}]}, "devices[0]: exactly one of"),
        ({**ENTRY, "devices": [{"name": "a"}, {"name": "a"}]}, "asked for by devices[0] already"),
        ({"policyFile": "/no/such"}, "/no/such: cannot be read"),
        ({"policyFile": ["x"]}, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(document: Any, said: str) -> None:
    if not said:
        assert read(document) == PolicySource(Policy())
        return
    with pytest.raises(RequestError) as caught:
        read(document)
    assert said in caught.value.message


def test_what_cannot_be_decoded_names_the_file() -> None:
    with pytest.raises(RequestError, match=r"^file: is neither JSON nor YAML"):
        read_policy("[", "file")
