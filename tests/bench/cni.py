"""The plugin beside its peers, each call a process as a runtime starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_netdev.core.libc import setns
from tests.bench.table import Row, Table
from tests.bench.turns import ROUNDS, Command, process, take_turns
from tests.host import Host, Pod
from tests.injector import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.bench.turns import Contenders, Sample

OURS, GO, IP = "cni-netdev", "host-device", "ip link set netns"
ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
_CONF: dict[str, Any] = {"cniVersion": "1.0.0", "name": "net"}


def cni(
    host: Host, plugin: str, verb: str, pod: Pod, container: str, conf: dict[str, Any]
) -> Command:
    environ = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": pod.path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(host.bin_dir),
    }
    text = json.dumps({**_CONF, "type": plugin, **conf})
    return Command([str(host.bin_dir / plugin)], environ, text)


def ip(arguments: str, stdin: str = "") -> Command:
    return Command(["ip", *arguments.split()], {"PATH": os.environ["PATH"]}, stdin)


def batch(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


# --- one device ------------------------------------------------------------------------------


class Lender(NamedTuple):
    """Whoever can lend one device: what it is called by verb, with the limits by verb."""

    what: str
    call: Callable[[str], Command]
    name: str = ""
    limits: dict[str, float] = {}  # noqa: RUF012 - never changed


def lenders(host: Host) -> list[Lender]:
    """Each has a link and a pod of its own; the figures are against host-device's."""
    home = f"/proc/{os.getpid()}/ns/net"
    pods = [host.pod(f"pod{number}") for number in range(4)]
    links = [host.veth(f"nic{number}") for number in range(4)]
    asked = f"- name: {links[1]}\n  new_name: net1\n  address: 192.168.2.2\n  prefix: 24\n"
    annotation = {"runtimeConfig": {ANNOTATIONS: {KEY: asked}}}

    def plugin(which: str, number: int, conf: dict[str, Any]) -> Callable[[str], Command]:
        return lambda verb: cni(host, which, verb, pods[number], f"c{number}", conf)

    def bare(verb: str) -> Command:
        if verb == "ADD":
            return ip(f"link set {links[3]} netns {pods[3].name} name eth0")
        return ip(f"-n {pods[3].name} link set eth0 netns {home} name {links[3]}")

    return [
        Lender(
            OURS,
            plugin(OURS, 0, {"devices": [{"name": links[0]}]}),
            name="one",
            limits={"ADD": 1.2, "DEL": 1.2},
        ),
        Lender(f"{OURS}, by a YAML annotation", plugin(OURS, 1, annotation), name="yaml"),
        Lender(GO, plugin(GO, 2, {"device": links[2]})),
        Lender(IP, bare),
    ]


def one_device(host: Host) -> list[Table]:
    """ADD and DEL of one device; each ADD is plotted."""
    all_of_them = lenders(host)
    samples = take_turns(
        {
            f"{each.what} {verb}": process(partial(each.call, verb))
            for verb in ("ADD", "DEL")
            for each in all_of_them
        }
    )
    rows = [
        Row(
            f"{each.what} {verb}",
            samples[f"{each.what} {verb}"],
            samples[f"{GO} {verb}"],
            name=f"{verb.lower()}-{each.name}" if each.name else "",
            limit=each.limits.get(verb),
        )
        for verb in ("ADD", "DEL")
        for each in all_of_them
    ]
    plotted = {each.what: samples[f"{each.what} ADD"] for each in all_of_them}
    return [Table("One device", "x host-device v1.9.1, the same verb", rows, plotted=plotted)]


# --- several devices -------------------------------------------------------------------------


def many_devices(host: Host) -> list[Table]:
    """1, 8 and 32 devices in one pod against as many bare moves in one `ip` process."""
    pod, bare = host.pod("pod"), host.pod("bare")
    home = f"/proc/{os.getpid()}/ns/net"
    for number in range(64):
        host.ip(f"link add nic{number} type ifb")
    rows = []
    for count in (1, 8, 32):
        numbers = range(count)
        ours = {"devices": [{"name": f"nic{each}", "new_name": f"p{each}"} for each in numbers]}
        there = batch(f"link set nic{each + 32} netns {bare.name}" for each in numbers)
        back = batch(f"link set nic{each + 32} netns {home}" for each in numbers)
        samples = take_turns(
            {
                "ADD": process(partial(cni, host, OURS, "ADD", pod, "c0", ours)),
                "there": process(partial(ip, "-b -", there)),
                "DEL": process(partial(cni, host, OURS, "DEL", pod, "c0", ours)),
                "back": process(partial(ip, f"-n {bare.name} -b -", back)),
            },
            ROUNDS // 4,
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


# --- a host with many links ------------------------------------------------------------------


def many_links(host: Host) -> list[Table]:
    """The same ADD and DEL on a host with 10 links and on one with 2000, in turns."""
    few, many = 10, 2000
    small = Place.here()
    prepare_links(host, few)
    with tempfile.TemporaryDirectory() as directory, Host.enter(Path(directory)) as other:
        large = Place.here()
        prepare_links(other, many)
        conf = {"devices": [{"name": "nic0"}]}
        hosts = {few: (small, host), many: (large, other)}

        def command(verb: str, count: int) -> Command:
            place, there = hosts[count]
            place.go()
            pod = Pod.__new__(Pod)
            pod.path = "/run/netns/pod"
            return cni(there, OURS, verb, pod, "c0", conf)

        contenders: Contenders = {
            f"{verb} with {count} links": process(partial(command, verb, count))
            for verb in ("ADD", "DEL")
            for count in (few, many)
        }
        samples = take_turns(contenders, ROUNDS // 2)
        large.go()
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


class Place(NamedTuple):
    """Namespaces to return to."""

    descriptors: tuple[int, ...]

    @classmethod
    def here(cls) -> Place:
        kinds = ("net", "mnt")
        return cls(tuple(os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY) for kind in kinds))

    def go(self) -> None:
        for descriptor in self.descriptors:
            setns(descriptor, 0)


def prepare_links(host: Host, count: int) -> None:
    host.install()
    host.pod("pod")
    host.veth("nic0")
    lines = batch(f"link add ifb{number} type ifb" for number in range(count))
    subprocess.run(["ip", "-b", "-"], input=lines.encode(), check=True)


# --- nothing asked for -----------------------------------------------------------------------


def pass_through(host: Host) -> list[Table]:
    """What every pod pays that asks for nothing."""
    pod = host.pod("pod")
    previous = {"prevResult": {"cniVersion": "1.0.0", "interfaces": [], "ips": []}}
    version = Command(
        [str(host.bin_dir / GO)], {"CNI_COMMAND": "VERSION"}, json.dumps({"cniVersion": "1.0.0"})
    )
    nothing = f"{OURS} ADD, nothing asked for"
    commands = {
        nothing: cni(host, OURS, "ADD", pod, "c0", previous),
        "loopback ADD": cni(host, "loopback", "ADD", pod, "c1", {}),
        "host-device VERSION": version,
        "python3 -IS, empty": Command([sys.executable, "-ISc", ""], {}),
    }
    samples = take_turns({what: _always(command) for what, command in commands.items()})
    rows = [
        Row(what, times, samples["loopback ADD"], name="nothing" if what == nothing else "")
        for what, times in samples.items()
    ]
    return [Table("A pod that asks for nothing", "x loopback ADD", rows)]


def _always(command: Command) -> Callable[[], Sample]:
    return process(lambda: command)
