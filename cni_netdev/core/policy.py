"""Who may have which link; pure.

Three layers, the first that speaks decides:
always refused     links that the kernel cannot move, and lo
guards             links that the node needs; they bind every source, and only an allow rule with
                   the link's very name lifts them
rules              in order, for what tenants and runtimes ask; the operator's own ``devices`` are
                   not bound by them.  No rule matches: ``default``, which is allow.

    {"default": "deny",
     "rules": [{"allow": {"names": ["enp*"], "namespaces": ["hpc-*"]}}, {"deny": {...}}]}

All keys of a rule must match, each by any of its globs (fnmatch(3)); ``names`` cover altnames,
``kinds`` has ``physical`` for hardware.  What is not known of a pod (its namespace without
Kubernetes, its labels in CNI) lets no allow rule match and every deny rule: fail closed.
"""

from __future__ import annotations

from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cni_netdev.core.model import Link, Snapshot, Source

_GLOB_KEYS = ("names", "drivers", "kinds", "pci", "namespaces")
_DEFAULT_ROUTES = frozenset(("0.0.0.0/0", "::/0"))
# Before 6.15 the kernel does not say so; these it has always tied (NETIF_F_NETNS_LOCAL).
_TIED = frozenset(("bridge", "bond", "team", "vrf", "openvswitch", "batadv", "hsr"))
_WITH_FILTERS = frozenset(("clsact", "ingress"))
_WITH_CLASSES = frozenset(
    ("htb", "hfsc", "prio", "drr", "ets", "qfq", "cbq", "mqprio", "taprio", "multiq")
)
_UNICAST = 1
_MOST_RULES = 1024


class Rule(NamedTuple):
    """One rule.  None: the key is absent and matches anything."""

    allow: bool
    where: str
    names: tuple[str, ...] | None = None
    drivers: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    pci: tuple[str, ...] | None = None
    namespaces: tuple[str, ...] | None = None
    labels: tuple[tuple[str, str], ...] | None = None


class Policy(NamedTuple):
    """Ordered rules, and what holds when none matches."""

    rules: tuple[Rule, ...] = ()
    default_allow: bool = True
    where: str = "policy"


class Pod(NamedTuple):
    """What is known of the pod that asks; None is unknown."""

    name: str | None = None
    namespace: str | None = None
    labels: tuple[tuple[str, str], ...] | None = None


class Verdict(NamedTuple):
    """Whether a link may go, and which rule or guard says so."""

    allowed: bool
    reason: str


# --- loading ---------------------------------------------------------------------------------


def parse_policy(value: object, where: str = "policy") -> Policy:
    """A decoded policy.  Raises RequestError with every fault in it."""
    faults: list[Fault] = []
    if not isinstance(value, dict):
        raise RequestError((Fault(where, "must be an object with default and rules"),))
    _unknown(value, ("default", "rules"), where, faults)
    default = value.get("default", "allow")
    if default not in ("allow", "deny"):
        faults.append(Fault(f"{where}.default", f"{default!r} is neither allow nor deny"))
    listed = value.get("rules", [])
    if not isinstance(listed, list) or len(listed) > _MOST_RULES:
        faults.append(Fault(f"{where}.rules", f"must be a list of at most {_MOST_RULES} rules"))
        listed = []
    rules = [_rule(each, f"{where}.rules[{n}]", faults) for n, each in enumerate(listed)]
    if faults:
        raise RequestError(tuple(faults))
    return Policy(tuple(filter(None, rules)), default == "allow", where)


def _rule(value: object, where: str, faults: list[Fault]) -> Rule | None:
    if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in ("allow", "deny"):
        faults.append(Fault(where, "must be an object with one key, allow or deny"))
        return None
    verb, match = next(iter(value.items()))
    if not isinstance(match, dict):
        faults.append(Fault(f"{where}.{verb}", "must be an object; {} matches every link"))
        return None
    _unknown(match, (*_GLOB_KEYS, "labels"), f"{where}.{verb}", faults)
    globs = {
        key: _globs(match[key], f"{where}.{verb}.{key}", faults)
        for key in _GLOB_KEYS
        if key in match
    }
    labels = (
        _labels(match["labels"], f"{where}.{verb}.labels", faults) if "labels" in match else None
    )
    return Rule(verb == "allow", where, labels=labels, **globs)


def _unknown(
    value: dict[str, object], known: tuple[str, ...], where: str, faults: list[Fault]
) -> None:
    from cni_netdev.core.values import nearest

    faults.extend(
        Fault(f"{where}.{key}", f"unknown key{nearest(str(key), known)}")
        for key in value
        if key not in known
    )


