"""Whole-process timings of the plugin beside its peers, as ratios of medians from one run.

`python -m tests.bench` runs everything and writes docs/performance.md; `python -m tests.bench
one` (many, links, passthrough, nri) runs and prints one part.  Contenders take turns, so that a
machine that slows down slows all of them.  Milliseconds say something about this machine only.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.host import PEERS, ROOT, Host, Pod
from tests.injector import KEY, NriPlugin
from tests.nri_runtime import GoRuntime, pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ROUNDS = 40
CONF: dict[str, Any] = {"cniVersion": "1.0.0", "name": "net"}
OURS, GO, IP = "cni-netdev", "host-device", "ip link set netns"
Command = tuple[list[str], dict[str, str], str]
Times = dict[str, list[float]]


class Row(NamedTuple):
    """One line of a table: who, its times in ms, and the median of what it is compared with."""

    what: str
    times: list[float]
    against: list[float]

    def line(self) -> str:
        low, middle, high = min(self.times), median(self.times), max(self.times)
        ratio = middle / median(self.against)
        return f"| {self.what} | {middle:.1f} | {low:.1f} | {high:.1f} | {ratio:.2f} |"


def timed(command: Command) -> float:
    """Milliseconds from start to end of a process that must succeed."""
    arguments, environ, stdin = command
    start = time.perf_counter()
    done = subprocess.run(
        arguments, env=environ, input=stdin.encode(), capture_output=True, check=False
    )
    taken = (time.perf_counter() - start) * 1000
    assert done.returncode == 0, done.stdout + done.stderr
    return taken


def take_turns(commands: dict[str, Callable[[], Command]], rounds: int) -> Times:
    """Each command once a round, after one round that is not counted."""
    times: Times = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            taken = timed(command())
            if number:
                times[name].append(taken)
    return times


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
    text = json.dumps({**CONF, "type": plugin, **conf})
    return [str(host.bin_dir / plugin)], environ, text


def ip(arguments: str) -> Command:
    return ["ip", *arguments.split()], {"PATH": os.environ["PATH"]}, ""


def one_device(host: Host) -> list[str]:
    """ADD and DEL of one device: ours, host-device's, and the move alone as a process."""
    pods = {name: host.pod(f"pod{number}") for number, name in enumerate((OURS, GO, IP))}
    for number in range(3):
        host.veth(f"nic{number}")
    home = f"/proc/{os.getpid()}/ns/net"
    ours = {"devices": [{"name": "nic0"}]}
    theirs = {"device": "nic1"}
    pod = pods[IP].name
    times = take_turns(
        {
            f"{OURS} ADD": lambda: cni(host, OURS, "ADD", pods[OURS], "c0", ours),
            f"{GO} ADD": lambda: cni(host, GO, "ADD", pods[GO], "c1", theirs),
            f"{IP}, there": lambda: ip(f"link set nic2 netns {pod} name eth0"),
            f"{OURS} DEL": lambda: cni(host, OURS, "DEL", pods[OURS], "c0", ours),
            f"{GO} DEL": lambda: cni(host, GO, "DEL", pods[GO], "c1", theirs),
            f"{IP}, and back": lambda: ip(f"-n {pod} link set eth0 netns {home} name nic2"),
        },
        ROUNDS,
    )
    base = {verb: times[f"{GO} {verb}"] for verb in ("ADD", "DEL")}
    rows = [
        Row(name, values, base["DEL" if "DEL" in name or "back" in name else "ADD"])
        for name, values in times.items()
    ]
    return table("One device", f"{GO} {ADD_OR_DEL}", rows)


ADD_OR_DEL = "v1.9.1, the same verb"


