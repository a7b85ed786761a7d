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

from cni_netdev import bundle, ctl_policy, report, statedirs
from cni_netdev import install as installer
from cni_netdev.core.errors import NetdevError
from cni_netdev.core.printable import printable
from cni_netdev.ctl_shared import System, json_option, show, state_dir_option, tell, text_of
from cni_netdev.validate import validate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_netdev.core.restore import Release


CONF_DIR = "/etc/cni/net.d"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Look after the network devices that this node lends to its pods."""


@cli.command()
@click.option("--bin-dir", type=click.Path(path_type=Path), required=True, help="CNI's plugins.")
@click.option("--conf-dir", type=click.Path(path_type=Path), help="Also write an example here.")
@click.option(
    "--prefix",
    type=click.Path(path_type=Path),
    help=f"Of a bundle: where to put it down.  [default: {bundle.DEFAULT_PREFIX}]",
)
@click.option("--prune", is_flag=True, help="Of a bundle: take versions away that nobody uses.")
@state_dir_option
def install(
    bin_dir: Path, conf_dir: Path | None, prefix: Path | None, prune: bool, state_dir: str
) -> None:
    """Put the CNI plugin where the runtime finds it."""
    tree = _bundle_for(prefix=prefix, prune=prune)
    if tree is None:
        click.echo(f"installed {installer.install(bin_dir)}")
    else:
        target = bundle.put_down(tree, prefix or bundle.default_prefix(tree))
        click.echo(f"the bundle is in {target}")
        click.echo(f"installed {installer.install(bin_dir, installer.bundled(target))}")
        bundle.switch(target)
        _tell_of_others(target, prune=prune)
    if conf_dir is not None:
        written = installer.example(conf_dir, state_dir)
        click.echo(f"wrote {written}: copy the cni-netdev entry into your list")


def _bundle_for(**options: Any) -> Path | None:
    """The bundle that netdevctl runs from, which these options are about."""
    tree = bundle.running()
    for name, value in options.items():
        if value and tree is None:
            raise click.UsageError(f"--{name}: this netdevctl does not run from a bundle")
    return tree


def _tell_of_others(current: Path, *, prune: bool) -> None:
    for each in bundle.versions(current.parent):
        users = bundle.users(each)
        if each != current and users:
            tell(f"{each} stays: {_processes(users)} from it; restart what is resident")
        elif each != current and prune:
            bundle.remove(each)
            click.echo(f"removed {each}")


def _processes(users: list[int]) -> str:
    numbers = ", ".join(map(str, users))
    return f"process {numbers} runs" if len(users) == 1 else f"processes {numbers} run"


@cli.command()
@click.option("--bin-dir", type=click.Path(path_type=Path), required=True, help="CNI's plugins.")
@click.option(
    "--conf-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help=f"Whose conflists name state directories.  [default: {CONF_DIR}]",
)
@click.option("--drain", is_flag=True, help="First bring every lent device home.")
@click.option("--bundle", "whole", is_flag=True, help="Take away the bundle, too, in all versions.")
@state_dir_option
def uninstall(
    bin_dir: Path, conf_dir: Path | None, drain: bool, whole: bool, state_dir: str
) -> None:
    """Take the CNI plugin away; refused while devices are lent."""
    tree = _bundle_for(bundle=whole)
    placed = bundle.versions(bundle.default_prefix(tree)) if tree and whole else []
    for each in placed:
        if users := bundle.users(each):
            raise click.ClickException(f"{_processes(users)} from {each}: stop what is resident")
    named, unread = statedirs.named_in(conf_dir or Path(CONF_DIR))
    for each in unread:
        tell(f"{each} cannot be read: a state directory that it names is not looked at")
    directories = list(dict.fromkeys([state_dir, *named]))
    for directory in directories:
        _refuse_if_lent(directory, drain=drain)
    click.echo(f"looked for lent devices in {printable(', '.join(directories))}")
    where = bin_dir / installer.PLUGIN
    click.echo(f"removed {where}" if installer.remove(bin_dir) else f"{where} is not there")
    for path in placed:
        bundle.remove(path)
        click.echo(f"removed {path}")


def _refuse_if_lent(directory: str, *, drain: bool) -> None:
    system = System(directory)
    if drain:
        _show_releases(_release_all(system), as_json=False)
    records = system.journal.records()
    lent = [record for record in records if record.devices]
    if lent:
        held = ", ".join(str(record.owner) for record in lent)
        raise click.ClickException(
            f"devices are lent to {printable(held)} by {printable(directory)}; end those pods, or "
            "use --drain to take them back"
        )
    for record in records:
        tell(f"{record.owner} has addresses leased, which are not given back any more")
    unreadable = ", ".join(name for name, _ in system.journal.unreadable())
    if unreadable:
        raise click.ClickException(
            f"unreadable records may tell of a device that is still away: {printable(unreadable)} "
            f"in {printable(directory)}; bring it home by hand and remove them"
        )


@cli.command()
@click.argument("file", type=click.File("r"))
@json_option
def validate(file: Any, as_json: bool) -> None:
    """Check an annotation's text, a pod manifest or a conflist; - is standard input."""
    what, faults = validate_text(text_of(file))
    if as_json:
        listed = [{"path": fault.path, "message": fault.message} for fault in faults]
        click.echo(json.dumps({"what": what, "valid": not faults, "faults": listed}))
    else:
        for fault in faults:
            tell(str(fault))
        click.echo(f"{what}: {f'{len(faults)} faults' if faults else 'valid'}")
    sys.exit(1 if faults else 0)


