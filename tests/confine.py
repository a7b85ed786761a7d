"""Run a program as confined as a systemd unit has it, where systemd itself is not running.

    python -m tests.confine UNIT PROGRAM [ARGUMENT ...]

Its capabilities, NoNewPrivileges=, SystemCallFilter=, RestrictNamespaces= and
RestrictAddressFamilies=, by libseccomp and the groups of calls that `systemd-analyze` knows.
"""

from __future__ import annotations

import configparser
import ctypes
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

# seccomp.h, linux/prctl.h, linux/capability.h
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EQUAL = 4
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")
_NUMBERS = {"CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21}
_NAMESPACES = {"net": 0x40000000}


class _Compare(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("how", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("unused", ctypes.c_uint64),
    )


def read_unit(path: Path, section: str = "Service") -> dict[str, str]:
    """The keys of a unit's section."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text())
    return dict(parser[section])


def confine(service: dict[str, str]) -> None:
    """The calling process, for good."""
    _bound(service["CapabilityBoundingSet"].split())
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _filter(service)


def _bound(capabilities: list[str]) -> None:
    """Of root, a program that is executed has all that are left."""
    kept = {_NUMBERS[each] for each in capabilities}
    for number in range(int(_LAST_CAPABILITY.read_text()) + 1):
        if number not in kept:
            _prctl(_PR_CAPBSET_DROP, number)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def calls(names: list[str]) -> list[str]:
    """System calls by name, groups (@name) resolved."""
    found: list[str] = []
    for name in names:
        if name.startswith("@"):
            command = ["systemd-analyze", "syscall-filter", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            lines = [line.strip() for line in done.stdout.splitlines()[1:]]
            found += calls([line for line in lines if line and not line.startswith("#")])
        else:
            found.append(name)
    return found


def _filter(service: dict[str, str]) -> None:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(_ERRNO | errno.EPERM))
    namespaces = [_NAMESPACES[each] for each in service["RestrictNamespaces"].split()]
    compared = {
        "setns": (1, namespaces),
        "unshare": (0, namespaces),
        "socket": (0, [getattr(socket, each) for each in _families(service)]),
    }
    for name in [*calls(service["SystemCallFilter"].split()), "execve"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            continue  # not on this architecture
        argument, values = compared.get(name, (0, None))
        for rule in [[]] if values is None else [[(argument, value)] for value in values]:
            _allow(library, context, number, rule)
    if library.seccomp_load(context) != 0:
        raise OSError("seccomp_load")


def _families(service: dict[str, str]) -> list[str]:
    return service["RestrictAddressFamilies"].split()


def _allow(library: Any, context: Any, number: int, rule: list[tuple[int, int]]) -> None:
    compares = (_Compare * max(1, len(rule)))(
        *(_Compare(argument, _EQUAL, value, 0) for argument, value in rule)
    )
    result = library.seccomp_rule_add_array(context, _ALLOW, number, len(rule), compares)
    if result != 0:
        raise OSError(-result, f"seccomp rule for {number}")


def main() -> None:
    unit, *command = sys.argv[1:]
    confine(read_unit(Path(unit)))
    os.execv(command[0], command)  # noqa: S606 - no shell is what is wanted


if __name__ == "__main__":
    main()
