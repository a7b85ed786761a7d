"""A real host for the oracle: where its links are, what the records say, what is left over.

Seen with iproute2 and as files, not through our own code: a mistake there must not hide itself.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.host import STATE_DIR
from tests.linkstate import captures
from tests.oracle import Scene, violations
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.host import Host


_SOON = 5  # seconds


class Watched:
    """Veths of a host as they are now, with their peers (NAMEp) beside them, to compare with."""

    def __init__(self, host: Host, *names: str) -> None:
        self.before = captures(*names)
        self._host = host
        self._peers = {f"{name}p": name for name in names}

    def violations(self, *pods: str) -> list[str]:
        """What is not as it must be, by now or in a moment: IPv6 makes its local routes late.

        pods: the names of the namespaces that there are.
        """
        found: list[str] = []

        def look() -> bool:
            found[:] = violations(self.before, self.scene(*pods))
            return not found

        with suppress(AssertionError):
            until(look, str, _SOON)
        return found

    def scene(self, *pods: str) -> Scene:
        records, litter = _records()
        names = self._names_by_peer()
        inside = {
            names[link["link_index"]]: pod
            for pod in pods
            for link in _links(pod)
            if link.get("link_index") in names
        }
        named = {
            lent["home"]["link"]["settings"]["name"]: Path(record["netns"]["path"]).name
            for record in records.values()
            for lent in record["devices"]
        }
        litter += [each for each in self._host.left_over() if not _belongs(each, records)]
        return Scene(captures(*self.before), inside, named, litter)

    def _names_by_peer(self) -> dict[int, str]:
        """A veth wherever it is tells of its peer on the host by that one's ifindex."""
        return {
            link["ifindex"]: self._peers[link["ifname"]]
            for link in self._host.json("link")
            if link["ifname"] in self._peers
        }


def records() -> bool:
    """Whether there is any, of whatever kind."""
    return any(STATE_DIR.glob("records/*"))


def _links(pod: str) -> Iterable[Any]:
    done = subprocess.run(
        ["ip", "-n", pod, "-j", "link"], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout or "[]")  # type: ignore[no-any-return]


def _records() -> tuple[dict[str, Any], list[str]]:
    """The complete records by their names, and a sentence for each that is not."""
    found, litter = {}, []
    for path in sorted(STATE_DIR.glob("records/*.json")):
        try:
            record = json.loads(path.read_text())["record"]
        except (ValueError, KeyError, OSError) as error:
            litter.append(f"record {path.name}: {error!r}")
            continue
        if record["complete"]:
            found[path.stem] = record
        else:
            litter.append(f"half a record {path.name}")
    return found, litter


def _belongs(left: str, records: dict[str, Any]) -> bool:
    """Whether it is a complete record, its pin, or a mount that such a pin needs."""
    parts = left.split("/")
    if parts[0] == "records":
        return parts[-1].removesuffix(".json") in records
    if parts[0].startswith("pins-"):
        return parts[-1] in records
    mounted = left.split()[1] if " " in left else ""
    where = Path(mounted).name
    return where in records or (where.startswith("pins-") and bool(records))
