"""A node for tests of the agent: two configured links, shims left running, and all home again."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cni_netdev import install
from tests.host import Answer
from tests.linkstate import capture, differences
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Host, Pod

CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "cni-netdev"}
ONE = {**CONF, "devices": [{"name": "nic1", "new_name": "net1", "address": "192.168.2.2/24"}]}
PREVIOUS = {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0"}], "ips": []}
LINKS = ("nic1", "nic2")


def prepare(host: Host) -> Host:
    """Two configured links; no agent yet."""
    for number, name in enumerate(LINKS, 1):
        host.configured(name, number)
    return host


def start(host: Host, verb: str, pod: Pod, **options: Any) -> subprocess.Popen[str]:
    """A shim, left running; see finish."""
    environ = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": options.get("container", "c1"),
        "CNI_NETNS": pod.path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(host.bin_dir),
        **options.get("env", {}),
    }
    child = subprocess.Popen(
        [host.bin_dir / install.PLUGIN],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(options.get("conf", ONE)))
    child.stdin.close()
    child.stdin = None
    return child


def finish(child: subprocess.Popen[str]) -> Answer:
    out, err = child.communicate(timeout=60)
    return Answer(child.returncode, out, err)


@contextmanager
def unharmed(host: Host) -> Iterator[None]:
    """In the end all is as it was in the beginning, at once or when it was looked after."""
    before = {name: capture(name) for name in LINKS}

    def trouble() -> list[str]:
        if away := set(LINKS) - set(host.names()):
            return [f"{away} away"]
        found = [line for name in LINKS for line in differences(before[name], capture(name))]
        return found + host.left_over()

    yield
    until(lambda: not trouble(), trouble)
