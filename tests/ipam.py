"""An IPAM plugin for tests: it says what it is told to, and writes down what it was asked.

What host-local and static do is theirs; this one shows what any plugin is told, and fails at will.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.host import Host

LEASES = Path("/var/lib/cni/networks")
_PROGRAM = """\
#!{python} -IS
import json, os, sys

stdin = sys.stdin.read()
verb, ifname = os.environ["CNI_COMMAND"], os.environ.get("CNI_IFNAME", "")
netns = os.environ.get("CNI_NETNS", "")
inside = []
if netns and os.path.exists(netns):
    inside = os.popen("ip netns exec " + os.path.basename(netns) + " ls /sys/class/net").read()
    inside = inside.split()
with open({calls!r}, "a") as calls:
    call = [verb, ifname, json.loads(stdin), inside, os.environ.get("CNI_CONTAINERID")]
    calls.write(json.dumps(call) + "\\n")
with open({says!r}) as file:
    says = json.load(file)
answer = says.get(verb + " " + ifname, says.get(verb, ""))
print(answer if isinstance(answer, str) else json.dumps(answer), end="")
sys.exit(isinstance(answer, dict) and "code" in answer)
"""


class Call(NamedTuple):
    """inside: the links in the pod at that time."""

    verb: str
    ifname: str
    conf: dict[str, Any]
    inside: list[str]
    container: str


class Recorder:
    """The plugin of this name, beside the real ones or in the place of one."""

    def __init__(self, host: Host, name: str = "recorder") -> None:
        self._calls = host.directory / f"{name}.calls"
        self._says = host.directory / f"{name}.says"
        program = host.bin_dir / name
        program.unlink(missing_ok=True)  # a link to the real one
        program.write_text(
            _PROGRAM.format(python=sys.executable, calls=str(self._calls), says=str(self._says))
        )
        program.chmod(0o755)
        self.ipam = {"type": name}
        self.says()

    def says(self, **answers: Any) -> None:
        """What it answers to each verb, also as "ADD net1"; one with a code is a failure."""
        usual = {"ADD": {"ips": [{"address": "10.8.0.2/24", "gateway": "10.8.0.1"}]}}
        self._says.write_text(json.dumps({**usual, **answers}))

    def calls(self) -> list[Call]:
        """Since the last time."""
        text = self._calls.read_text() if self._calls.exists() else ""
        self._calls.unlink(missing_ok=True)
        return [Call(*json.loads(line)) for line in text.splitlines()]

    def asked(self) -> list[str]:
        """The same, as "ADD net1"."""
        return [f"{each.verb} {each.ifname}" for each in self.calls()]


def leases(network: str = "net", directory: Path = LEASES) -> dict[str, tuple[str, str]]:
    """What host-local has on its disk: by address, container id and CNI_IFNAME."""
    found = {}
    for path in sorted((directory / network).glob("*")):
        if path.name[0].isdigit() or ":" in path.name:
            container, ifname = path.read_bytes().decode().split("\r\n")
            found[path.name] = (container, ifname)
    return found
