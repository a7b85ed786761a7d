"""What is done on the host to a link before it leaves, beyond moving it, and to undo that; pure.

Done before the move, since the pod never holds the link otherwise; undone when it is home again and
before it goes up, since until then it is the pod's.
"""

from __future__ import annotations

from cni_netdev.core.errors import Fault
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.steps import (
    AddFilter,
    AddTcx,
    HoldProgram,
    RemoveTcx,
    SetQdisc,
    SetVf,
    Tune,
    Xdp,
)

if TYPE_CHECKING:
    from cni_netdev.core.model import Lent, Qdisc, Snapshot
    from cni_netdev.core.ports import Netns
    from cni_netdev.core.steps import Step


def faults(host: Netns, lent: Lent) -> list[Fault]:
    """What of it cannot be done to this link, looked at before anything is."""
    request, link = lent.request, lent.home.link
    found = []
    if not link.identity.ifindex:
        from cni_netdev.core import userspace

        found += userspace.faults(request, link)
    elif request.ethtool:
        from cni_netdev.core import tuning

        found += tuning.faults(request.ethtool, host.tunables(link.name), link.name, request.where)
    if request.vf:
        from cni_netdev.core import vf

        found += vf.faults(request.vf, lent.home.vf, link.name, request.where)
    if request.ebpf and link.identity.ifindex:
        reason = f"of {link.name} is on a bpf_link, which only its owner can make again"
        found += [
            Fault(f"{request.where}.ebpf", f"program {each} {reason}")
            for each in host.on_links(link.identity.ifindex)
        ]
    return found


def prepare(lent: Lent) -> list[Step]:
    """The steps before the move."""
    request, home = lent.request, lent.home
    steps: list[Step] = []
    if home.vf:
        from cni_netdev.core.vf import wanted

        after = wanted(request.vf, home.vf.settings)
        steps.append(SetVf(home.vf.pf, home.vf.number, home.vf.settings, after))
    if request.ethtool:
        steps.append(Tune(home.link.name, request.ethtool))
    if request.ebpf:
        steps.extend(_without_programs(home))
    return steps


def _without_programs(home: Snapshot) -> list[Step]:
    """Off, and kept loaded for the way back."""
    inode = home.link.identity.inode
    filters = [each.program for each in home.filters or ()]  # which go with the move
    attached = [program for _, program in (*home.link.xdp, *home.tcx)]
    programs = dict.fromkeys(filter(None, (*attached, *filters)))
    return [
        *(HoldProgram(inode, program) for program in programs),
        *(Xdp("host", mode, program, 0) for mode, program in home.link.xdp),
        *(RemoveTcx("host", attach, program) for attach, program in home.tcx),
    ]


def virtual_function(home: Snapshot, now: Snapshot) -> list[Step]:
    """Its physical function's settings of it, as they were."""
    had, has = home.vf, now.vf
    if had is None or (has is not None and has.settings == had.settings):
        return []
    return [SetVf(had.pf, had.number, has.settings if has else (), had.settings)]


def filters(home: Snapshot, now: Snapshot) -> list[Step]:
    """The clsact and its filters again, where they are programs and nothing else."""
    if not home.filters:
        return []
    steps: list[Step] = [SetQdisc("host", each, True) for each in _clsact(home, now)]
    missing = [each for each in home.filters if each not in (now.filters or ())]
    return steps + [AddFilter("host", each) for each in missing if each.program]


def _clsact(home: Snapshot, now: Snapshot) -> list[Qdisc]:
    return [each for each in home.qdiscs if each.kind == "clsact" and each not in now.qdiscs]


def programs(home: Snapshot, now: Snapshot) -> list[Step]:
    """The host's on it again, in their order, and what a pod planted off it."""
    steps: list[Step] = []
    had, has = dict(home.link.xdp), dict(now.link.xdp)
    steps.extend(
        Xdp("host", mode, has.get(mode, 0), had.get(mode, 0))
        for mode in sorted(had.keys() | has.keys())
        if had.get(mode) != has.get(mode)
    )
    steps.extend(RemoveTcx("host", *each) for each in now.tcx if each not in home.tcx)
    for at in reversed(range(len(home.tcx))):  # so that what comes behind is there
        attach, program = home.tcx[at]
        if home.tcx[at] not in now.tcx:
            behind = [each for each in home.tcx[at + 1 :] if each[0] == attach]
            steps.append(AddTcx("host", attach, program, behind[0][1] if behind else 0))
    return steps
