"""Pins of BPF programs that the host's links lost for a while, so that they stay loaded.

They lie where all of a host's do, in the BPF file system at /sys/fs/bpf, and end with it.  Each is
called after the inode of the link that it belongs to, and the program.

Rejected: a BPF file system of our own in the state directory.  It would end with the mount
namespace of whoever mounted it, such as a container of the agent's, and the programs with it.
"""

from __future__ import annotations

import errno
import os

from cni_netdev.core import bpf
from cni_netdev.core.errors import KernelRefused
from cni_netdev.core.lean import suppress

DIRECTORY = "/sys/fs/bpf/cni-netdev"


def hold(inode: int, program: int) -> None:
    """Keep a program loaded.  Raises KernelRefused."""
    path = f"{DIRECTORY}/{inode}-{program}"
    try:
        with suppress(FileExistsError):
            os.mkdir(DIRECTORY, 0o700)
        with bpf.opened(program) as fd:
            bpf.pin(fd, path)
    except KernelRefused as error:
        if error.errno != errno.EEXIST:  # else by an earlier try
            raise error.with_details("this needs a BPF file system at /sys/fs/bpf") from error
    except OSError as error:
        refused = KernelRefused(f"make {DIRECTORY}", error.errno or 0)
        raise refused.with_details("this needs a BPF file system at /sys/fs/bpf") from error


def let_go(inode: int) -> None:
    """Unpin what was held for a link; nothing happens when there is none.  Raises KernelRefused."""
    try:
        for name in os.listdir(DIRECTORY):
            if name.startswith(f"{inode}-"):
                os.unlink(f"{DIRECTORY}/{name}")
    except FileNotFoundError:
        return
    except OSError as error:
        raise KernelRefused(f"remove what is in {DIRECTORY}", error.errno or 0) from error
