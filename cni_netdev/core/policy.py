"""Who may have which link; pure.

Three layers, the first that speaks decides:
always refused     links that the kernel cannot move, and lo
guards             links that the node or other pods need; they bind every source, and only an
                   allow rule with the link's very name lifts them
rules              in order, for what tenants and runtimes ask; the operator's own ``devices`` are
                   not bound by them.  No rule matches: ``default``, which is allow.

    {"default": "deny",
     "rules": [{"allow": {"names": ["enp*"], "namespaces": ["hpc-*"]}}, {"deny": {...}}]}

A rule's ``grants`` match nothing: they say which PRIVILEGES go with the link, which tenants and
runtimes have only so.

All other keys of a rule must match, each by any of its globs (``*``, ``?`` and ``[``); ``names``
cover altnames, ``kinds`` has ``physical`` for hardware.  What is not known of a pod (its namespace
without Kubernetes, its labels in CNI) lets no allow rule match and every deny rule: fail closed.
"""

from __future__ import annotations

from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.guards import always_refused, guard
from cni_netdev.core.lean import TYPE_CHECKING, NamedTuple
from cni_netdev.core.values import nearest, shown

if TYPE_CHECKING:
    from cni_netdev.core.model import Link, Snapshot, Source

# What of a request needs more than the link: it may change what the host trusts the link to be.
PRIVILEGES = ("vf", "private_flags", "ebpf")
_GLOB_KEYS = ("names", "drivers", "kinds", "pci", "namespaces")
_MAGIC = frozenset("*?[")
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
    grants: tuple[str, ...] = ()


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
        faults.append(Fault(f"{where}.default", f"{shown(default)} is neither allow nor deny"))
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
    _unknown(match, (*_GLOB_KEYS, "labels", "grants"), f"{where}.{verb}", faults)
    globs = {
        key: _globs(match[key], f"{where}.{verb}.{key}", faults)
        for key in _GLOB_KEYS
        if key in match
    }
    labels = (
        _labels(match["labels"], f"{where}.{verb}.labels", faults) if "labels" in match else None
    )
    grants = _grants(match["grants"], verb, where, faults) if "grants" in match else ()
    return Rule(verb == "allow", where, labels=labels, grants=grants, **globs)


def _grants(value: object, verb: str, where: str, faults: list[Fault]) -> tuple[str, ...]:
    place = f"{where}.{verb}.grants"
    if verb != "allow":
        faults.append(Fault(place, "belongs to an allow rule; a deny rule grants nothing"))
    elif not isinstance(value, list) or not all(each in PRIVILEGES for each in value):
        faults.append(Fault(place, f"must be a list of {', '.join(PRIVILEGES)}"))
    else:
        return tuple(value)
    return ()


def _unknown(
    value: dict[str, object], known: tuple[str, ...], where: str, faults: list[Fault]
) -> None:
    faults.extend(
        Fault(_below(where, key), f"unknown key{nearest(str(key), known)}")
        for key in value
        if key not in known
    )


def _below(where: str, key: object) -> str:
    return f"{where}.{shown(str(key))[1:-1]}"


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
            faults.append(Fault(_below(where, key), reason))
    return tuple((key, each) for key, each in value.items() if isinstance(each, str))


def _bad_glob(glob: object) -> str:
    if not isinstance(glob, str) or not glob:
        return f"{shown(glob)} is no glob: it must be a string that is not empty"
    if "\\" in glob:
        return f"{shown(glob)} has a backslash, which escapes nothing: write [*] for a *"
    rest = glob
    while "[" in rest:
        _, _, rest = rest.partition("[")
        rest = rest.removeprefix("!")
        first, rest = rest[:1], rest[1:]  # a ] that comes first is one of the set
        others, closed, rest = rest.partition("]")
        if not closed:
            return f"{shown(glob)} has a [ that nothing closes"
        if _has_empty_range(first + others):
            return f"{shown(glob)} has a range that goes backwards"
    return ""


def _has_empty_range(members: str) -> bool:
    at = 0
    while at + 2 < len(members):
        is_range = members[at + 1] == "-"
        if is_range and members[at] > members[at + 2]:
            return True
        at += 3 if is_range else 1
    return False


# --- deciding --------------------------------------------------------------------------------


def admit(
    snapshot: Snapshot,
    source: Source,
    pod: Pod,
    policy: Policy,
    *,
    overheard: bool = False,
    privileges: tuple[str, ...] = (),
) -> Verdict:
    """Whether the link may go to the pod.

    overheard: as ports.Netns has it.  privileges: those that the request needs.
    """
    link = snapshot.link
    refused = always_refused(link)
    if refused:
        return Verdict(allowed=False, reason=refused)
    lifted, why = "", guard(snapshot, overheard=overheard)
    if why:
        lifting = _lifting_rule(link, pod, policy)
        if lifting is None:
            hint = f"only an allow rule with the very name {shown(link.name)} lifts this"
            return Verdict(allowed=False, reason=f"{why}; {hint}")
        lifted = f"; {lifting.where} lifts the guard: {why}"
    if source == "config":
        return Verdict(True, f"asked for by the node's own configuration{lifted}")
    first = _first_match(link, pod, policy)
    allowed = first.allow if first else policy.default_allow
    who = (
        f"{first.where if first else policy.where + '.default'} ({'allow' if allowed else 'deny'})"
    )
    missing = [each for each in privileges if first is None or each not in first.grants]
    if allowed and missing:
        reason = f"{who} does not grant {' and '.join(missing)}, as only a rule's grants can"
        return Verdict(allowed=False, reason=reason)
    return Verdict(allowed, f"{who}{lifted if first and allowed else ''}")


def _lifting_rule(link: Link, pod: Pod, policy: Policy) -> Rule | None:
    for rule in policy.rules:
        if rule.allow and _has_very_name(rule, link) and _matches(rule, link, pod):
            return rule
    return None


def _has_very_name(rule: Rule, link: Link) -> bool:
    """A link called ``*`` is not meant by that glob."""
    plain = {name for name in rule.names or () if not _MAGIC & set(name)}
    return bool(plain & set(link.names))


def _first_match(link: Link, pod: Pod, policy: Policy) -> Rule | None:
    return next((rule for rule in policy.rules if _matches(rule, link, pod)), None)


def _matches(rule: Rule, link: Link, pod: Pod) -> bool:
    return (
        _any_glob(rule.names, link.names)
        and _any_glob(rule.drivers, _if_any(link.driver))
        and _any_glob(rule.kinds, (link.kind or "physical",))
        and _any_glob(rule.pci, _if_any(link.identity.bus))
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


def _if_any(value: str | None) -> tuple[str, ...]:
    """Nothing matches what a link has not, not even ``*``."""
    return (value,) if value else ()


def _any_glob(globs: tuple[str, ...] | None, values: tuple[str, ...]) -> bool:
    if globs is None:
        return True
    from fnmatch import fnmatchcase

    return any(fnmatchcase(value, glob) for value in values for glob in globs)
