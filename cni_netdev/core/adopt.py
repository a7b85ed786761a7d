"""Taking over what the Go injector lent: a record made from what is found in the pod.

The Go injector keeps nothing but the link's host name, as its alias in the pod.  So that is all
that comes back of how the link was at home; otherwise it comes as it is found, without programs.
A pod can write its alias, so that a link counts only if it is older than the pod; and adopt only
when an operator says so, for the time of a migration, and under a policy.
"""

from __future__ import annotations

from cni_netdev.core.admission import admit_away
from cni_netdev.core.errors import CannotApply, DeviceNotFound, KernelRefused, NetdevError
from cni_netdev.core.holdings import held_by, holding, lent_for
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import Lent, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_netdev.core.model import DeviceRequest, Link, Record
    from cni_netdev.core.policy import Pod, Policy
    from cni_netdev.core.ports import Netns


class Adopter:
    """Finds what the Go injector left in one pod."""

    def __init__(self, host: Netns, target: Netns, records: Iterable[Record]) -> None:
        self._host = host
        self._target = target
        self._records = tuple(records)

    def find(
        self, requests: tuple[DeviceRequest, ...], policy: Policy, pod: Pod
    ) -> tuple[tuple[Lent, ...], tuple[str, ...]]:
        """The devices that are there, each to come home under the name in its alias.

        Also a sentence for each request that cannot be adopted, and why.  Raises KernelRefused
        when that cannot be told.
        """
        lent: list[Lent] = []
        notes = []
        for request in requests:
            try:
                each = self._lent(request)
                _refuse_twice(each, lent)
                admit_away(request, each.home, policy, pod)
            except KernelRefused:
                raise  # a record of the others would keep this one from being adopted later
            except NetdevError as error:
                notes.append(error.message)
            else:
                lent.append(each)
        return tuple(lent), tuple(notes)

    def _lent(self, request: DeviceRequest) -> Lent:
        """Nothing of the addresses and routes asked for: the Go injector sets none."""
        link = self._link(request)
        self._refuse_if_not_ours_to_take(request, link)
        settings = link.settings._replace(name=request.selector.value, alias="")
        # What it is stacked on or enslaved to is told from inside the pod, in the pod's numbers.
        # An XDP program would run on at home; by now it is the pod's.
        home = link._replace(
            settings=settings, master=0, lower=0, lower_elsewhere=False, uppers=(), xdp=()
        )
        return Lent(request, Snapshot(home), expected=link.settings)

    def _link(self, request: DeviceRequest) -> Link:
        name = request.new_name or request.selector.value
        link = self._target.link(name=name) if request.selector.kind == "name" else None
        if link is None or link.loopback or link.settings.alias != request.selector.value:
            raise DeviceNotFound(
                f"{request.where}: the pod has no link {name!r} with the alias "
                f"{request.selector.value!r}, by which the Go injector marks what it lent"
            )
        return link

    def _refuse_if_not_ours_to_take(self, request: DeviceRequest, link: Link) -> None:
        holder = holding(link.identity, self._records)
        if holder is not None:
            raise held_by(link.name, holder)
        namesake = lent_for(request, self._records)
        if namesake is not None:
            raise held_by(str(request.selector), namesake.owner)
        if self._host.link(name=request.selector.value) is not None:
            raise CannotApply(
                f"{request.selector.value!r} is the name of another link on the host by now"
            )
        if self._target.may_have_made(link):
            raise CannotApply(
                f"{request.where}: {link.name!r} is younger than its pod's network namespace, so "
                "that the pod itself may have made it and given it its alias"
            )


def _refuse_twice(lent: Lent, others: Iterable[Lent]) -> None:
    """One link has one alias, so that twice the same link is twice the same name."""
    name = lent.home.link.name
    for other in others:
        if other.home.link.name == name:
            raise CannotApply(
                f"{lent.request.where}: {name} is adopted already by {other.request.where}"
            )