def _globs(value: object, where: str, faults: list[Fault]) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        faults.append(Fault(where, "must be a list of at least one glob"))
        return ()
    for number, each in enumerate(value):
        reason = _bad_glob(each)
        if reason:
            faults.append(Fault(f"{where}[{number}]", reason))
    return tuple(each for each in value if isinstance(each, str))


def _labels(value: object, where: str, faults: list[Fault]) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or not value:
        faults.append(Fault(where, "must be an object of label and glob"))
        return ()
    for key, each in value.items():
        reason = _bad_glob(each)
        if reason:
            faults.append(Fault(f"{where}.{key}", reason))
    return tuple((key, each) for key, each in value.items() if isinstance(each, str))


def _bad_glob(glob: object) -> str:
    if not isinstance(glob, str) or not glob:
        return f"{glob!r} is no glob: it must be a string that is not empty"
    rest = glob
    while "[" in rest:
        _, _, rest = rest.partition("[")
        body, closed, rest = rest.removeprefix("!").removeprefix("]").partition("]")
        if not closed:
            return f"{glob!r} has a [ that nothing closes"
        del body
    return ""


# --- deciding --------------------------------------------------------------------------------


def admit(snapshot: Snapshot, source: Source, pod: Pod, policy: Policy) -> Verdict:
    """Whether the link may go to the pod; of the snapshot, routes and qdiscs count too."""
    link = snapshot.link
    refused = _always_refused(link)
    if refused:
        return Verdict(allowed=False, reason=refused)
    first = _first_match(link, pod, policy)
    guard = _guard(snapshot)
    if guard:
        lifting = _lifting_rule(link, pod, policy)
        if lifting is None:
            hint = f"only an allow rule with the very name {link.name!r} lifts this"
            return Verdict(allowed=False, reason=f"{guard}; {hint}")
        first = first or lifting
    if source == "config":
        return Verdict(allowed=True, reason="asked for by the node's own configuration")
    if first is not None:
        return Verdict(first.allow, f"{first.where} ({'allow' if first.allow else 'deny'})")
    word = "allow" if policy.default_allow else "deny"
    return Verdict(policy.default_allow, f"{policy.where}.default ({word})")


def _always_refused(link: Link) -> str:
    if link.loopback:
        return "it is the loopback link, which cannot move"
    if link.immutable or link.kind in _TIED:
        kind = f" of kind {link.kind}" if link.kind else ""
        return f"the kernel ties a link{kind} to its namespace"
    return ""


def _guard(snapshot: Snapshot) -> str:
    """Why the node needs the link where it is; empty when it does not."""
    link, kinds = snapshot.link, {each.kind for each in snapshot.qdiscs}
    default = (each.dst in _DEFAULT_ROUTES and each.type == _UNICAST for each in snapshot.routes)
    paired = link.kind == "veth" and link.lower_elsewhere
    reasons = (
        (any(default), "it carries a default route of the node"),
        (bool(link.master), "it is a port of a bridge, bond or switch"),
        (bool(link.uppers), f"other links are stacked on it: {', '.join(link.uppers)}"),
        (paired, "its other end is in another namespace, most likely a pod's"),
        (bool(kinds & _WITH_FILTERS), "it has tc filters of the host, which a move would drop"),
        (bool(kinds & _WITH_CLASSES), "it has a qdisc with classes, which a move would drop"),
    )
    return next((reason for holds, reason in reasons if holds), "")


def _lifting_rule(link: Link, pod: Pod, policy: Policy) -> Rule | None:
    for rule in policy.rules:
        if (
            rule.allow
            and rule.names
            and set(rule.names) & set(link.names)
            and _matches(rule, link, pod)
        ):
            return rule
    return None


def _first_match(link: Link, pod: Pod, policy: Policy) -> Rule | None:
    return next((rule for rule in policy.rules if _matches(rule, link, pod)), None)


def _matches(rule: Rule, link: Link, pod: Pod) -> bool:
    return (
        _any_glob(rule.names, link.names)
        and _any_glob(rule.drivers, (link.driver or "",))
        and _any_glob(rule.kinds, (link.kind or "physical",))
        and _any_glob(rule.pci, (link.identity.bus or "",))
        and _of_pod(rule, pod)
    )


def _of_pod(rule: Rule, pod: Pod) -> bool:
    unknown = not rule.allow
    if rule.namespaces is not None:
        if pod.namespace is None:
            return unknown
        if not _any_glob(rule.namespaces, (pod.namespace,)):
            return False
    if rule.labels is None:
        return True
    if pod.labels is None:
        return unknown
    have = dict(pod.labels)
    return all(key in have and _any_glob((glob,), (have[key],)) for key, glob in rule.labels)


def _any_glob(globs: tuple[str, ...] | None, values: tuple[str, ...]) -> bool:
    if globs is None:
        return True
    from fnmatch import fnmatchcase

    return any(fnmatchcase(value, glob) for value in values for glob in globs)
