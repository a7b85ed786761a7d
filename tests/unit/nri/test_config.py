"""The configuration: all its keys, all faults at once, who wins over whom."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core.errors import RequestError
from cni_netdev.core.policy import parse_policy
from nri_plugin.config import Config, as_address, as_socket, parse

RULES = {"default": "deny", "rules": [{"allow": {"names": ["eth*"]}}]}
POLICY = parse_policy(RULES)


def faults(text: str, where: str = "c.yaml") -> list[str]:
    with pytest.raises(RequestError) as caught:
        parse(text, where)
    return [str(fault) for fault in caught.value.faults]


def test_every_key() -> None:
    document = {
        "policy": RULES,
        "stateDir": "/var/state",
        "log": {"level": "warn", "format": "json", "file": "/var/log/x"},
        "metrics": "127.0.0.1:9400",
        "adopt": True,
    }
    assert parse(json.dumps(document)) == Config(
        policy=POLICY,
        state_dir="/var/state",
        log_level="warn",
        log_format="json",
        log_file="/var/log/x",
        metrics=("127.0.0.1", 9400),
        adopt=True,
    )
    assert parse('{"policyFile": "/etc/p"}') == Config(policy_file="/etc/p")


def test_yaml_means_the_same() -> None:
    text = """
        policy: {default: deny, rules: [{allow: {names: ["eth*"]}}]}
        log:
          level: debug
        metrics: :9400
        adopt: false
    """
    assert parse(text) == Config(policy=POLICY, log_level="debug", metrics=("", 9400), adopt=False)


@pytest.mark.parametrize("text", ["", " \n", "{}", '{"policy": null, "log": null, "adopt": null}'])
def test_all_keys_may_be_left_out(text: str) -> None:
    assert parse(text) == Config()


def test_all_faults_at_once_with_their_paths() -> None:
    document = {
        "policy": {"default": "no", "rules": [{"alow": {}}]},
        "policyFile": "relative",
        "stateDir": 5,
        "log": {"level": "loud", "format": "xml", "file": "x", "fil": "/y"},
        "metrics": "here",
        "adopt": "maybe",
        "metric": 1,
    }
    found = faults(json.dumps(document))
    assert [each.split(": ")[1] for each in found] == [
        "policy.default",
        "policy.rules[0]",
        "policyFile",
        "stateDir",
        "metrics",
        "adopt",
        "log.fil",
        "log.level",
        "log.format",
        "log.file",
        "metric",
    ]
    assert all(each.startswith("c.yaml: ") for each in found)
    assert "'loud' is none of debug, info, warn, error" in str(found)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"polcy": {}}', "c.yaml: polcy: unknown key; did you mean policy?"),
        ('{"log": {"levels": 1}}', "c.yaml: log.levels: unknown key; did you mean level?"),
        ('{"zzz": 1}', "unknown key; known are policy, policyFile"),
        ('{"a\\u001b[0m\\n": 1}', "c.yaml: a\\x1b[0m\\n: unknown key"),
        ("[]", "c.yaml: must be an object, not []"),
        ("5", "must be an object, not 5"),
        ('{"log": "debug"}', "c.yaml: log: must be an object, not 'debug'"),
        ('{"policy": {}, "policyFile": "/p"}', "c.yaml: policyFile: stands beside policy"),
        ('{"stateDir": "/a\\u0000b"}', "stateDir: '/a\\x00b' must be an absolute path"),
        ("{", "c.yaml: is neither JSON nor YAML"),
        ("a: b: c", "is neither JSON nor YAML"),
        ("[" * 100_000, "c.yaml: is nested deeper than 8 levels"),
    ],
)
def test_what_is_wrong_is_said(text: str, wanted: str) -> None:
    assert any(wanted in each for each in faults(text))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9400", ("127.0.0.1", 9400)),
        ("localhost:1", ("localhost", 1)),
        (":65535", ("", 65535)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert as_address(text) == address


@pytest.mark.parametrize(
    "value",
    [
        "",
        "9400",
        "host",
        "host:",
        "host:0",
        "host:65536",
        "::1:80",
        "[x]:80",
        "a b:1",
        "h:1\n",
        9400,
    ],
)
def test_no_addresses(value: object) -> None:
    with pytest.raises(ValueError, match="is no address to listen on"):
        as_address(value)


def test_a_socket_has_a_path_that_it_can_have() -> None:
    for path in ("/run/nri.sock", "x" * 107, "/\udcff"):
        assert as_socket(path) == path
    for path in ("", "x" * 108, "\u20ac" * 36, "/run/\0"):
        with pytest.raises(ValueError, match="is no path of a socket"):
            as_socket(path)


# --- who wins --------------------------------------------------------------------------------

VALUES: dict[str, tuple[Any, Any]] = {
    "state_dir": ("/a", "/b"),
    "log_level": ("debug", "warn"),
    "log_format": ("text", "json"),
    "log_file": ("/c", "/d"),
    "metrics": (("", 1), ("", 2)),
    "adopt": (False, True),
    "policy_file": ("/e", "/f"),
}


@pytest.mark.parametrize("key", VALUES)
def test_what_was_said_wins_also_when_it_says_no(key: str) -> None:
    mine, others = (Config(**{key: value}) for value in VALUES[key])
    assert mine.over(others) == mine
    assert Config().over(others) == others
    assert mine.over(Config()) == mine


def test_flags_win_over_configure_and_configure_over_the_file() -> None:
    flags = Config(state_dir="/flag", log_level="debug")
    configure = parse('{"stateDir": "/configure", "metrics": ":1", "log": {"level": "error"}}')
    file = parse('{"stateDir": "/file", "metrics": ":2", "adopt": true}')
    assert flags.over(configure).over(file) == Config(
        state_dir="/flag", log_level="debug", metrics=("", 1), adopt=True
    )


def test_policy_and_its_file_are_one_choice() -> None:
    inline, in_a_file = Config(policy=POLICY), Config(policy_file="/p")
    assert inline.over(in_a_file) == inline
    assert in_a_file.over(inline) == in_a_file


# --- fuzzing ---------------------------------------------------------------------------------

KEYS = st.sampled_from(("policy", "policyFile", "stateDir", "metrics", "adopt", "log", "x"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(st.text(max_size=60) | st.dictionaries(KEYS, JSON).map(json.dumps) | JSON.map(json.dumps))
def test_any_text_is_a_configuration_or_raises_RequestError(text: str) -> None:  # noqa: N802
    with suppress(RequestError):
        parse(text)
