"""docs/nri.md, agent.md and bundle.md name what there is: flags, keys, metrics, limits, lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from cni_netdev import bundle, shim, wire
from cni_netdev.agent import Limits
from cni_netdev.answerer import LOCK_SECONDS
from cni_netdev.ctl import cli as ctl
from nri_plugin.errors import Code
from nri_plugin.main import cli
from nri_plugin.prometheus import PrometheusMetrics
from nri_plugin.statuses import CODES

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "nri.md").read_text()
AGENT = (ROOT / "docs" / "agent.md").read_text()
BUNDLE = (ROOT / "docs" / "bundle.md").read_text()


def table(title: str, text: str = TEXT) -> list[list[str]]:
    """The cells of the first table below a heading, without its own head."""
    rows = text.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0].splitlines()
    lines = [row for row in rows if row.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_status_is_there() -> None:
    told = {name: row[1] for row in table("What a pod is told") for name in named(row[0])}
    assert told == {name: Code(code).name for name, code in CODES.items()}


def test_every_flag_is_there() -> None:
    told = {name for row in table("Flags and configuration") for name in named(row[0])}
    short = {min(option.opts, key=len) for option in cli.params}
    assert told == {*short, "-help"}


def test_every_key_is_there() -> None:
    told = {name for row in table("Flags and configuration") for name in named(row[1])}
    source = (ROOT / "nri_plugin" / "config.py").read_text()
    keys = set(re.findall(r'take\("(\w+)"', source))
    nested = {"level", "format", "file"}
    assert told == {f"log.{key}" if key in nested else key for key in keys}


def test_every_metric_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    registries: list[CollectorRegistry] = []

    class Kept(CollectorRegistry):
        def __init__(self) -> None:
            super().__init__()
            registries.append(self)

    monkeypatch.setattr("nri_plugin.prometheus.CollectorRegistry", Kept)
    PrometheusMetrics()
    found = {
        f"{each.name}_total" if each.type == "counter" else each.name
        for each in registries[0].collect()
        if each.name.startswith("netdev_")
    }
    assert {name for row in table("Metrics") for name in named(row[0])} == found
    types = {name: row[1] for row in table("Metrics") for name in named(row[0])}
    assert all((kind == "counter") == name.endswith("_total") for name, kind in types.items())


def test_every_line_that_it_tells_of_is_logged() -> None:
    sources = "\n".join(
        path.read_text()
        for package in ("nri_plugin", "cni_netdev/core")
        for path in (ROOT / package).glob("*.py")
    )
    for row in table("What it logs"):
        for message in named(row[0]):
            assert message.strip(". :").removeprefix("... ") in sources


def test_every_line_of_the_agent_is_logged() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "cni_netdev").glob("*.py"))
    messages = [message for row in table("What it logs", AGENT) for message in named(row[0])]
    assert [each for each in messages if each not in sources] == []
    assert len(messages) > 9


def test_every_option_of_the_agent_is_there() -> None:
    told = {word.split()[0] for word in re.findall(r"^\| `(--[^`]+)`", AGENT, re.MULTILINE)}
    assert told == {option.opts[0] for option in ctl.commands["agent"].params}


def test_the_agents_limits_are_those_of_the_code() -> None:
    limits = Limits()
    for number in (
        f"within {shim._TAKEN_SECONDS:g} s",
        f"no answer {shim._ANSWER_SECONDS:g} s",
        f"more than {wire.LONGEST >> 20} MiB",
        f"{limits.size >> 20} MiB of all",
        f"than {limits.connections} connections",
        f"more than {limits.seconds:g} s to come in",
        f"more than {LOCK_SECONDS:g} s",
    ):
        assert number in AGENT


def test_the_bundle_is_told_as_it_is() -> None:
    commands = [ctl.commands[name] for name in ("install", "uninstall")]
    flags = {flag for each in commands for option in each.params for flag in option.opts}
    assert set(re.findall(r"(?<!\w)--[a-z][a-z-]*", BUNDLE)) <= {*flags, "--help"}
    assert {"--prefix", "--prune", "--bundle"} <= set(re.findall(r"--[a-z-]+", BUNDLE))
    for name in (bundle.DEFAULT_PREFIX, bundle.MANIFEST, *bundle.PROGRAMS):
        assert f"`{name}" in BUNDLE, name
    for place in (bundle.LOADER, bundle.PYTHON, "lib/netdevctl"):
        assert f'-x86_64/{place}"' in BUNDLE, "the entry point of the image"
    units = [each.read_text() for each in (ROOT / "conf").glob("*.service")]
    assert all(f"={bundle.DEFAULT_PREFIX}/bin/" in each for each in units)
