from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core.errors import RequestError
from cni_netdev.core.model import Identity, Link, LinkSettings, Route, Snapshot
from cni_netdev.core.policy import Pod, Policy, admit, parse_policy

NIC = Link(
    Identity(3, 9, "02:00:00:00:00:01", "0000:3b:02.1"),
    LinkSettings("enp1s0", 1500, None, "", 0, 0, 0),
    altnames=("fast0",),
    driver="mlx5_core",
)
HPC = Pod("p", "hpc-1", (("team", "blue"),))
UNKNOWN = Pod()


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


@pytest.mark.parametrize(
    ("listed", "privileges", "reason"),
    [
        ([{"allow": {"grants": ["vf"]}}], ("vf",), ""),
        ([{"allow": {"grants": ["vf", "private_flags"]}}], ("private_flags", "vf"), ""),
        ([{"allow": {}}], (), ""),
        ([{"allow": {}}], ("vf",), "policy.rules[0] (allow) does not grant vf"),
        ([], ("vf",), "policy.default (allow) does not grant vf"),
        # The first rule that matches decides, and no later one grants.
        ([{"allow": {}}, {"allow": {"grants": ["vf"]}}], ("vf",), "policy.rules[0] (allow) does"),
        ([{"deny": {}}, {"allow": {"grants": ["vf"]}}], ("vf",), "policy.rules[0] (deny)"),
    ],
)
def test_a_privilege_goes_with_a_link_only_where_the_rule_grants_it(
    listed: list[dict[str, Any]], privileges: tuple[str, ...], reason: str
) -> None:
    for source in ("annotation", "capability"):
        verdict = admit(Snapshot(NIC), source, HPC, rules(*listed), privileges=privileges)
        assert verdict.allowed == (not reason)
        assert verdict.reason.startswith(reason)
    assert admit(Snapshot(NIC), "config", HPC, rules(*listed), privileges=privileges).allowed


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"deny": {"grants": ["vf"]}}, "policy.rules[0].deny.grants: belongs to an allow rule"),
        ({"allow": {"grants": "vf"}}, "policy.rules[0].allow.grants: must be a list of vf"),
        ({"allow": {"grants": ["root"]}}, "policy.rules[0].allow.grants: must be a list of vf"),
        ({"allow": {"grants": [["vf"]]}}, "policy.rules[0].allow.grants: must be a list of vf"),
    ],
)
def test_what_grants_cannot_be(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError) as refused:
        rules(rule)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("key", ["drivers", "pci"])
def test_what_a_link_has_not_is_matched_by_nothing(key: str) -> None:
    virtual = NIC._replace(kind="veth", driver=None, identity=Identity(4, 10))
    anything = rules({"allow": {key: ["*"]}}, default="deny")
    assert admit(Snapshot(NIC), "annotation", UNKNOWN, anything).allowed
    assert not admit(Snapshot(virtual), "annotation", UNKNOWN, anything).allowed


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


UPLINK = Snapshot(NIC, routes=(Route(2, "0.0.0.0/0", gateway="10.0.0.1"),))
GUARD = "it carries a default route of the node"
BY_GLOB, BY_NAME = {"allow": {"names": ["enp*"]}}, {"allow": {"names": ["enp1s0"]}}


@pytest.mark.parametrize("source", ["config", "capability", "annotation"])
def test_guards_bind_every_source_but_not_the_very_name(source: Any) -> None:
    for policy in (Policy(), rules({"allow": {}}), rules(BY_GLOB)):
        verdict = admit(UPLINK, source, UNKNOWN, policy)
        hint = "only an allow rule with the very name 'enp1s0' lifts this"
        assert verdict == (False, f"{GUARD}; {hint}")
    for name in ("enp1s0", "fast0"):
        assert admit(UPLINK, source, UNKNOWN, rules({"allow": {"names": [name]}})).allowed
        elsewhere = rules({"allow": {"names": [name], "namespaces": ["lab"]}})
        assert not admit(UPLINK, source, HPC, elsewhere).allowed
        assert not admit(UPLINK, source, UNKNOWN, elsewhere).allowed
        assert not admit(UPLINK, source, UNKNOWN, rules({"deny": {"names": [name]}})).allowed


