"""What is to be done, as printable steps; nothing here touches the system.

Every step that changes something has its inverse beside it.  ``attach`` makes the way out from
requests and snapshots.  The way back is made from what is *seen*, since a message that failed may
have moved its link and a pod may have changed what it held: ``leave_pod`` is the inverse of the
move, cleaned of what the pod planted, and ``settle`` brings a link at home back to its snapshot,
whatever state it is in.

Rejected: unwinding a failed attach by the inverses of the steps done so far.  It trusts that a
step either happened or not, which a link move does not promise (see reference: EEXIST after the
move).
"""

from __future__ import annotations

from cni_netdev.core import hostside, kinddata
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.model import (
    AF_INET,
    AF_INET6,
    IFF_UP,
    Address,
    Lent,
    LinkSettings,
    Route,
    Snapshot,
)
from cni_netdev.core.steps import (
    Altname,
    Change,
    Master,
    Move,
    SetAddress,
    SetEthtool,
    SetForwarding,
    SetKindData,
    SetNeighbour,
    SetQdisc,
    SetRoute,
    Sysctl,
)

if TYPE_CHECKING:
    from cni_netdev.core.model import DeviceRequest, Granted, Link, RouteRequest
    from cni_netdev.core.outfit import Stage
    from cni_netdev.core.steps import Place, Step

RT_SCOPE_LINK = 253
RTPROT_STATIC, RTPROT_RA = 4, 9
IP6_RT_PRIO_USER = 1024  # what the kernel gives an IPv6 route without a priority
_LAST_PREFIX_WITH_BROADCAST = 30


# --- the way out -----------------------------------------------------------------------------


def lend(request: DeviceRequest, home: Snapshot) -> Lent:
    """What the pod's side is to be, from what was asked for and what the link is at home."""
    settings = home.link.settings
    up = IFF_UP if request.up else 0
    expected = settings._replace(
        name=request.new_name or settings.name,
        mtu=request.mtu or settings.mtu,
        mac=request.mac or dict(request.vf).get("mac") or settings.mac,
        flags=(settings.flags & ~IFF_UP) | up,
    )
    kept = home if request.keep_addresses else Snapshot(home.link)
    addresses = _distinct(
        *(_relabelled(address, settings.name, expected.name) for address in kept.addresses),
        *(address_of(cidr) for cidr in request.addresses),
    )
    routes = (
        *(own for route in _lasting(kept.routes) for own in own_legs(route)),
        *(route_of(route) for route in request.routes),
    )
    if request.extras:
        from cni_netdev.core import outfit

        expected = outfit.dressed(expected, request.extras)
        addresses = outfit.flagged(addresses, request.extras)
        routes = outfit.routed(routes, request.extras)
    return Lent(request, home, expected, addresses, routes)


def with_lease(lent: Lent, granted: Granted) -> Lent:
    """The same with what an IPAM plugin gave; a route that was asked for comes before its own."""
    own = {_place_of_route(each) for each in lent.routes}
    addresses = tuple(map(address_of, granted.addresses))
    routes = tuple(map(route_of, granted.routes))
    if lent.request.extras:
        from cni_netdev.core import outfit

        addresses = outfit.flagged(addresses, lent.request.extras)
        routes = outfit.routed(routes, lent.request.extras)
    return lent._replace(
        addresses=_distinct(*lent.addresses, *addresses),
        routes=(*lent.routes, *(each for each in routes if _place_of_route(each) not in own)),
    )


def _place_of_route(route: Route) -> tuple[str, int, int]:
    return (route.dst, route.priority, route.table)


def attach(devices: tuple[Lent, ...], strip: tuple[frozenset[str], ...]) -> list[tuple[int, Step]]:
    """The steps, each with the position of its device.

    All links move first, so that a route may use another device's address.
    """
    return moves(devices, strip) + contents(devices)


def moves(devices: tuple[Lent, ...], strip: tuple[frozenset[str], ...]) -> list[tuple[int, Step]]:
    """Of an attach, the steps by which the links get there.

    strip: for each device the altnames that cannot come along (taken in the pod, or equal to its
    own new name there).
    """
    steps: list[tuple[int, Step]] = []
    for position, lent in enumerate(devices):
        steps.extend((position, Altname("host", name, False)) for name in sorted(strip[position]))
        steps.extend((position, step) for step in hostside.prepare(lent))
        steps.extend((position, step) for step in _rdma(lent))
        if lent.home.link.identity.ifindex:
            steps.append((position, Move("host", lent.home.link.settings, _arriving(lent))))
    return steps


