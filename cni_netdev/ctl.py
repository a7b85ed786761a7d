"""`netdevctl`: what an operator does by hand.

Exit codes: 0 done; 1 something was found wrong, refused or could not be done; 2 wrong usage.
Commands that show something take ``--json`` for machines; tables are for people and may change.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cni_netdev import install as installer
from cni_netdev import report
from cni_netdev.core.errors import NetdevError
from cni_netdev.validate import policy_from, validate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_netdev.core.engine import Injector
    from cni_netdev.core.journal import FileJournal
    from cni_netdev.core.kernel import SystemKernel
    from cni_netdev.core.restore import Release

STATE_DIR = "/run/cni-netdev"

_state_dir = click.option(
    "--state-dir", default=STATE_DIR, show_default=True, help="Where the records are."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="For machines: one JSON document.")


class System:
    """The real kernel, journal and engine, made when a command needs them."""

    def __init__(self, state_dir: str) -> None:
        from cni_netdev.core.engine import Injector
        from cni_netdev.core.journal import FileJournal
        from cni_netdev.core.kernel import SystemKernel

        self.kernel: SystemKernel = SystemKernel()
        self.journal: FileJournal = FileJournal(state_dir)
        self.engine: Injector = Injector(self.kernel, self.journal)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Look after the network devices that this node lends to its pods."""


@cli.command()
@click.option("--bin-dir", type=click.Path(path_type=Path), required=True, help="CNI's plugins.")
@click.option("--conf-dir", type=click.Path(path_type=Path), help="Also write an example here.")
@_state_dir
def install(bin_dir: Path, conf_dir: Path | None, state_dir: str) -> None:
    """Put the CNI plugin where the runtime finds it."""
    click.echo(f"installed {installer.install(bin_dir)}")
    if conf_dir is not None:
        written = installer.example(conf_dir, state_dir)
        click.echo(f"wrote {written}: copy the cni-netdev entry into your list")


@cli.command()
@click.option("--bin-dir", type=click.Path(path_type=Path), required=True, help="CNI's plugins.")
@click.option("--drain", is_flag=True, help="First bring every lent device home.")
@_state_dir
def uninstall(bin_dir: Path, drain: bool, state_dir: str) -> None:
    """Take the CNI plugin away; refused while devices are lent."""
    system = System(state_dir)
    if drain:
        _show_releases(_release_all(system), as_json=False)
    lent = system.journal.records()
    if lent:
        held = ", ".join(str(record.owner) for record in lent)
        raise click.ClickException(
            f"devices are lent to {held}; end those pods, or use --drain to take them back"
        )
    unreadable = ", ".join(name for name, _ in system.journal.unreadable())
    if unreadable:
        raise click.ClickException(
            f"unreadable records may tell of a device that is still away: {unreadable}; "
            "bring it home by hand and remove them"
        )
    where = bin_dir / installer.PLUGIN
    click.echo(f"removed {where}" if installer.remove(bin_dir) else f"{where} is not there")


@cli.command()
@click.argument("file", type=click.File("r"))
@_as_json
def validate(file: Any, as_json: bool) -> None:
    """Check an annotation's text, a pod manifest or a conflist; - is standard input."""
    what, faults = validate_text(file.read())
    if as_json:
        listed = [{"path": fault.path, "message": fault.message} for fault in faults]
        click.echo(json.dumps({"what": what, "valid": not faults, "faults": listed}))
    else:
        for fault in faults:
            click.echo(report.printable(str(fault)), err=True)
        click.echo(f"{what}: {f'{len(faults)} faults' if faults else 'valid'}")
    sys.exit(1 if faults else 0)


