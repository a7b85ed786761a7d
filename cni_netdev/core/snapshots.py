"""What a link is at home, and whether it still is so.

Others work on the host's links too, and ask for none of our locks: udev renames, NetworkManager
sets addresses, another injector takes a link.  A snapshot is therefore held against a second look
just before the link moves; what comes home is the link as it was then.
"""

from __future__ import annotations

import errno

from cni_netdev.core.errors import KernelRefused, LinkChanged
from cni_netdev.core.lean import TYPE_CHECKING, contextmanager
from cni_netdev.core.model import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_netdev.core.model import Link, VirtualFunction
    from cni_netdev.core.ports import Netns


def take(
    host: Netns,
    link: Link,
    vf: tuple[tuple[str, str], ...] = (),
    *,
    filters: bool = False,
    quiet: bool | None = None,
) -> Snapshot:
    """Everything of a link that lending it can lose; what daemons change most is looked at last.

    vf: of a virtual function, what is to be set.  filters: look at tc's, too.
    quiet: as it was found a moment ago, so that it is not asked again.
    Raises LinkChanged when it is gone, KernelRefused when it cannot be looked at.
    """
    ifindex = link.identity.ifindex
    with _there(link):
        if not ifindex:
            found = _virtual_function(host, link, vf) if vf else None
            return Snapshot(link=link, quiet=True, vf=found)
        return Snapshot(
            link=link,
            vf=_virtual_function(host, link, vf) if vf else None,
            quiet=not host.overheard(link) if quiet is None else quiet,
            tcx=host.tcx(ifindex),
            filters=host.filters(ifindex) if filters else None,
            qdiscs=host.qdiscs(ifindex),
            forwarding=host.forwarding(ifindex),
            sysctls=host.sysctls(link.name),
            ethtool=host.ethtool(link.name),
            rdma=host.rdma(link),
            neighbours=host.neighbours(ifindex),
            routes=host.routes(ifindex),
            addresses=host.addresses(ifindex),
        )


def _virtual_function(
    host: Netns, link: Link, asked: tuple[tuple[str, str], ...]
) -> VirtualFunction | None:
    from cni_netdev.core.vf import touched

    seen = host.virtual_function(link.identity.bus) if link.identity.bus else None
    return seen and seen._replace(settings=touched(asked, seen.settings))


def refuse_if_changed(host: Netns, home: Snapshot, *, alone: bool = True) -> None:
    """Raises LinkChanged when the link is not as the snapshot has it any more.

    alone: no other link of its attachment has moved yet.  Afterwards some of it may be our own
    doing (a veth's peer left, routes over both are gone), and only its settings and addresses are
    compared.
    """
    ifindex = home.link.identity.ifindex
    if not ifindex:
        if host.user_space(home.link.name) != home.link:
            raise taken_away(home.link)
        return
    with _there(home.link):
        now = (
            take(
                host,
                home.link,
                home.vf.settings if home.vf else (),
                filters=home.filters is not None,
                quiet=home.quiet,
            )
            if alone
            else home._replace(addresses=host.addresses(ifindex))
        )
    link = host.link(ifindex=ifindex)  # the last look, since names change most
    if link is None or not home.link.identity.same_link(link.identity):
        raise taken_away(home.link)
    now = now._replace(link=link if alone else home.link._replace(settings=link.settings))
    changes = _changes(home, now)
    if changes:
        raise LinkChanged(
            f"link {home.link.name} was changed while it was being lent: {', '.join(changes)}",
            "somebody else works on it: try again",
        )


@contextmanager
def _there(link: Link) -> Iterator[None]:
    """For looks at the link.  Raises LinkChanged when it is gone."""
    try:
        yield
    except KernelRefused as error:
        if error.errno != errno.ENODEV:
            raise
        raise taken_away(link) from error


def taken_away(link: Link) -> LinkChanged:
    return LinkChanged(
        f"link {link.name} was taken away while it was being lent",
        "somebody else works on it: try again",
    )


def _changes(home: Snapshot, now: Snapshot) -> list[str]:
    """What is otherwise by now, in a word or two each."""
    old, new = home.link.settings, now.link.settings
    changes = [
        f"{name} {after!r}"
        for name, before, after in zip(old._fields, old, new, strict=True)
        if before != after
    ]
    for before, after in ((home.link, now.link._replace(settings=old)), (home, now)):
        fields = zip(before._fields, before, after, strict=True)
        changes += [name for name, was, is_ in fields if name != "link" and was != is_]
    return changes
