"""Runs a command in a virtual machine with a Debian kernel, on this machine's files.

The guest's root is this machine's, read-only below a layer in memory; what a command changes is
forgotten with the guest.  One directory is shared both ways: the command goes in, its exit code
and the console's text come out.  See setup.sh for what is booted.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parent.parent.parent
VM = ROOT / ".build" / "vm"
# Seconds.  Emulated, on two quiet cores, all tests take a fifth of it.
LIMIT = 1500
_LINES = 100
_ENDED = "the emulator ended with code "
_BY_A_SIGNAL = f"{_ENDED}-"
_DUMP_SECONDS = 2
_MEMORY = "2G"
# Each level of page tables costs emulation, and nothing here needs the fifth.
_CPU = "max,la57=off"
# Network cards, by qemu's names.
CARDS = ("e1000e", "virtio-net-pci", "igb")
_KERNEL_LINE = (
    "console=ttyS0 loglevel=5 panic=-1 oops=panic sysrq_always_enabled mitigations=off "
    "intel_iommu=on iommu=pt"
)


class GuestDied(Exception):
    """The guest ended, or had to be ended, without a result; with the end of its console."""


class _EmulatorCrashed(GuestDied):
    """Before the guest began: qemu 10.0 aborts when one processor maps a card's memory while the
    other one runs (`iotlb_to_section`), once in some dozens of boots.
    """


class Machine(NamedTuple):
    """What is booted.  environ: for the emulator."""

    emulator: tuple[str, ...]
    environ: dict[str, str]


def emulated(tree: Path = VM) -> Machine:
    """The machine that setup.sh made."""
    assert (tree / "stamp").exists(), "there is no virtual machine: run tests/vm/setup.sh"
    programs = tree / "emulator" / "usr"
    libraries = programs / "lib" / "x86_64-linux-gnu"
    arguments = {
        "-L": str(programs / "share" / "qemu"),
        "-accel": "tcg,thread=multi,tb-size=512",
        "-machine": "q35",
        "-cpu": _CPU,
        "-smp": "2",
        "-m": _MEMORY,
        "-display": "none",
        "-kernel": str(tree / "kernel"),
        "-initrd": str(tree / "initramfs"),
        "-append": _KERNEL_LINE,
    }
    flat = [word for pair in arguments.items() for word in pair]
    firmware = ["-L", str(programs / "share" / "seabios")]
    return Machine(
        (
            "setpriv",
            "--pdeathsig=KILL",
            str(programs / "bin" / "qemu-system-x86_64"),
            "-nodefaults",
            "-no-reboot",
            *firmware,
            *flat,
            *_shared("machine", Path("/"), "readonly=on,multidevs=remap"),
            *_shared("guest", tree / "guest", "readonly=on,multidevs=remap"),
            *_network_cards(),
        ),
        {**os.environ, "LD_LIBRARY_PATH": str(libraries)},
    )


def _network_cards() -> list[str]:
    """One of each kind, all on one wire."""
    arguments = ["-device", "intel-iommu"]  # without it no driver in user space gets a VF
    for number, kind in enumerate(CARDS, 1):
        port = f"id=port{number},chassis={number}"
        card = f"{kind},bus=port{number},netdev=wire{number},romfile=,mac=52:54:00:00:00:0{number}"
        arguments += ["-netdev", f"hubport,id=wire{number},hubid=0"]
        arguments += ["-device", f"pcie-root-port,{port}", "-device", card]
    return arguments


def _shared(tag: str, directory: Path, options: str) -> tuple[str, str]:
    return (
        "-virtfs",
        f"local,path={directory},mount_tag={tag},security_model=none,{options}",
    )


def run(command: Sequence[str], machine: Machine, limit: float = LIMIT) -> int:
    """Boot, run the command from the project's root, and switch off; gives its exit code.

    Its output goes to our own as it comes.  Raises GuestDied, after ``limit`` seconds at most.
    An emulator that crashes while it boots is started once more.
    """
    try:
        return _run(command, machine, limit)
    except _EmulatorCrashed as crash:
        print(f"{crash}\nonce more", flush=True)
        return _run(command, machine, limit)


def _run(command: Sequence[str], machine: Machine, limit: float) -> int:
    with tempfile.TemporaryDirectory(prefix="vm-") as name:
        job = Path(name)
        (job / "project").write_text(str(ROOT))
        (job / "path").write_text(os.environ["PATH"])
        (job / "command").write_text(f"exec {shlex.join(command)}\n")
        trouble = _until_it_ends(machine, job, limit)
        code = _read(job / "code").strip()
        if code.isdecimal():
            return int(code)
        crashed = trouble.startswith(_BY_A_SIGNAL) and not (job / "begun").exists()
        raise (_EmulatorCrashed if crashed else GuestDied)(
            f"{trouble or 'the virtual machine ended'} without a result; the end of its console:\n"
            + _end_of(job / "console")
            + _end_of(job / "emulator")
        )


def _until_it_ends(machine: Machine, job: Path, limit: float) -> str:
    """Empty, or why it had to be ended."""
    output = os.dup(1)
    arguments = [
        *machine.emulator,
        *_shared("job", job, "multidevs=remap"),
        *("-serial", f"file:{job / 'console'}"),
        *("-monitor", f"unix:{job / 'monitor'},server=on,wait=off"),
        *(
            "-add-fd",
            f"fd={output},set=1",
            "-chardev",
            "file,id=output,append=on,path=/dev/fdset/1",
        ),
        *("-device", "virtio-serial", "-device", "virtserialport,chardev=output"),
    ]
    try:
        with (
            (job / "emulator").open("w") as complaints,
            subprocess.Popen(
                arguments,
                env=machine.environ,
                stdin=subprocess.DEVNULL,
                stdout=complaints,
                stderr=complaints,
                pass_fds=[output],
            ) as process,
        ):
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                _ask_where_it_hangs(job / "monitor")
                return f"the virtual machine was ended after {limit:g} s"
            finally:
                process.kill()
    finally:
        os.close(output)
    return f"{_ENDED}{code}" if code else ""


def _ask_where_it_hangs(monitor: Path) -> None:
    """Have the kernel write its blocked tasks and its processors' stacks to the console."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.connect(str(monitor))
        for key in "wl":
            connection.sendall(f"sendkey alt-sysrq-{key}\n".encode())
            time.sleep(_DUMP_SECONDS)


def _end_of(file: Path) -> str:
    return "".join(f"    {line}\n" for line in _read(file).splitlines()[-_LINES:])


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
