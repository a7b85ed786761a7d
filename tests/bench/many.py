"""Several devices in one pod, and a host with many links."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from typing import TYPE_CHECKING

from tests.bench.cni import VERBS
from tests.bench.commands import BY_AGENT, IP, OURS, batch, cni, ip
from tests.bench.places import Place, another, with_agent
from tests.bench.table import Row, Table
from tests.bench.turns import process, take_turns

if TYPE_CHECKING:
    from tests.bench.turns import Command, Contenders
    from tests.host import Host


COUNTS = (1, 8, 32)
FEWER_ROUNDS = 40  # of what takes a second, and many moves


def many_devices(host: Host) -> list[Table]:
    """1, 8 and 32 devices in one pod against as many bare moves in one `ip` process."""
    here = Place.here(host)
    with with_agent() as there:
        for place in (here, there):
            _prepare(place.go(), 2 * max(COUNTS))
        rows = [row for count in COUNTS for row in _several(here, there, count)]
    return [Table("Several devices in one pod", "x as many bare moves by one `ip -b`", rows)]


def _several(here: Place, there: Place, count: int) -> list[Row]:
    devices = [{"name": f"ifb{each}", "new_name": f"p{each}"} for each in range(count)]
    home = f"/proc/{os.getpid()}/ns/net"
    others = [f"ifb{each + max(COUNTS)}" for each in range(count)]
    bare = {
        "ADD": ip("-b -", batch(f"link set {each} netns bare" for each in others)),
        "DEL": ip("-n bare -b -", batch(f"link set {each} netns {home}" for each in others)),
    }

    def ours(place: Place, verb: str) -> Command:
        return cni(place.host, OURS, verb, "pod", "c0", {"devices": devices})

    def phase(verb: str) -> Contenders:
        return {
            f"{BY_AGENT} {verb}": process(there.starting(partial(ours, there, verb))),
            f"{OURS} {verb}": process(here.starting(partial(ours, here, verb))),
            f"{IP} {verb}": process(here.starting(lambda: bare[verb])),
        }

    samples = take_turns(*map(phase, VERBS), rounds=FEWER_ROUNDS)
    return [
        Row(
            f"{who} {verb} of {count}",
            samples[f"{who} {verb}"],
            samples[f"{IP} {verb}"],
            name=f"{verb.lower()}-{name}{count}",
            limit=1.1 if count == max(COUNTS) else None,
        )
        for verb in VERBS
        for who, name in ((BY_AGENT, "agent-"), (OURS, ""))
    ]


def many_links(host: Host) -> list[Table]:
    """The same ADD and DEL on a host with 10 links and on one with 2000, in turns."""
    few, many = 10, 2000
    small = Place.here(host)
    _prepare(host, few)
    with another() as large:
        _prepare(large.host, many)
        places = {few: small, many: large}

        def command(verb: str, count: int) -> Command:
            conf = {"devices": [{"name": "nic0"}]}
            return cni(places[count].go(), OURS, verb, "pod", "c0", conf)

        phases: list[Contenders] = [
            {
                f"{verb} with {count} links": process(partial(command, verb, count))
                for count in (few, many)
            }
            for verb in VERBS
        ]
        samples = take_turns(*phases)
    rows = [
        Row(
            f"{verb} with {count} links",
            samples[f"{verb} with {count} links"],
            samples[f"{verb} with {few} links"],
            name=f"{verb.lower()}-{count}-links",
            limit=1.1 if count == many else None,
        )
        for verb in VERBS
        for count in (few, many)
    ]
    return [Table("A host with many links", "x 10 links", rows)]


def _prepare(host: Host, count: int) -> None:
    for pod in ("pod", "bare"):
        host.pod(pod)
    host.veth("nic0")
    lines = batch(f"link add ifb{number} type ifb" for number in range(count))
    subprocess.run(["ip", "-b", "-"], input=lines.encode(), check=True)
