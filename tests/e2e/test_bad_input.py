"""Bad input to the real executable: one document, the right code, and an untouched host."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bad_inputs import TABLE
from tests.linkstate import differences, everything

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.e2e


def test_the_table_is_long_enough() -> None:
    assert len({bad.title for bad in TABLE}) == len(TABLE) >= 100


def test_bad_input_gives_one_document_and_leaves_the_host_alone(cni: Host) -> None:
    """In one host, one after the other: what one leaves would show in the next."""
    cni.configured("nic1")
    cni.veth("uplink")
    cni.ip("addr add 10.250.0.1/24 dev uplink")
    cni.veth("leg")
    cni.ip("addr add 10.251.0.1/24 dev leg")
    cni.ip("route add default nexthop via 10.250.0.254 nexthop via 10.251.0.254")
    cni.veth("half")
    cni.ip("addr add 10.252.0.1/24 dev half")
    cni.ip("nexthop add id 1 via 10.252.0.254 dev half")
    cni.ip("route add 128.0.0.0/1 nhid 1 table 99")
    cni.veth("port0")
    cni.ip("link add br0 type bridge")
    cni.ip("link set port0 master br0")
    cni.veth("lower")
    cni.ip("link add mv0 link lower type macvlan")
    other = cni.pod("other")
    cni.veth("shared")
    cni.ip("link add mv1 link shared address 02:00:00:00:00:77 type macvlan mode bridge")
    cni.ip(f"link set mv1 netns {other.name}")
    other.ip("link set mv1 up")
    cni.veth("shared2")
    cni.ip("link add mv2 link shared2 type macvlan mode private")
    cni.ip(f"link set mv2 netns {other.name}")
    pod = cni.pod()
    pod.ip("link add taken type ifb")
    pod.ip("link property add dev taken altname takenalt")
    Path("/run/plain-file").write_text("")
    before, inside = everything(), pod.ip("link")
    wrong = []
    for bad in TABLE:
        done = subprocess.run(
            [cni.bin_dir / "cni-netdev"],
            env=bad.environ,
            input=bad.stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            document = json.loads(done.stdout)
            said = f"{document['msg']} {document.get('details', '')}"
            fits = document["code"] == bad.code and bad.said in said and "cniVersion" in document
        except (ValueError, KeyError):
            fits = False
        if not fits or done.returncode != 1:
            wrong.append(f"{bad.title}: {done.stdout.strip()} {done.stderr.strip()}")
        changed = differences(before, everything())
        assert not changed, (bad.title, changed)
        assert pod.ip("link") == inside, bad.title
        assert cni.left_over() == [], bad.title
    assert not wrong, "\n".join(wrong)