def test_what_hears_it_elsewhere_guards_too() -> None:
    verdict = admit(Snapshot(NIC), "config", UNKNOWN, Policy(), overheard=True)
    assert not verdict.allowed
    assert verdict.reason.startswith("a link in another namespace is stacked on it; only")


def test_a_verdict_names_what_allows_and_what_lifts() -> None:
    both = rules(BY_GLOB, BY_NAME)
    lifts = f"policy.rules[1] lifts the guard: {GUARD}"
    assert admit(UPLINK, "annotation", UNKNOWN, both) == (True, f"policy.rules[0] (allow); {lifts}")
    assert admit(UPLINK, "config", UNKNOWN, both) == (
        True,
        f"asked for by the node's own configuration; {lifts}",
    )


def test_a_lifted_guard_still_obeys_the_rules_before() -> None:
    policy = rules({"deny": {"drivers": ["mlx5_core"]}}, BY_NAME)
    assert admit(UPLINK, "annotation", UNKNOWN, policy) == (False, "policy.rules[0] (deny)")


@pytest.mark.parametrize("name", ["*", "[x]", "a?"])
def test_a_glob_is_no_very_name_even_of_a_link_that_is_called_so(name: str) -> None:
    link = NIC._replace(settings=NIC.settings._replace(name=name))
    policy = rules({"allow": {"names": [name]}})
    assert not admit(UPLINK._replace(link=link), "annotation", UNKNOWN, policy).allowed


@pytest.mark.parametrize(
    "link", [NIC._replace(immutable=True), NIC._replace(loopback=True), NIC._replace(kind="bond")]
)
def test_some_links_never_go(link: Link) -> None:
    assert not admit(
        Snapshot(link), "config", UNKNOWN, rules({"allow": {"names": ["enp1s0"]}})
    ).allowed


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
                    "drivers": ["", "[a", "[z-a]", "[!]", "a\\*"],
                    "labels": {"a": 1, "\u202e\n": "["},
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
        "policy.rules[3].allow.drivers[1]: '[a' has a [ that nothing closes",
        "policy.rules[3].allow.drivers[2]: '[z-a]' has a range that goes backwards",
        "policy.rules[3].allow.drivers[3]: '[!]' has a [ that nothing closes",
        r"policy.rules[3].allow.drivers[4]: 'a\\*' has a backslash",
        "policy.rules[3].allow.labels.a: 1 is no glob",
        r"policy.rules[3].allow.labels.\u202e\n: '['",
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


@pytest.mark.parametrize(
    ("glob", "matching"),
    [
        ("[]a]x", "]x"),
        ("[!]a]x", "bx"),
        ("[a-c]x", "bx"),
        ("[a-]x", "-x"),
        ("[--0]x", ".x"),
        ("[a-c-]x", "-x"),
        ("[*]x", "*x"),
        ("a]", "a]"),
    ],
)
def test_globs_that_are_right(glob: str, matching: str) -> None:
    link = NIC._replace(settings=NIC.settings._replace(name=matching), altnames=())
    policy = rules({"allow": {"names": [glob]}}, default="deny")
    assert admit(Snapshot(link), "annotation", UNKNOWN, policy).allowed


def test_too_many_rules() -> None:
    assert len(rules(*[{"allow": {}}] * 1024).rules) == 1024
    with pytest.raises(RequestError, match="at most 1024 rules"):
        rules(*[{"allow": {}}] * 1025)


def test_a_fault_never_shows_more_than_a_line_bears() -> None:
    bomb: list[Any] = ["x"]
    for _ in range(20):
        bomb = [bomb] * 10
    with pytest.raises(RequestError) as caught:
        rules({"allow": {"names": [bomb, "\x1b" * 1000]}}, default="\n" * 1000)
    assert len(caught.value.message) < 500
    assert caught.value.message.isprintable()
