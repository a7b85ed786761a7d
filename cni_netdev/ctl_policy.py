"""`netdevctl devices` and `netdevctl policy test`: what policy says, before a pod hears it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cni_netdev import report, trial
from cni_netdev.core.admission import look
from cni_netdev.core.devices import merge_requests, parse_devices
from cni_netdev.core.policy import Pod, Policy, Verdict
from cni_netdev.ctl_shared import System, json_option, show, state_dir_option, tell, text_of
from cni_netdev.manifests import PodManifest, documents, is_manifest, pods_in, requests_of
from cni_netdev.policysource import PolicySource, read_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_netdev.core.model import DeviceRequest

_MANIFESTS = (".yaml", ".yml", ".json")


@click.command()
@click.option("--policy", "policy_file", type=click.File("r"), help="A policy, conf or conflist.")
@click.option("--namespace", help="The Kubernetes namespace of the pod that would ask.")
@state_dir_option
@json_option
def devices(policy_file: Any, namespace: str | None, state_dir: str, as_json: bool) -> None:
    """List the host's links: which could be lent, what policy says and why, who holds one."""
    policy = _read(policy_file).policy if policy_file else Policy()
    pod = Pod(None, namespace, None)
    system = System(state_dir)
    host = system.kernel.host
    rows = [
        report.device_row(link, look(host, link, "annotation", pod, policy), None)
        for link in host.links()
    ]
    for record in system.journal.records():
        for lent in record.devices:
            if host.find(lent.home.link.identity) is None:
                verdict = Verdict(allowed=False, reason="lent")
                rows.append(report.device_row(lent.home.link, verdict, f"lent to {record.owner}"))
    columns = ("name", "kind", "driver", "pci", "mac", "mtu", "state", "why")
    show(columns, rows, as_json=as_json)


@click.group()
def policy() -> None:
    """Look at what a policy says."""


@policy.command()
@click.argument("file", type=click.File("r"))
@click.option(
    "--pod",
    "asking",
    required=True,
    metavar="NAMESPACE/NAME|MANIFEST",
    help="The pod that would ask, or its manifest (.yaml, .yml or .json).",
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="One of its labels.")
@click.option("--namespace", help="Where a manifest that names none would be applied.")
@click.option(
    "--device", "names", multiple=True, metavar="LINK", help="A link that it would ask for."
)
@state_dir_option
@json_option
def test(
    file: Any,
    asking: str,
    labels: tuple[str, ...],
    namespace: str | None,
    names: tuple[str, ...],
    state_dir: str,
    as_json: bool,
) -> None:
    """Say which devices a pod would get, and the rule or guard that decides each.

    FILE is a policy, a conflist or our entry of one, or the NRI plugin's configuration.  The
    devices are those of the manifest's annotation, those named, and the `devices` of a conflist
    (which guards bind, but not rules); without any, every link of the host.  Fails when one that
    is asked for is refused.
    """
    source = _read(file)
    pods = _pods(asking, labels, namespace)
    _warn_of_labels(source, pods)
    system = System(state_dir)
    host, records = system.kernel.host, system.journal.records()
    rows, refused = [], False
    for manifest in pods:
        pod = _as_known_to(source, manifest)
        wanted = _wanted(source, manifest, names)
        if wanted:
            trials = trial.of_requests(host, records, wanted, pod, source.policy)
            refused = refused or not all(each.allowed for each in trials)
        else:
            trials = trial.of_every_link(host, pod, source.policy)
        rows += [report.trial_row(_called(manifest), each) for each in trials]
    show(("pod", "source", "asks", "link", "verdict", "why"), rows, as_json=as_json)
    sys.exit(1 if refused else 0)


def _read(file: Any) -> PolicySource:
    return read_policy(text_of(file), file.name)


def _pods(asking: str, labels: Sequence[str], namespace: str | None) -> tuple[PodManifest, ...]:
    """The pods of a manifest, or the one that is described.  Raises UsageError."""
    described = _labels(labels)
    if not asking.endswith(_MANIFESTS):
        space, slash, name = asking.partition("/")
        if not (space and slash and name) or "/" in name or namespace:
            raise click.UsageError(
                f"--pod {asking!r} is neither NAMESPACE/NAME nor a manifest ending in "
                f"{', '.join(_MANIFESTS)}; --namespace belongs to a manifest"
            )
        return (PodManifest("", name, space, described, {}),)
    try:
        with click.open_file(asking) as file:
            read = documents(text_of(file))
    except OSError as error:
        raise click.UsageError(f"--pod {asking!r}: {error.strerror}") from None
    found = [pod for each in read if is_manifest(each) for pod in pods_in(each)]
    if not found:
        raise click.UsageError(f"--pod {asking!r}: there is no pod in it")
    return tuple(
        pod._replace(
            namespace=pod.namespace or namespace,
            labels=tuple(sorted({**dict(pod.labels), **dict(described)}.items())),
        )
        for pod in found
    )


def _labels(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    labels = {}
    for each in given:
        key, equals, labels[key] = each.partition("=")
        if not (key and equals):
            raise click.UsageError(f"--label {each!r} is no KEY=VALUE")
    return tuple(sorted(labels.items()))


def _as_known_to(source: PolicySource, pod: PodManifest) -> Pod:
    """CNI tells its plugins a pod's name and namespace, but no labels."""
    return Pod(pod.name or None, pod.namespace, None if source.front == "cni" else pod.labels)


def _warn_of_labels(source: PolicySource, pods: Sequence[PodManifest]) -> None:
    by_labels = any(rule.labels is not None for rule in source.policy.rules)
    if by_labels and source.front != "nri":
        tell(
            "note: CNI knows no labels: a rule that asks for some never allows there, always denies"
        )
    if any(pod.namespace is None for pod in pods):
        tell("note: the manifest names no namespace; see --namespace")


def _wanted(
    source: PolicySource, pod: PodManifest, names: Sequence[str]
) -> tuple[DeviceRequest, ...]:
    named = [{"name": each} for each in names]
    return merge_requests(
        source.devices, requests_of(pod), parse_devices(named, "annotation", "--device")
    )


def _called(pod: PodManifest) -> str:
    return "/".join(filter(None, (pod.namespace, pod.name)))
