"""The plugin beside its peers: one pod with one device, with none, and several pods at once."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.bench.commands import BY_AGENT, GO, IP, OURS, cni, ip, version
from tests.bench.places import Place, with_agent
from tests.bench.table import Row, Table
from tests.bench.turns import ROUNDS, Command, process, take_turns, together
from tests.injector import KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.turns import Sample
    from tests.host import Host

ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
VERBS = ("ADD", "DEL")


class Contender(NamedTuple):
    """Whoever can do it: what it is called by verb, with the limit of what it takes."""

    what: str
    call: Callable[[str], Callable[[], Sample]]
    name: str = ""
    limit: float | None = None


def _table(
    title: str, contenders: list[Contender], *, plotted: bool = False, rounds: int = ROUNDS
) -> Table:
    """Each verb of each contender against host-device's, in turns."""
    samples = take_turns(
        *({f"{each.what} {verb}": each.call(verb) for each in contenders} for verb in VERBS),
        rounds=rounds,
    )
    rows = [
        Row(
            f"{each.what} {verb}",
            samples[f"{each.what} {verb}"],
            samples[f"{GO} {verb}"],
            name=f"{verb.lower()}-{each.name}" if each.name else "",
            limit=each.limit,
        )
        for verb in VERBS
        for each in contenders
    ]
    drawn = {each.what: samples[f"{each.what} ADD"] for each in contenders} if plotted else {}
    return Table(title, "x host-device v1.9.1, the same verb", rows, plotted=drawn)


# --- one device ------------------------------------------------------------------------------


def one_device(host: Host) -> list[Table]:
    """ADD and DEL of one device; each ADD is plotted."""
    here = Place.here(host)
    with with_agent() as there:
        contenders = [
            _lender(there, OURS, {"devices": [{"name": "nic0"}]})._replace(
                what=BY_AGENT, name="agent", limit=0.7
            ),
            _lender(here, OURS, {"devices": [{"name": "nic0"}]})._replace(name="one", limit=1.2),
            _lender(here, OURS, _annotated("nic0"), 1)._replace(
                what=f"{OURS}, by a YAML annotation", name="yaml"
            ),
            _lender(here, GO, {"device": "nic0"}, 2),
            _bare(here),
        ]
        return [_table("One device", contenders, plotted=True)]


def _lender(place: Place, plugin: str, conf: dict[str, Any], number: int = 0) -> Contender:
    """With a link and a pod of its own, by this number; nic0 in ``conf`` stands for the link."""
    host = place.go()
    link, pod = host.veth(f"nic{number}"), host.pod(f"pod{number}").name
    own = _renamed(conf, link)

    def command(verb: str) -> Command:
        return cni(host, plugin, verb, pod, f"c{number}", own)

    return Contender(plugin, lambda verb: process(place.starting(partial(command, verb))))


def _renamed(conf: Any, link: str) -> Any:
    if isinstance(conf, dict):
        return {key: _renamed(value, link) for key, value in conf.items()}
    if isinstance(conf, list):
        return [_renamed(each, link) for each in conf]
    return conf.replace("nic0", link) if isinstance(conf, str) else conf


def _annotated(link: str) -> dict[str, Any]:
    asked = f"- name: {link}\n  new_name: net1\n  address: 192.168.2.2\n  prefix: 24\n"
    return {"runtimeConfig": {ANNOTATIONS: {KEY: asked}}}


def _bare(place: Place) -> Contender:
    host = place.go()
    link, pod = host.veth("nic3"), host.pod("pod3").name
    moves = {
        "ADD": f"link set {link} netns {pod} name eth0",
        "DEL": f"-n {pod} link set eth0 netns /proc/{os.getpid()}/ns/net name {link}",
    }

    return Contender(IP, lambda verb: process(place.starting(partial(ip, moves[verb]))))


# --- several pods ----------------------------------------------------------------------------

PODS = 8


def pods_at_once(host: Host) -> list[Table]:
    """All started at one time, until the last has ended."""
    here = Place.here(host)
    with with_agent() as there:
        contenders = [
            _crowd(there, OURS, {"devices": [{"name": "nic0"}]})._replace(
                what=BY_AGENT, name="agent-8-pods", limit=0.6
            ),
            _crowd(here, OURS, {"devices": [{"name": "nic0"}]})._replace(name="8-pods"),
            _crowd(here, GO, {"device": "nic0"}, PODS),
        ]
        return [_table(f"{PODS} pods at once, all done", contenders, rounds=40)]


def _crowd(place: Place, plugin: str, conf: dict[str, Any], first: int = 0) -> Contender:
    host = place.go()
    numbers = range(first, first + PODS)
    for number in numbers:
        host.veth(f"nic{number}")
        host.pod(f"pod{number}")

    def commands(verb: str) -> list[Command]:
        return [
            cni(host, plugin, verb, f"pod{number}", f"c{number}", _renamed(conf, f"nic{number}"))
            for number in numbers
        ]

    return Contender(plugin, lambda verb: together(place.starting(partial(commands, verb))))


# --- nothing asked for -----------------------------------------------------------------------


def pass_through(host: Host) -> list[Table]:
    """What every pod pays that asks for nothing."""
    previous = {"prevResult": {"cniVersion": "1.0.0", "interfaces": [], "ips": []}}
    here = Place.here(host)
    with ExitStack() as stack:
        there = stack.enter_context(with_agent())
        for place in (here, there):
            place.go().pod("pod")
        nothing, by_agent = (f"{who} ADD, nothing asked for" for who in (OURS, BY_AGENT))
        floor = f"{GO} VERSION"
        commands = {
            by_agent: there.starting(partial(cni, there.host, OURS, "ADD", "pod", "c0", previous)),
            nothing: here.starting(partial(cni, host, OURS, "ADD", "pod", "c0", previous)),
            floor: here.starting(partial(version, host, GO)),
            "loopback ADD": here.starting(partial(cni, host, "loopback", "ADD", "pod", "c1", {})),
            "python3 -IS, empty": here.starting(partial(Command, [sys.executable, "-ISc", ""], {})),
        }
        samples = take_turns({what: process(command) for what, command in commands.items()})
    names = {nothing: "nothing", by_agent: "agent-nothing"}
    rows = [
        Row(what, times, samples[floor], names.get(what, ""), 3 if what in names else None)
        for what, times in samples.items()
    ]
    return [Table("A pod that asks for nothing", f"x {floor}", rows)]