def contents(devices: tuple[Lent, ...]) -> list[tuple[int, Step]]:
    """Of an attach, the steps that come when all links are there."""
    steps = _besides(devices, "moved")
    for position, lent in enumerate(devices):
        steps.extend(
            (position, SetAddress("pod", each, True)) for each in _in_order(lent.addresses)
        )
    steps.extend(_besides(devices, "addressed"))
    placed = [
        (position, step) for position, lent in enumerate(devices) for step in _routes_in_pod(lent)
    ]
    placed.sort(key=lambda each: _needs_another_route(each[1].route))
    steps.extend(placed)
    steps.extend(_besides(devices, "routed"))
    return steps


def _arriving(lent: Lent) -> LinkSettings:
    if not lent.request.extras:
        return lent.expected
    from cni_netdev.core import outfit

    return outfit.arriving(lent)


def _besides(devices: tuple[Lent, ...], stage: Stage) -> list[tuple[int, Step]]:
    """What few requests ask for, as far as its turn has come."""
    steps: list[tuple[int, Step]] = []
    for position, lent in enumerate(devices):
        if lent.request.extras:
            from cni_netdev.core import outfit

            steps.extend((position, step) for step in outfit.steps(lent, stage))
        if stage == "routed" and lent.home.rdma and lent.request.rdma:
            from cni_netdev.core import rdma

            steps.extend((position, step) for step in rdma.additions(lent))
    return steps


def _rdma(lent: Lent) -> list[Step]:
    """Before the link: when its driver refuses, nothing else has moved."""
    if not lent.home.rdma:
        return []
    from cni_netdev.core import rdma  # few links have any

    return [*rdma.moves(lent)]


def _routes_in_pod(lent: Lent) -> list[SetRoute]:
    """Those of a lease are the network's, and may be another interface's already: then they go
    behind that.
    """
    steps = _added("pod", lent.routes)
    asked = len(lent.request.routes) if lent.request.ipam else len(steps)
    return [*steps[:asked], *(step._replace(append=True) for step in steps[asked:])]


def _needs_another_route(route: Route) -> bool:
    return route.gateway is not None or bool(route.nexthops)


def address_of(cidr: str) -> Address:
    """The address to add for a CIDR; IPv4 gets the usual broadcast, as from the CNI plugins."""
    address, _, bits = cidr.partition("/")
    family = AF_INET6 if ":" in address else AF_INET
    return Address(family, address, int(bits), broadcast=_broadcast(family, address, int(bits)))


def _broadcast(family: int, address: str, prefix: int) -> str | None:
    if family != AF_INET or prefix > _LAST_PREFIX_WITH_BROADCAST:
        return None
    number = 0
    for part in address.split("."):
        number = number << 8 | int(part)
    number |= (1 << (32 - prefix)) - 1
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def route_of(request: RouteRequest) -> Route:
    """The route to add for a request; on-link unless it has a gateway."""
    family = AF_INET6 if ":" in request.dst else AF_INET
    on_link = family == AF_INET and request.gw is None
    metrics = (("mtu", request.mtu), ("advmss", request.advmss))
    return Route(
        family=family,
        dst=request.dst,
        gateway=request.gw,
        prefsrc=request.src,
        priority=request.priority or 0,
        table=request.table or 254,
        scope=request.scope if request.scope is not None else RT_SCOPE_LINK if on_link else 0,
        protocol=RTPROT_STATIC,
        metrics=tuple((name, value) for name, value in metrics if value is not None),
    )


