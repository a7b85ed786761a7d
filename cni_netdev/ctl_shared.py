"""What the commands of `netdevctl` have in common."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from cni_netdev import report
from cni_netdev.core.printable import printable
from cni_netdev.request import DEFAULT_STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_netdev.core.engine import Injector
    from cni_netdev.core.journal import FileJournal
    from cni_netdev.core.kernel import SystemKernel

state_dir_option = click.option(
    "--state-dir", default=DEFAULT_STATE_DIR, show_default=True, help="Where the records are."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="For machines: one JSON document."
)


class System:
    """The real kernel, journal and engine, made when a command needs them."""

    def __init__(self, state_dir: str) -> None:
        from cni_netdev.core.engine import Injector
        from cni_netdev.core.journal import FileJournal
        from cni_netdev.core.kernel import SystemKernel

        self.kernel: SystemKernel = SystemKernel()
        self.journal: FileJournal = FileJournal(state_dir)
        self.engine: Injector = Injector(self.kernel, self.journal)


def show(columns: Sequence[str], rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """The rows, as a table of these columns or whole as JSON."""
    if as_json:
        click.echo(json.dumps(rows))
    else:
        click.echo(report.table([(each.upper(), each) for each in columns], rows))


def text_of(file: Any) -> str:
    """All of a file that was named on the command line.  Raises ClickException."""
    try:
        text: str = file.read()
    except ValueError:
        raise click.ClickException(f"{file.name!r} is no text in UTF-8") from None
    return text


def tell(text: str) -> None:
    """A line to stderr, whatever is in it."""
    click.echo(printable(text), err=True)
