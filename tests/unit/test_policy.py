from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core.errors import RequestError
from cni_netdev.core.model import Identity, Link, LinkSettings, Qdisc, Route, Snapshot
from cni_netdev.core.policy import Pod, Policy, admit, parse_policy

NIC = Link(
    Identity(3, 9, "02:00:00:00:00:01", "0000:3b:02.1"),
    LinkSettings("enp1s0", 1500, None, "", 0, 0, 0),
    altnames=("fast0",),
    driver="mlx5_core",
)
HPC = Pod("p", "hpc-1", (("team", "blue"),))
UNKNOWN = Pod()
DEFAULT_ROUTE = (Route(2, "0.0.0.0/0", gateway="10.0.0.1"),)


def rules(*listed: dict[str, Any], default: str = "allow") -> Policy:
    return parse_policy({"default": default, "rules": list(listed)})


@pytest.mark.parametrize(
    ("match", "pod", "matches"),
    [
        ({}, UNKNOWN, True),
        ({"names": ["enp*"]}, UNKNOWN, True),
        ({"names": ["fast?"]}, UNKNOWN, True),
        ({"names": ["ens*"]}, UNKNOWN, False),
        ({"names": ["ens*", "enp[1-3]*"]}, UNKNOWN, True),
        ({"drivers": ["mlx5_*"], "kinds": ["physical"], "pci": ["0000:3b:*"]}, UNKNOWN, True),
        ({"names": ["enp*"], "drivers": ["ixgbe"]}, UNKNOWN, False),
        ({"kinds": ["vlan"]}, UNKNOWN, False),
        ({"namespaces": ["hpc-*"]}, HPC, True),
        ({"namespaces": ["web"]}, HPC, False),
        ({"labels": {"team": "b*"}}, HPC, True),
        ({"labels": {"team": "b*", "zone": "*"}}, HPC, False),
    ],
)
def test_all_keys_of_a_rule_must_match(match: dict[str, Any], pod: Pod, matches: bool) -> None:
    verdict = admit(Snapshot(NIC), "annotation", pod, rules({"deny": match}))
    assert verdict.allowed != matches
    assert verdict.reason == ("policy.rules[0] (deny)" if matches else "policy.default (allow)")


@pytest.mark.parametrize("match", [{"namespaces": ["*"]}, {"labels": {"team": "*"}}])
def test_what_is_not_known_of_a_pod_fails_closed(match: dict[str, Any]) -> None:
    allowing = rules({"allow": match}, default="deny")
    assert not admit(Snapshot(NIC), "annotation", UNKNOWN, allowing).allowed
    assert not admit(Snapshot(NIC), "annotation", UNKNOWN, rules({"deny": match})).allowed


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(("enp1s0", "fast*", "other")))), st.booleans()
)
def test_the_first_match_decides(listed: list[tuple[bool, str]], default: bool) -> None:
    policy = rules(
        *({"allow" if allow else "deny": {"names": [name]}} for allow, name in listed),
        default="allow" if default else "deny",
    )
    matching = [allow for allow, name in listed if name != "other"]
    verdict = admit(Snapshot(NIC), "capability", UNKNOWN, policy)
    assert verdict.allowed == (matching[0] if matching else default)


def test_rules_do_not_bind_the_nodes_own_configuration() -> None:
    assert admit(Snapshot(NIC), "config", UNKNOWN, rules(default="deny")).allowed


GUARDED = [
    (Snapshot(NIC, routes=DEFAULT_ROUTE), "default route"),
    (Snapshot(NIC, routes=(Route(10, "::/0", protocol=9),)), "default route"),
    (Snapshot(NIC._replace(master=4)), "port of a bridge"),
    (Snapshot(NIC._replace(uppers=("vlan7",))), "stacked on it: vlan7"),
    (Snapshot(NIC, qdiscs=(Qdisc("clsact", 1, 2, ""),)), "tc filters of the host"),
    (Snapshot(NIC._replace(kind="veth", lower_elsewhere=True)), "its other end"),
    (Snapshot(NIC, qdiscs=(Qdisc("htb", 1, 2, ""),)), "a qdisc with classes"),
]


@pytest.mark.parametrize(("snapshot", "reason"), GUARDED)
@pytest.mark.parametrize("source", ["config", "capability", "annotation"])
def test_guards_bind_every_source_but_not_the_very_name(
    snapshot: Snapshot, reason: str, source: Any
) -> None:
    for policy in (Policy(), rules({"allow": {}}), rules({"allow": {"names": ["enp*"]}})):
        verdict = admit(snapshot, source, UNKNOWN, policy)
        assert not verdict.allowed
        assert reason in verdict.reason
    for name in ("enp1s0", "fast0"):
        assert admit(snapshot, source, UNKNOWN, rules({"allow": {"names": [name]}})).allowed


def test_a_lifted_guard_still_obeys_the_rules_before() -> None:
    policy = rules({"deny": {"drivers": ["mlx5_core"]}}, {"allow": {"names": ["enp1s0"]}})
    assert not admit(Snapshot(NIC, routes=DEFAULT_ROUTE), "annotation", UNKNOWN, policy).allowed


@pytest.mark.parametrize(
    "link", [NIC._replace(immutable=True), NIC._replace(loopback=True), NIC._replace(kind="bond")]
)
def test_some_links_never_go(link: Link) -> None:
    assert not admit(
        Snapshot(link), "config", UNKNOWN, rules({"allow": {"names": ["enp1s0"]}})
    ).allowed


def test_an_unreachable_default_is_no_uplink() -> None:
    blackhole = (Route(2, "0.0.0.0/0", type=6),)
    assert admit(Snapshot(NIC, routes=blackhole), "annotation", UNKNOWN, Policy()).allowed


def test_every_fault_of_a_policy_is_told() -> None:
    bad = {
        "defualt": "deny",
        "default": 1,
        "rules": [
            {},
            {"allow": {}, "deny": {}},
            {"allow": []},
            {
                "allow": {
                    "names": "x",
                    "pic": ["x"],
                    "kinds": [],
                    "drivers": ["", "[a"],
                    "labels": {"a": 1},
                }
            },
        ],
    }
    with pytest.raises(RequestError) as caught:
        parse_policy(bad)
    said = caught.value.message
    for part in (
        "policy.defualt: unknown key; did you mean default?",
        "policy.default: 1",
        "policy.rules[0]: must be",
        "policy.rules[1]: must be",
        "policy.rules[2].allow: must be an object",
        "policy.rules[3].allow.pic: unknown key; did you mean pci?",
        "policy.rules[3].allow.names: must be a list",
        "policy.rules[3].allow.kinds: must be a list",
        "policy.rules[3].allow.drivers[0]",
        "policy.rules[3].allow.drivers[1]",
        "policy.rules[3].allow.labels.a",
    ):
        assert part in said


@given(
    st.recursive(
        st.none() | st.text(max_size=4) | st.integers(),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(
                st.sampled_from(("rules", "allow", "deny", "names", "default", "labels")),
                x,
                max_size=3,
            )
        ),
    )
)
def test_only_the_documented_error(value: Any) -> None:
    with suppress(RequestError):
        parse_policy(value)
