"""Records that are torn, empty, foreign, older or newer, and what is no record at all."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.core.engine import Injector
from cni_netdev.core.journal import FileJournal
from cni_netdev.core.kernel import SystemKernel
from cni_netdev.core.policy import Policy
from nri_plugin.handlers import Handlers, Settings
from nri_plugin.limits import Limit
from nri_plugin.messages import PodSandbox
from tests import children
from tests.children import answer
from tests.host import STATE_DIR
from tests.linkstate import capture, differences
from tests.unit.nri.recorders import RecordingLog, RecordingMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host import Answer, Host, Pod

pytestmark = pytest.mark.e2e

CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "cni-netdev"}
ONE = {**CONF, "devices": [{"name": "nic1", "new_name": "net1"}]}
TWO = {**CONF, "devices": [{"name": "nic2", "new_name": "net2"}]}
RECORD = STATE_DIR / "records" / "cni@c1@eth0.json"
ASIDE = Path(f"{RECORD}.unreadable")


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else in the record's place."""

    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def changed(**what: Any) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **what}))

    return damage


def listening(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as each:
        each.bind(path.name)
    os.chdir(here)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "torn": (lambda path: os.truncate(path, path.stat().st_size // 2), "no JSON"),
    "empty": (lambda path: os.truncate(path, 0), "no JSON"),
    "somebody else's JSON": (lambda path: path.write_text('{"cniVersion": "1.0.0"}'), "no version"),
    "binary": (lambda path: path.write_bytes(bytes(range(256))), "no text"),
    "newer": (changed(version=2), "version 2"),
    "with a field that is unknown": (changed(record={"x": 1}), "does not fit"),
    "a directory": (instead(Path.mkdir), "no regular file"),
    "a symbolic link": (instead(lambda path: path.symlink_to("/etc/passwd")), "no regular file"),
    "a FIFO": (instead(os.mkfifo), "no regular file"),
    "a socket": (instead(listening), "no regular file"),
}


@pytest.fixture
def ready(host: Host) -> Host:
    host.configured("nic1", 1)
    host.configured("nic2", 2)
    return host


def plugin(
    verb: str, conf: dict[str, Any], pod: Pod | None = None, container: str = "c1"
) -> Answer:
    netns = pod.path if pod else ""
    return answer(lambda: children.cni(verb, conf, netns=netns, container=container))


def netdevctl(command: str) -> Answer:
    return answer(lambda: children.netdevctl(command))


def lent(host: Host) -> Pod:
    pod = host.pod()
    plugin("ADD", ONE, pod).ok()
    return pod


@pytest.mark.parametrize(("damage", "why"), DAMAGE.values(), ids=DAMAGE)
def test_whatever_is_in_its_place_every_verb_says_so_and_harms_nobody(
    ready: Host, damage: Callable[[Path], object], why: str
) -> None:
    before = {name: capture(name) for name in ("nic1", "nic2")}
    pod, other = lent(ready), ready.pod("other")
    good = RECORD.read_text()
    damage(RECORD)

    for conf in (ONE, TWO):
        code, words = plugin("ADD", conf, pod).error()
        assert code == 5
        assert RECORD.name in words
        assert why in words
    assert plugin("CHECK", ONE, pod).error()[0] == 5
    valid = {"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}
    for verb, conf in (("GC", {**CONF, **valid}), ("STATUS", CONF)):
        said = plugin(verb, conf)
        assert said.ok() is None
        assert f"unreadable record {RECORD.name}" in said.stderr
        assert why in said.stderr
    for command in ("attachments", "recover"):
        told = netdevctl(command)
        assert (told.code, f"unreadable record {RECORD.name}" in told.stderr) == (1, True)

    plugin("ADD", TWO, other, "c2").ok()
    plugin("DEL", TWO, other, "c2").ok()
    assert differences(before["nic2"], capture("nic2")) == []

    said = plugin("DEL", ONE, pod)
    assert said.ok() is None
    assert f"kept as {ASIDE}" in said.stderr
    pod.delete()
    assert netdevctl("recover").code == 1, "it may tell of a device that is away"
    # Whoever can mend it has the device back: its namespace is kept as long as there is a record.
    ASIDE.rmdir() if ASIDE.is_dir() else ASIDE.unlink()
    RECORD.write_text(good)
    assert netdevctl("recover").code == 0
    assert differences(before["nic1"], capture("nic1")) == []
    assert ready.left_over() == []


def test_an_older_record_brings_its_device_home(ready: Host) -> None:
    """Without the fields that came later."""
    before = capture("nic1")
    pod = lent(ready)
    document = json.loads(RECORD.read_text())
    for late in ("host", "pinned_in"):
        document["record"].pop(late)
    RECORD.write_text(json.dumps(document, indent=2))
    assert plugin("CHECK", ONE, pod).ok() is None
    assert netdevctl("attachments").code == 0
    plugin("DEL", ONE, pod).ok()
    assert differences(before, capture("nic1")) == []
    assert ready.left_over() == []


@pytest.mark.parametrize("way", ["DEL", "GC", "recover", "ADD"])
def test_a_record_of_another_boot_is_forgotten_and_says_so(ready: Host, way: str) -> None:
    pod = ready.pod()
    plugin("ADD", ONE, pod).ok()
    document = json.loads(RECORD.read_text())
    plugin("DEL", ONE, pod).ok()
    document["record"]["boot_id"] = "another"
    RECORD.write_text(json.dumps(document))
    if way == "recover":
        said = netdevctl("recover")
        assert said.code == 0
        assert "before the last boot" in said.stdout
    else:
        said = plugin(way, ONE, pod)
        said.ok()
        assert way == "ADD" or "before the last boot" in said.stderr
    plugin("DEL", ONE, pod).ok()
    assert ready.left_over() == []


@pytest.mark.parametrize(("damage", "why"), DAMAGE.values(), ids=DAMAGE)
def test_the_nri_plugin_goes_on_with_the_other_pods(
    ready: Host, damage: Callable[[Path], object], why: str
) -> None:
    before = capture("nic2")
    log = RecordingLog()
    engine = Injector(SystemKernel(), FileJournal(), resident=True)
    handlers = Handlers(engine, Settings(Policy), log, RecordingMetrics())
    pods = {name: sandbox(ready.pod(name), name) for name in ("nic1", "nic2")}
    for each in pods.values():
        handlers.run(each, Limit(60))
    record = STATE_DIR / "records" / "nri@nic1@.json"
    damage(record)

    handlers.synchronize(tuple(pods.values()))
    (told,) = [line for line in log.told("error") if record.name in line]
    assert why in told
    handlers.release(pods["nic2"])
    assert differences(before, capture("nic2")) == []
    assert handlers.holds(pods["nic1"])
    handlers.release(pods["nic1"])
    assert any(f"kept as {record}.unreadable" in line for line in log.told("warn"))
    assert not handlers.holds(pods["nic1"])
    assert not handlers.look_after()


def sandbox(pod: Pod, name: str) -> PodSandbox:
    annotations = {"netdevices.nri.containerd.io": json.dumps([{"name": name}])}
    return PodSandbox(name, name, "uid", "default", {}, annotations, pod.path)