def many_devices(host: Host) -> list[str]:
    """1, 8 and 32 devices in one pod against as many bare moves in one `ip` process."""
    pod, bare = host.pod("pod"), host.pod("bare")
    home = f"/proc/{os.getpid()}/ns/net"
    for number in range(64):
        host.ip(f"link add nic{number} type ifb")
    rows = []
    for count in (1, 8, 32):
        ours = {
            "devices": [
                {"name": f"nic{number}", "new_name": f"p{number}"} for number in range(count)
            ]
        }
        there = batch(f"link set nic{number + 32} netns {bare.name}" for number in range(count))
        back = batch(f"link set nic{number + 32} netns {home}" for number in range(count))
        times = take_turns(
            {
                "ADD": partial(cni, host, OURS, "ADD", pod, "c0", ours),
                "there": partial(ip_batch, there),
                "DEL": partial(cni, host, OURS, "DEL", pod, "c0", ours),
                "back": partial(ip_batch, back, "-n", bare.name),
            },
            ROUNDS // 4,
        )
        rows += [
            Row(f"ADD of {count}", times["ADD"], times["there"]),
            Row(f"DEL of {count}", times["DEL"], times["back"]),
        ]
    return table("Several devices in one pod", "as many bare moves by one `ip -b`", rows)


def ip_batch(text: str, *options: str) -> Command:
    return ["ip", *options, "-b", "-"], {"PATH": os.environ["PATH"]}, text


def batch(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def many_links(host: Host) -> list[str]:
    """The same ADD and DEL on a host with 10 links and on one with 2000, in turns."""
    small = Place.here()
    prepare_links(host, 10)
    with tempfile.TemporaryDirectory() as directory, Host.enter(Path(directory)) as other:
        large = Place.here()
        prepare_links(other, 2000)
        conf = {"devices": [{"name": "nic0"}]}
        hosts = {10: (small, host), 2000: (large, other)}

        def command(verb: str, count: int) -> Command:
            place, there = hosts[count]
            place.go()
            pod = Pod.__new__(Pod)
            pod.path = "/run/netns/pod"
            return cni(there, OURS, verb, pod, "c0", conf)

        times = take_turns(
            {
                f"{verb} with {count} links": partial(command, verb, count)
                for verb in ("ADD", "DEL")
                for count in (10, 2000)
            },
            ROUNDS // 2,
        )
        large.go()
    rows = [Row(name, values, times[f"{name[:3]} with 10 links"]) for name, values in times.items()]
    return table("A host with many links", "10 links", rows)


class Place(NamedTuple):
    """Namespaces to return to."""

    descriptors: tuple[int, ...]

    @classmethod
    def here(cls) -> Place:
        kinds = ("net", "mnt")
        return cls(tuple(os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY) for kind in kinds))

    def go(self) -> None:
        from cni_netdev.core.libc import setns

        for descriptor in self.descriptors:
            setns(descriptor, 0)


def prepare_links(host: Host, count: int) -> None:
    host.install()
    host.pod("pod")
    host.veth("nic0")
    lines = batch(f"link add ifb{number} type ifb" for number in range(count))
    subprocess.run(["ip", "-b", "-"], input=lines.encode(), check=True)


def pass_through(host: Host) -> list[str]:
    """What every pod pays that asks for nothing."""
    pod = host.pod("pod")
    previous = {"prevResult": {"cniVersion": "1.0.0", "interfaces": [], "ips": []}}
    version = lambda: ([str(host.bin_dir / GO)], {"CNI_COMMAND": "VERSION"}, json.dumps(CONF))  # noqa: E731
    times = take_turns(
        {
            "cni-netdev ADD, nothing asked for": lambda: cni(
                host, OURS, "ADD", pod, "c0", previous
            ),
            "loopback ADD": lambda: cni(host, "loopback", "ADD", pod, "c1", {}),
            "host-device VERSION": version,
            "python3 -IS, empty": lambda: ([sys.executable, "-ISc", ""], {}, ""),
        },
        ROUNDS,
    )
    rows = [Row(name, values, times["loopback ADD"]) for name, values in times.items()]
    return table("A pod that asks for nothing", "loopback ADD", rows)


