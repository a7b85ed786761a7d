"""The way round PyYAML's package: notices a release in which it no longer works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core import _yaml

ROOT = Path(__file__).parent.parent.parent
PATHS = [str(ROOT), *[each for each in sys.path if "site-packages" in each]]
LOAD = "from cni_netdev.core import _yaml\n"
GOOD = "- {name: eth0, 'new_name': \"fast0\", mtu: 9000, mac: null}\n- name: |\n    eth1\n"
BAD = ["{a", "a: b: c", "\x01", "- a\n b\n-c", "'", "&", "- [", "%", "\ud800"]
SHOW = f"""
for text in ({GOOD!r}, *{BAD!r}):
    try: print(repr(list(_yaml.parse(text))))
    except _yaml.Unreadable as error: print(ascii(str(error)))
"""


def run(script: str) -> str:
    """In a Python that has loaded nothing of PyYAML."""
    start = f"import sys; sys.path[:0] = {PATHS!r}\n"
    command = [sys.executable, "-IS", "-c", start + script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_nothing_of_pyyaml_is_loaded_beside_the_parser() -> None:
    """If this fails a release asks for more: see what, and give it to a stand-in."""
    show = "print(*[name for name in sys.modules if name.partition('.')[0] in ('yaml', 're')])"
    loaded = run(f"{LOAD}list(_yaml.parse('a: b'))\n{show}").split()
    assert sorted(loaded) == [
        "yaml._yaml",
        "yaml.error",
        "yaml.events",
        "yaml.nodes",
        "yaml.tokens",
    ]


def test_events_and_errors_are_those_of_the_real_package() -> None:
    alone = run(LOAD + SHOW).splitlines()
    beside = run(f"import yaml\n{LOAD}{SHOW}").splitlines()
    odd = 1 + BAD.index("\x01")  # the one class whose text we wrote ourselves
    assert alone.pop(odd)[:30] == beside.pop(odd)[:30]
    assert alone == beside


@given(st.text("-:{}[]'\"&*!|>%#, \nabc\t", max_size=30))
def test_events_are_those_of_yaml_parse(text: str) -> None:
    try:
        expected = list(yaml.parse(text, Loader=yaml.CBaseLoader))
    except yaml.YAMLError:
        with pytest.raises(_yaml.Unreadable):
            list(_yaml.parse(text))
    else:
        assert repr(list(_yaml.parse(text))) == repr(expected)


def test_the_real_package_can_still_be_imported() -> None:
    script = (
        "list(_yaml.parse('a: b'))\nimport yaml\n"
        "print(yaml.load('a: [1, x]', Loader=yaml.CSafeLoader), yaml.safe_load('2'))\n"
        "try: yaml.load('{', Loader=yaml.CSafeLoader)\n"
        "except yaml.YAMLError: print('refused')"
    )
    assert run(LOAD + script) == "{'a': [1, 'x']} 2\nrefused\n"


def test_without_the_c_half_python_parses() -> None:
    hidden = "sys.modules['yaml._yaml'] = None\n"
    assert run(hidden + LOAD + "print(len(list(_yaml.parse('a: b'))))") == "8\n"
