"""What netdevctl shows: rows for people and for machines; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cni_netdev.core.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_netdev.core.model import Link, Record
    from cni_netdev.core.policy import Verdict
    from cni_netdev.core.restore import Release
    from cni_netdev.trial import Trial


def device_row(link: Link, verdict: Verdict, holder: str | None) -> dict[str, Any]:
    """One link: what it is, and whether it could be lent."""
    if holder:
        state = "lent"
    elif verdict.allowed:
        state = "free"
    else:
        state = "stays"
    return {
        "name": link.name,
        "altnames": list(link.altnames),
        "kind": link.kind or "physical",
        "driver": link.driver,
        "pci": link.identity.bus,
        "mac": link.settings.mac,
        "mtu": link.settings.mtu,
        "state": state,
        "why": holder or verdict.reason,
    }


def trial_row(pod: str, trial: Trial) -> dict[str, Any]:
    """One device: what a policy says to the pod."""
    verdict = "allowed" if trial.allowed else "refused"
    if trial.link is None:
        verdict = "absent"
    return {
        "pod": pod,
        "source": trial.source,
        "where": trial.where,
        "asks": trial.asks,
        "link": trial.link,
        "verdict": verdict,
        "why": trial.why,
    }


def attachment_row(record: Record, *, state: str) -> dict[str, Any]:
    """One attachment; state is ``attached``, ``half done``, ``dead`` or ``only leases``."""
    owner = record.owner
    return {
        "front": owner.front,
        "network": owner.network,
        "sandbox": owner.sandbox,
        "ifname": owner.ifname,
        "pod": owner.pod,
        "netns": record.netns.path,
        "state": state,
        "devices": [
            {"host": lent.home.link.name, "pod": lent.expected.name} for lent in record.devices
        ],
        "leases": [each.ifname for each in record.leases],
    }


def release_row(release: Release) -> dict[str, Any]:
    return {
        "sandbox": release.owner.sandbox,
        "ifname": release.owner.ifname,
        "pod": release.owner.pod,
        "home": list(release.devices),
        "complete": release.complete,
        "notes": list(release.notes),
    }


def table(columns: Sequence[tuple[str, str]], rows: Sequence[dict[str, Any]]) -> str:
    """The rows below a heading, in columns as wide as they need.

    columns: (heading, key).  The last column is not padded.
    """
    lines = [[heading for heading, _ in columns]]
    lines += [[_cell(row[key]) for _, key in columns] for row in rows]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: Any) -> str:
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, list):
        return ", ".join(_cell(each) for each in value)
    if isinstance(value, dict):
        return " as ".join(dict.fromkeys(str(each) for each in value.values()))
    return printable(str(value))