def nri(host: Host) -> list[str]:
    """One device and none by NRI, timed by Go's runtime side around its call to the plugins."""
    inside, home = host.pod("pod"), f"/proc/{os.getpid()}/ns/net"
    for number in range(3):
        host.veth(f"nic{number}")
    asks = {KEY: "- {name: nic0, new_name: eth33, address: 192.168.2.2, prefix: 24}"}
    go_way = [str(PEERS / "nri-go-way"), "-link", "nic1", "-as", "eth44"]
    ours, theirs, nobody = (host.directory / name for name in ("ours", "theirs", "nobody"))
    with ExitStack() as stack:
        runtimes = {}
        for place in (ours, theirs, nobody):
            place.mkdir()
            runtimes[place] = stack.enter_context(GoRuntime(place))
        stack.enter_context(NriPlugin(host, runtimes[ours].socket))
        socket = str(runtimes[theirs].socket)
        peer = subprocess.Popen([*go_way, "-socket", socket], stderr=subprocess.DEVNULL)
        stack.callback(peer.wait)
        stack.callback(peer.terminate)
        for place in (ours, theirs):
            runtimes[place].wait_for("plugins", count=1)

        def ms(place: Path, op: str, annotations: dict[str, str]) -> float:
            one = pod("bench", annotations, netns=inside.path)
            return float(runtimes[place].do(op, pod=one)["ms"])

        rounds: dict[str, Callable[[], float]] = {
            "ours, one device: Run": lambda: ms(ours, "run", asks),
            "the Go way, one device: Run": lambda: ms(theirs, "run", {}),
            "ip link set netns, a process": lambda: timed(ip(f"link set nic2 netns {inside.name}")),
            "ours, one device: Stop": lambda: ms(ours, "stop", asks),
            "the Go way, one device: Stop": lambda: ms(theirs, "stop", {}),
            "ip, and back": lambda: timed(ip(f"-n {inside.name} link set nic2 netns {home}")),
            "ours, no annotation: Run": lambda: ms(ours, "run", {}),
            "no plugin: Run": lambda: ms(nobody, "run", {}),
        }
        times: Times = {name: [] for name in rounds}
        for number in range(ROUNDS + 1):
            for name, call in rounds.items():
                taken = call()
                if number:
                    times[name].append(taken)
    base = {verb: times[f"the Go way, one device: {verb}"] for verb in ("Run", "Stop")}
    rows = [
        Row(name, values, base["Stop" if "Stop" in name or "back" in name else "Run"])
        for name, values in times.items()
    ]
    what = "down, alias, rename, move, rename, up"
    return table("A pod on NRI", f"the Go way ({what})", rows, "calls")


def table(title: str, against: str, rows: Sequence[Row], kind: str = "whole process") -> list[str]:
    return [
        f"## {title}",
        "",
        f"| {kind}, {len(rows[0].times)} runs | median ms | least | most | x {against} |",
        "|---|---|---|---|---|",
        *(row.line() for row in rows),
        "",
    ]


PARTS: dict[str, Callable[[Host], list[str]]] = {
    "one": one_device,
    "many": many_devices,
    "links": many_links,
    "passthrough": pass_through,
    "nri": nri,
}


def machine() -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    return (
        f"{os.cpu_count()} cores of {model}, {memory} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def run(part: str) -> list[str]:
    with tempfile.TemporaryDirectory() as directory, Host.enter(Path(directory)) as host:
        host.install()
        lines = PARTS[part](host)
    print("\n".join(lines), flush=True)
    return lines


def main(parts: list[str]) -> int:
    unknown = set(parts) - set(PARTS)
    if unknown:
        print(f"unknown part {', '.join(unknown)}; known are {', '.join(PARTS)}")
        return 2
    lines = [line for part in parts or PARTS for line in run(part)]
    if not parts:
        heading = [
            "# Performance",
            "",
            "Written by `make bench`: the plugin beside its peers, started in turns in one run.",
            "Take the ratios, not the milliseconds.",
            "",
            f"Machine: {machine()}.",
            "",
        ]
        (ROOT / "docs" / "performance.md").write_text("\n".join([*heading, *lines]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
