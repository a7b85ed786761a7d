"""Several devices in one pod, and a host with many links."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from typing import TYPE_CHECKING

from tests.bench.commands import OURS, batch, cni, ip
from tests.bench.places import Place, another
from tests.bench.table import Row, Table
from tests.bench.turns import process, take_turns

if TYPE_CHECKING:
    from tests.bench.turns import Command, Contenders
    from tests.host import Host


def many_devices(host: Host) -> list[Table]:
    """1, 8 and 32 devices in one pod against as many bare moves in one `ip` process."""
    pod, bare = host.pod("pod").name, host.pod("bare").name
    home = f"/proc/{os.getpid()}/ns/net"
    for number in range(64):
        host.ip(f"link add nic{number} type ifb")
    rows = []
    for count in (1, 8, 32):
        numbers = range(count)
        ours = {"devices": [{"name": f"nic{each}", "new_name": f"p{each}"} for each in numbers]}
        there = batch(f"link set nic{each + 32} netns {bare}" for each in numbers)
        back = batch(f"link set nic{each + 32} netns {home}" for each in numbers)
        samples = take_turns(
            {
                "ADD": process(partial(cni, host, OURS, "ADD", pod, "c0", ours)),
                "there": process(partial(ip, "-b -", there)),
            },
            {
                "DEL": process(partial(cni, host, OURS, "DEL", pod, "c0", ours)),
                "back": process(partial(ip, f"-n {bare} -b -", back)),
            },
        )
        rows += [
            Row(
                f"{verb} of {count}",
                samples[verb],
                samples[moves],
                name=f"{verb.lower()}-{count}",
                limit=1.1 if count == 32 else None,
            )
            for verb, moves in (("ADD", "there"), ("DEL", "back"))
        ]
    return [Table("Several devices in one pod", "x as many bare moves by one `ip -b`", rows)]


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
            for verb in ("ADD", "DEL")
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
        for verb in ("ADD", "DEL")
        for count in (few, many)
    ]
    return [Table("A host with many links", "x 10 links", rows)]


def _prepare(host: Host, count: int) -> None:
    host.pod("pod")
    host.veth("nic0")
    lines = batch(f"link add ifb{number} type ifb" for number in range(count))
    subprocess.run(["ip", "-b", "-"], input=lines.encode(), check=True)