@cli.command()
@click.option("--policy", "policy_file", type=click.File("r"), help="A policy, conf or conflist.")
@click.option("--namespace", help="The Kubernetes namespace of the pod that would ask.")
@_state_dir
@_as_json
def devices(policy_file: Any, namespace: str | None, state_dir: str, as_json: bool) -> None:
    """List the host's links: which could be lent, what policy says and why, who holds one."""
    from cni_netdev.core import policy as rules
    from cni_netdev.core.model import Snapshot

    policy = policy_from(policy_file.read()) if policy_file else rules.Policy()
    pod = rules.Pod(None, namespace, None)
    system = System(state_dir)
    host = system.kernel.host
    rows = []
    for link in host.links():
        ifindex = link.identity.ifindex
        seen = Snapshot(link, routes=host.routes(ifindex), qdiscs=host.qdiscs(ifindex))
        verdict = rules.admit(seen, "annotation", pod, policy)
        rows.append(report.device_row(link, verdict, None))
    for record in system.journal.records():
        for lent in record.devices:
            if host.find(lent.home.link.identity) is None:
                verdict = rules.Verdict(allowed=False, reason="lent")
                rows.append(report.device_row(lent.home.link, verdict, f"lent to {record.owner}"))
    columns = ("name", "kind", "driver", "pci", "mac", "mtu", "state", "why")
    _show(columns, rows, as_json=as_json)


@cli.command()
@_state_dir
@_as_json
def attachments(state_dir: str, as_json: bool) -> None:
    """List who holds which devices, from the records."""
    system = System(state_dir)
    rows = []
    for record in system.journal.records():
        state = "half done"
        if record.complete:
            state = "attached" if system.engine.alive(record) else "dead"
        rows.append(report.attachment_row(record, state=state))
    _show(
        ("sandbox", "ifname", "network", "pod", "devices", "state", "netns"), rows, as_json=as_json
    )
    _fail_if_unreadable(system)


@cli.command()
@click.argument("sandbox")
@click.argument("ifname", required=False)
@_state_dir
@_as_json
def release(sandbox: str, ifname: str | None, state_dir: str, as_json: bool) -> None:
    """Bring home what one attachment holds: SANDBOX is the container id, as `attachments` shows."""
    system = System(state_dir)
    keys = [
        record.owner.key
        for record in system.journal.records()
        if record.owner.sandbox == sandbox and ifname in (None, record.owner.ifname)
    ]
    if not keys:
        raise click.ClickException(f"no attachment of sandbox {sandbox!r} is on record")
    done = [system.engine.detach(key) for key in keys]
    _show_releases([each for each in done if each is not None], as_json=as_json)


@cli.command()
@_state_dir
@_as_json
def recover(state_dir: str, as_json: bool) -> None:
    """Bring home what no living pod holds, and clear what killed processes left."""
    system = System(state_dir)
    _show_releases(system.engine.recover(), as_json=as_json)
    _fail_if_unreadable(system)


@cli.command()
@click.option("--socket", type=click.Path(), help="Listen here.  [default: in the state directory]")
@click.option("--verbose", is_flag=True, help="Log more.")
@_state_dir
def agent(socket: str | None, verbose: bool, state_dir: str) -> None:
    """Stay, and do for the CNI plugin what it would start a whole process for."""
    from cni_netdev import resident

    state_dir = os.path.abspath(state_dir)
    path = os.path.abspath(socket) if socket else None
    resident.serve(state_dir, path, "debug" if verbose else "info")


def _fail_if_unreadable(system: System) -> None:
    """Such a record may be all that is known of a device that is still away."""
    unreadable = system.journal.unreadable()
    for name, reason in unreadable:
        click.echo(f"unreadable record {name}: {report.printable(reason)}", err=True)
    if unreadable:
        sys.exit(1)


def _release_all(system: System) -> list[Release]:
    done = [system.engine.detach(record.owner.key) for record in system.journal.records()]
    return [each for each in done if each is not None]


def _show_releases(releases: Sequence[Release], *, as_json: bool) -> None:
    rows = [report.release_row(each) for each in releases]
    _show(("sandbox", "ifname", "pod", "home", "notes"), rows, as_json=as_json)
    if not all(each.complete for each in releases):
        sys.exit(1)


def _show(columns: Sequence[str], rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows))
    else:
        click.echo(report.table([(each.upper(), each) for each in columns], rows))


def entry() -> None:
    """The console script."""
    try:
        cli()
    except NetdevError as error:
        click.echo(f"netdevctl: {error.message}", err=True)
        if error.details:
            click.echo(f"  {error.details}", err=True)
        sys.exit(1)
