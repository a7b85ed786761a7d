"""What a pod stacked on a link that is on the host by now: nobody is to hear its next holder.

The link is down until this is done.  What was on it when it was lent is the host's, and stays.
"""

from __future__ import annotations

from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cni_netdev.core.model import Link, Snapshot
    from cni_netdev.core.ports import Kernel, Netns

_HEARD = (
    "{} is back but stays down and is lent to nobody: something that the pod stacked on it is in a"
    " namespace that cannot be found, and would hear what it hears; end the processes that keep"
    " that, or have the link made anew (a PCI device: unbind and bind its driver)"
)

_OPEN = (
    "{} is back but stays down and is lent to nobody: a process that had it from the pod has it"
    " open still, and hears what is sent there; end that process"
)


class Silenced(NamedTuple):
    """notes: what had been hidden, or still is.  heard: something on the link hears it still."""

    notes: tuple[str, ...]
    heard: bool


def silence(kernel: Kernel, home: Snapshot, link: Link, pod: Netns | None) -> Silenced:
    """Delete what the pod stacked on the link, wherever that is by now.

    pod: its namespace, where that is still to be had.  Raises KernelRefused.
    """
    host, ifindex = kernel.host, link.identity.ifindex
    # One that is up was asked before it was put up; to open it would give it a carrier again, and
    # with that an address.
    came = home.link.kind == "tun" and not home.link.opened and not link.settings.up
    if came and host.is_open(link):
        return Silenced((_OPEN.format(home.link.name),), heard=True)
    if not home.quiet:
        return Silenced((), heard=False)
    deleted: tuple[str, ...] = ()
    heard = host.overheard(link)
    if pod is not None and (heard or pod.knows_others(host)):
        deleted = pod.delete_stacked(ifindex, host)
        heard = heard and host.overheard(link)
    if heard:
        deleted += kernel.hunt(link)
        heard = host.overheard(link)
    notes = [_HEARD.format(home.link.name)] if heard else []
    if deleted:
        notes.append(f"{home.link.name}: deleted what the pod had left on it: {', '.join(deleted)}")
    return Silenced(tuple(notes), heard)
