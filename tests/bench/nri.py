"""One device and none by NRI, timed by Go's runtime side around its call to the plugins."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from cni_netdev.core.kernel import SystemKernel
from tests.bench.commands import ip
from tests.bench.table import Row, Table
from tests.bench.turns import Sample, process, take_turns
from tests.host import PEERS
from tests.injector import KEY, NriPlugin
from tests.nri_runtime import GoRuntime, pod

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cni_netdev.core.changes import SystemNetns
    from tests.bench.turns import Contenders
    from tests.host import Host, Pod

_OURS, _GO, _IP = "ours", "the Go way", "ip link set netns, a process"
_ALONE = "the move alone, one message"
_NOTHING, _NO_PLUGIN = "ours, no annotation: Run", "no plugin: Run"


def by_nri(host: Host) -> list[Table]:
    """One device by us, the Go way and bare, and pods that ask for nothing."""
    inside = host.pod("pod")
    for number in range(4):
        host.veth(f"nic{number}")
    with ExitStack() as stack:
        samples = take_turns(*_phases(host, inside, stack))
    rows = [
        Row(each, samples[each], samples[f"{_GO}: {verb}"])
        for verb in ("Run", "Stop")
        for each in (f"{who}: {verb}" for who in (_OURS, _GO, _IP, _ALONE))
    ]
    rows[0] = rows[0]._replace(name="nri")
    rows += [Row(each, samples[each], samples[f"{_GO}: Run"]) for each in (_NOTHING, _NO_PLUGIN)]
    beyond = [
        Row(f"{_OURS}: {verb}", samples[f"{_OURS}: {verb}"], samples[f"{_ALONE}: {verb}"], name)
        for verb, name in (("Run", "nri-run"), ("Stop", "nri-stop"))
    ]
    beyond = [row._replace(beyond=True) for row in beyond]
    beyond[0] = beyond[0]._replace(limit=5)
    what = "down, alias, rename, move, rename, up"
    return [
        Table("A pod on NRI, one device", f"x {_GO} ({what})", rows, "calls"),
        Table("A pod on NRI, beyond the move", f"beyond {_ALONE}", beyond, "calls"),
    ]


def _phases(host: Host, inside: Pod, stack: ExitStack) -> tuple[Contenders, ...]:
    asks = {KEY: "- {name: nic0, new_name: eth33, address: 192.168.2.2, prefix: 24}"}
    ours, theirs, nobody = (host.directory / name for name in ("ours", "theirs", "nobody"))
    runtimes = {}
    for place in (ours, theirs, nobody):
        place.mkdir()
        runtimes[place] = stack.enter_context(GoRuntime(place))
    stack.enter_context(NriPlugin(host, runtimes[ours].socket, verbose=False))
    go_way = [str(PEERS / "nri-go-way"), "-link", "nic1", "-as", "eth44"]
    socket = str(runtimes[theirs].socket)
    peer = subprocess.Popen([*go_way, "-socket", socket], stderr=subprocess.DEVNULL)
    stack.callback(peer.wait)
    stack.callback(peer.terminate)
    for place in (ours, theirs):
        runtimes[place].wait_for("plugins", count=1)

    def call(place: Path, op: str, annotations: dict[str, str]) -> Callable[[], Sample]:
        one = pod("bench", annotations, netns=inside.path)
        return lambda: Sample(float(runtimes[place].do(op, pod=one)["ms"]))

    there, back = _moves(inside, stack)
    home = f"/proc/{os.getpid()}/ns/net"
    runs: Contenders = {
        f"{_OURS}: Run": call(ours, "run", asks),
        f"{_GO}: Run": call(theirs, "run", {}),
        f"{_IP}: Run": process(partial(ip, f"link set nic2 netns {inside.name}")),
        f"{_ALONE}: Run": there,
    }
    stops: Contenders = {
        f"{_OURS}: Stop": call(ours, "stop", asks),
        f"{_GO}: Stop": call(theirs, "stop", {}),
        f"{_IP}: Stop": process(partial(ip, f"-n {inside.name} link set nic2 netns {home}")),
        f"{_ALONE}: Stop": back,
    }
    nothing: Contenders = {
        _NOTHING: call(ours, "run", {}),
        _NO_PLUGIN: call(nobody, "run", {}),
    }
    return runs, stops, nothing


def _moves(inside: Pod, stack: ExitStack) -> tuple[Callable[[], Sample], Callable[[], Sample]]:
    """What the kernel itself takes for the one message, there and back."""
    kernel = SystemKernel()
    stack.callback(kernel.close)
    target = kernel.open(inside.path)
    stack.callback(target.close)
    return partial(_move, kernel.host, target), partial(_move, target, kernel.host)


def _move(here: SystemNetns, there: SystemNetns) -> Sample:
    link = here.link(name="nic3")
    assert link is not None
    start = time.perf_counter()
    here.move(link.identity.ifindex, there, link.settings, link.settings)
    return Sample((time.perf_counter() - start) * 1000)
