"""`network-device-injector`: the NRI plugin as a process.

It is started by hand, by systemd or in a container, and then dials the runtime's socket for as
long as it lives; or the runtime launches it, with a connected socket, and it ends with that.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress

import click

from cni_netdev.core import trusted
from cni_netdev.core.errors import NetdevError
from cni_netdev.core.printable import printable
from nri_plugin import config as configuration
from nri_plugin.assembly import Assembly
from nri_plugin.config import Config
from nri_plugin.identity import NAME, identity
from nri_plugin.logs import Log
from nri_plugin.service import Service

DEFAULT_SOCKET = "/var/run/nri/nri.sock"


@click.command(context_settings={"help_option_names": ["-h", "-help", "--help"]})
@click.option("-idx", "--idx", metavar="NN", help="Place among the runtime's plugins, 00 to 99.")
@click.option("-name", "--name", help=f"Name to register under.  [default: {NAME}]")
@click.option("-socket", "--socket", default=DEFAULT_SOCKET, show_default=True, help="NRI's.")
@click.option("-config", "--config", "file", type=click.Path(), help="Configuration, YAML.")
@click.option("-state-dir", "--state-dir", type=click.Path(), help="Where records are kept.")
@click.option("-metrics", "--metrics", metavar="ADDR", help="Listen here, as 127.0.0.1:9400.")
@click.option(
    "-adopt", "--adopt", is_flag=True, default=None, help="Take over what the Go injector lent."
)
@click.option("-verbose", "--verbose", is_flag=True, help="Log more.")
@click.version_option(None, "-version", "--version", package_name=NAME)
def cli(
    idx: str | None,
    name: str | None,
    socket: str,
    file: str | None,
    state_dir: str | None,
    metrics: str | None,
    adopt: bool | None,
    verbose: bool,
) -> None:
    """Lend this node's network devices to pods that ask for them by annotation."""
    log = Log()
    try:
        who = identity(name, idx, sys.argv[0], os.environ)
        configuration.as_socket(socket)
        flags = Config(
            state_dir=os.path.abspath(state_dir) if state_dir else None,
            metrics=configuration.as_address(metrics) if metrics else None,
            adopt=adopt,
            log_level="debug" if verbose else None,
        )
        assembly = Assembly(flags, _read(file), log)
    except (ValueError, NetdevError, OSError) as error:
        raise click.UsageError(printable(str(error))) from None
    log.info("started", name=who.name, idx=who.idx, socket=socket, pid=os.getpid())
    if not asyncio.run(Service(who, socket, assembly, log).run()):
        os._exit(1)  # the interpreter would wait for the stuck thread
    assembly.close()


def _read(path: str | None) -> Config:
    if path is None:
        return Config()
    return configuration.parse(trusted.read(path), path)  # the policy may be in it


def entry() -> None:
    """The console script."""
    with suppress(KeyboardInterrupt):
        cli()