def _lasting(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """Without what router advertisements bring again, and what cannot be said in full."""
    return tuple(each for each in routes if each.protocol != RTPROT_RA and not each.partial)


def _relabelled(address: Address, old: str, new: str) -> Address:
    """An IPv4 label must begin with the link's name (net/ipv4/devinet.c)."""
    if address.label is None or not address.label.startswith(old):
        return address
    return address._replace(label=new + address.label[len(old) :])


def _distinct(*addresses: Address) -> tuple[Address, ...]:
    chosen: dict[tuple[str, int], Address] = {}
    for each in addresses:
        chosen.setdefault((each.address, each.prefix), each)
    return tuple(chosen.values())


def _in_order(addresses: tuple[Address, ...]) -> list[Address]:
    """The order in which to add them so that the kernel lists them as given.

    IPv4 appends; IPv6 puts a new address before the others of its scope (net/ipv6/addrconf.c).
    """
    v4 = [each for each in addresses if each.family == AF_INET]
    v6 = [each for each in addresses if each.family == AF_INET6]
    return v4 + v6[::-1]


# --- the way back ----------------------------------------------------------------------------


def leave_pod(lent: Lent, seen: Link, name: str, taken: frozenset[str]) -> list[Step]:
    """From the pod to the host, under ``name``, down, without the altnames that the pod planted.

    seen: the link as it is in the pod.  taken: those of its altnames at home that the host uses.
    """
    unwanted = [each for each in seen.altnames if each not in lent.home.link.altnames]
    clashing = [each for each in seen.altnames if each in taken or each == name]
    dropped = dict.fromkeys([*unwanted, *clashing])
    steps: list[Step] = [Altname("pod", each, False) for each in dropped]
    if seen.phy:
        from cni_netdev.core import wifi

        steps.extend(wifi.planted(seen.phy, "pod"))
    home = lent.home.link.settings
    arriving = home._replace(name=name, flags=home.flags & ~IFF_UP, token=seen.settings.token)
    if lent.home.vf:
        # It may have another MAC only when its physical function lets it; settle does both.
        arriving = arriving._replace(mac=seen.settings.mac)
    out = Move("host", arriving, seen.settings)
    steps.append(out.inverse())
    return steps


def settle(home: Snapshot, now: Snapshot, name: str) -> list[Step]:
    """From ``now``, as the link is on the host, to its snapshot, under ``name``.

    Ordered by the kernel's needs: renamed and readdressed while down, IPv6's way of making
    addresses and the sysctls before it goes up, addresses before routes.  Steps for what is
    already there are left out, so that it can be repeated after any interruption.
    """
    link, seen = home.link, now.link
    steps: list[Step] = []
    wanted = link.settings._replace(name=name)
    present, there = seen.settings, now.addresses
    retyped = link.phy is not None and seen.phy is not None and link.phy.type != seen.phy.type
    readdressed = (present.name, present.mac) != (wanted.name, wanted.mac)
    if present.up and (readdressed or retyped):
        steps.append(Change("host", present, _down(present)))
        present = _down(present)
        # Going down flushes IPv4 routes and IPv6 addresses: all is added again where it is missing.
        now = now._replace(addresses=(), routes=(), neighbours=())
    if link.phy and seen.phy:
        from cni_netdev.core import wifi  # not of every link

        steps.extend(wifi.settle(link.phy, seen.phy))
    if present.name != wanted.name:
        # The kernel would give the IPv4 labels numbers; secondary ones go before their primary.
        ours = {_place_of(each) for each in home.addresses}
        steps.extend(
            SetAddress("host", each, False)
            for each in reversed(there)
            if each.family == AF_INET and _place_of(each) in ours
        )
        now = now._replace(addresses=(), routes=())
    steps.extend(
        Altname("host", each, False) for each in seen.altnames if each not in link.altnames
    )
    steps.extend(hostside.virtual_function(home, now))
    parked = wanted._replace(
        flags=wanted.flags & ~IFF_UP | present.flags & IFF_UP, token=present.token
    )
    if parked != present:
        steps.append(Change("host", present, parked))
    steps.extend(_kind_data(home, now))
    steps.extend(hostside.programs(home, now))
    steps.extend(_sysctls(home, now, name))
    steps.extend(_ethtool(home, now, name))
    filtering = hostside.filters(home, now)
    steps.extend(filtering)
    if wanted != parked:
        steps.append(Change("host", parked, wanted))
    steps.extend(
        step
        for step in (SetQdisc("host", each, True) for each in home.qdiscs if each not in now.qdiscs)
        if step not in filtering
    )
    if link.master and link.master != seen.master:
        steps.append(Master("host", seen.master, link.master))
    steps.extend(Altname("host", each, True) for each in link.altnames if each not in seen.altnames)
    steps.extend(_contents(home, now, name))
    if home.rdma:
        from cni_netdev.core import rdma

        steps.extend(rdma.settle(home.rdma, now.rdma, name))
    return steps


def pieces(change: Change) -> tuple[Change, ...]:
    """The same change, one setting at a time: what one is refused for keeps no other back."""
    settings = change.before
    single = []
    for field in LinkSettings._fields:
        following = settings._replace(**{field: getattr(change.after, field)})
        if following != settings:
            single.append(Change(change.place, settings, following))
        settings = following
    return tuple(single)


def _down(settings: LinkSettings) -> LinkSettings:
    return settings._replace(flags=settings.flags & ~IFF_UP)


def _kind_data(home: Snapshot, now: Snapshot) -> list[Step]:
    kind, wanted, present = home.link.kind or "", home.link.data, now.link.data
    if not wanted or not kinddata.changed(kind, present, wanted):
        return []
    return [SetKindData("host", kind, present, wanted)]


def _sysctls(home: Snapshot, now: Snapshot, name: str) -> list[Step]:
    """Those that differ, or cannot be read now: IPv6's are absent below an MTU of 1280, and
    stable_secret until it is set, which must be before the mode that uses it.
    """
    has = dict(now.sysctls)
    differing = [(key, value) for key, value in home.sysctls if has.get(key) != value]
    differing.sort(key=lambda pair: not pair[0].endswith("/stable_secret"))
    return [Sysctl(name, key, has.get(key, ""), value) for key, value in differing]


def _ethtool(home: Snapshot, now: Snapshot, name: str) -> list[Step]:
    has = dict(now.ethtool)
    return [
        SetEthtool(name, key, has[key], value)
        for key, value in home.ethtool
        if has.get(key, value) != value
    ]


def _contents(home: Snapshot, now: Snapshot, name: str) -> list[Step]:
    old = home.link.name
    wanted = _in_order(tuple(_relabelled(each, old, name) for each in home.addresses))
    there = {_place_of(each) for each in now.addresses}
    missing = [each for each in wanted if _place_of(each) not in there]
    late = _behind(missing, wanted)
    steps: list[Step] = [SetAddress("host", each, False) for each in reversed(late)]
    steps.extend(SetAddress("host", each, True) for each in wanted if each in (*missing, *late))
    if late:  # the kernel takes routes away with an address
        now = now._replace(routes=())
    steps.extend(_routes(home, now))
    steps.extend(
        SetNeighbour("host", each, True) for each in home.neighbours if each not in now.neighbours
    )
    steps.extend(_forwarding(home, now))
    return steps


def _forwarding(home: Snapshot, now: Snapshot) -> list[Step]:
    if home.forwarding is None or now.forwarding is None:
        return []
    planted = [each for each in now.forwarding if each not in home.forwarding]
    missing = [each for each in home.forwarding if each not in now.forwarding]
    return [
        *(SetForwarding("host", each, False) for each in planted),
        *(SetForwarding("host", each, True) for each in missing),
    ]


def _behind(missing: list[Address], wanted: list[Address]) -> list[Address]:
    """Those that are there and were added after a missing one of their kind: out of order."""
    behind = []
    kinds = set()
    for each in wanted:
        if each in missing:
            kinds.add((each.family, each.scope))
        elif (each.family, each.scope) in kinds:
            behind.append(each)
    return behind


def _place_of(address: Address) -> tuple[str, int, str | None]:
    """What makes an address another one to the kernel."""
    return (address.address, address.prefix, address.peer)


def _routes(home: Snapshot, now: Snapshot) -> list[SetRoute]:
    """What is missing, direct ones first.

    Of an IPv6 multipath route the other links' legs are still there: only ours is added to them.
    """
    lasting = _lasting(home.routes)
    legs = tuple(each for each in lasting if each.family == AF_INET6 and each.nexthops)
    whole = tuple(each for each in lasting if each not in legs)
    missing = [step for step in _added("host", whole) if step.route not in now.routes]
    missing.sort(key=lambda step: _needs_another_route(step.route))
    missing.extend(
        SetRoute("host", own, True, True)
        for each in legs
        if each not in now.routes
        for own in own_legs(each)
    )
    return missing


def _added(place: Place, routes: tuple[Route, ...]) -> list[SetRoute]:
    """In their order; those to one destination go beside each other."""
    keys = [(route.dst, route.tos, route.priority, route.table) for route in routes]
    return [
        SetRoute(place, route, True, keys.count(key) > 1)
        for route, key in zip(routes, keys, strict=True)
    ]


def own_legs(route: Route) -> tuple[Route, ...]:
    """The route itself, or of a multipath one a route for each leg through the link."""
    if not route.nexthops:
        return (route,)
    own = [hop for hop in route.nexthops if not hop.ifindex]
    return tuple(route._replace(gateway=hop.gateway, nexthops=()) for hop in own)