cli.add_command(ctl_policy.devices)
cli.add_command(ctl_policy.policy)


@cli.command()
@state_dir_option
@json_option
def attachments(state_dir: str, as_json: bool) -> None:
    """List who holds which devices, from the records."""
    system = System(state_dir)
    rows = []
    for record in system.journal.records():
        state = "half done"
        if record.complete:
            state = "attached" if system.engine.alive(record) else "dead"
        elif record.leases and not record.devices:
            state = "only leases"
        rows.append(report.attachment_row(record, state=state))
    show(
        ("sandbox", "ifname", "network", "pod", "devices", "state", "netns"), rows, as_json=as_json
    )
    _fail_if_unreadable(system)


@cli.command()
@click.argument("sandbox")
@click.argument("ifname", required=False)
@state_dir_option
@json_option
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
@state_dir_option
@json_option
def recover(state_dir: str, as_json: bool) -> None:
    """Bring home what no living pod holds, and clear what killed processes left."""
    system = System(state_dir)
    releases: list[Release] = []
    troubles: list[str] = []
    try:
        for each in system.engine.recoveries():
            releases.append(each)  # noqa: PERF402 - what came home is shown, whatever comes then
        troubles += system.engine.unreadable()
    except NetdevError as error:
        troubles.append(f"netdevctl: {error.message}")
    for trouble in troubles:
        tell(trouble)
    _show_releases(releases, as_json=as_json)
    if troubles:
        sys.exit(1)


@cli.command()
@click.option("--socket", type=click.Path(), help="Listen here.  [default: in the state directory]")
@click.option("--verbose", is_flag=True, help="Log more.")
@state_dir_option
def agent(socket: str | None, verbose: bool, state_dir: str) -> None:
    """Stay, and do for the CNI plugin what it would start a whole process for."""
    from cni_netdev import resident

    state_dir = os.path.abspath(state_dir)
    path = os.path.abspath(socket) if socket else None
    resident.serve(state_dir, path, "debug" if verbose else "info")


def _fail_if_unreadable(system: System) -> None:
    """Such a record may be all that is known of a device that is still away."""
    unreadable = system.engine.unreadable()
    for each in unreadable:
        tell(each)
    if unreadable:
        sys.exit(1)


def _release_all(system: System) -> list[Release]:
    done = [system.engine.detach(record.owner.key) for record in system.journal.records()]
    return [each for each in done if each is not None]


def _show_releases(releases: Sequence[Release], *, as_json: bool) -> None:
    rows = [report.release_row(each) for each in releases]
    show(("sandbox", "ifname", "pod", "home", "notes"), rows, as_json=as_json)
    if not all(each.complete for each in releases):
        sys.exit(1)


def entry() -> None:
    """The console script."""
    try:
        cli()
    except NetdevError as error:
        tell(f"netdevctl: {error.message}")
        if error.details:
            tell(f"  {error.details}")
        sys.exit(1)
