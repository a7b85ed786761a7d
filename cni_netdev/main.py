"""The plugin's entry point: environment and streams in, one JSON document and an exit code out.

It starts for every pod on the node where no agent is resident, so it loads next to nothing until a
device is asked for.  The agent runs the same ``main``, with an engine that is there already.
"""

from __future__ import annotations

import errno
import os
import time

from cni_netdev import commands, request, result
from cni_netdev.core.quickjson import dumps

TYPE_CHECKING = False  # see request
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, BinaryIO

    from cni_netdev.commands import Delegate, Engine, Engines, Log
    from cni_netdev.leasing import Leasing

    Say = Callable[[str], None]

# Without descriptors or memory.
_NO_MEANS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_LEVELS = {"debug": 0, "info": 1, "warn": 2, "error": 3}


def line_of(text: str) -> bytes:
    """A line of stderr."""
    from cni_netdev.core.printable import printable

    return f"cni-netdev: {printable(text)}\n".encode()


def _to_stderr(text: str) -> None:
    try:
        os.write(2, line_of(text))  # which takes a descriptor the first time
    except OSError:
        return  # nobody listens


class Elsewhere(Exception):
    """Raised by an agent's engine: this call must be made in a process of its own."""


def main(
    environ: Mapping[str, str],
    stdin: BinaryIO,
    stdout: BinaryIO,
    say: Say = _to_stderr,
    engines: Engines | None = None,
    delegate: Delegate | None = None,
) -> int:
    """One call of the plugin.

    Writes exactly one JSON document, or nothing where CNI wants nothing.  Returns 0, or 1 after
    an error, also when the answer could not be written.
    say: takes each line for stderr, see line_of.  engines: from a state directory to its engine;
    one that raises Elsewhere makes this raise it.  delegate: from a call to its IPAM plugin; the
    same holds for it.
    """
    # One byte too many is enough to refuse it.
    text = stdin.read(request.MOST_BYTES + 1) if environ.get("CNI_COMMAND") else b""
    document, code = _answer(environ, text, say, engines or _engine, delegate or _leasing)
    if document is None:
        return code
    try:
        stdout.write(dumps(document).encode() + b"\n")
        stdout.flush()
    except (OSError, ValueError) as error:
        say(f"the answer could not be written: {error}: {dumps(document)}")
        return 1
    return code


def _answer(
    environ: Mapping[str, str], text: bytes, say: Say, engines: Engines, delegate: Delegate
) -> tuple[dict[str, Any] | None, int]:
    log: Log = _log_to(request.Config(), say)
    try:
        if environ.get("CNI_COMMAND") == "VERSION":
            return request.versions(text), 0
        call = request.read(environ, text)
        log = _log_to(call.config, say)
        return commands.run(call, engines, delegate, log), 0
    except request.CniError as error:
        failure = (error.code, error.message, error.details)
    except Elsewhere:
        raise
    except Exception as error:  # noqa: BLE001 - whatever happens, a runtime gets one document
        failure = _foreseen(error) or _unforeseen(error, say)
    version = request.best_version(text)
    log("error", f"{environ.get('CNI_COMMAND')}: code {failure[0]}: {failure[1]}")
    return result.error_document(version, *failure), 1


def _foreseen(error: Exception) -> tuple[int, str, str] | None:
    code = result.code_of(error)
    if isinstance(error, OSError) and error.errno in _NO_MEANS:  # most modules are loaded late
        lack = f"a part of cni-netdev cannot be loaded: {error.strerror}"
        return request.IO, lack, "raise the limits of the process that called it, and try again"
    if code == request.INTERNAL:
        return None
    return code, getattr(error, "message", str(error)), getattr(error, "details", "")


def _unforeseen(error: Exception, say: Say) -> tuple[int, str, str]:
    try:
        _tell_where(error, say)
    except Exception as further:  # noqa: BLE001 - without descriptors or memory: no frames then
        say(f"where cannot be told: {further}")
    return (
        request.INTERNAL,
        f"{type(error).__name__}: {error}",
        "a fault in cni-netdev: please report it",
    )


def _tell_where(error: Exception, say: Say) -> None:
    import traceback

    # Without its message, which is logged as every error's: a tenant's newline is no line of ours.
    frames = "".join(traceback.format_tb(error.__traceback__))
    for line in ("Traceback (most recent call last):", *frames.splitlines()):
        say(line)


def _engine(state_dir: str) -> Engine:
    from cni_netdev.core.engine import Injector
    from cni_netdev.core.journal import FileJournal
    from cni_netdev.core.kernel import SystemKernel

    return Injector(SystemKernel(), FileJournal(state_dir))


def _leasing(call: request.Request) -> Leasing:
    from cni_netdev.leasing import Leasing

    return Leasing(call)


def _log_to(config: request.Config, say: Say) -> Log:
    """Lines of the configured level and above to the log file, and warnings to stderr."""

    def log(level: str, line: str) -> None:
        if _LEVELS[level] >= _LEVELS["warn"]:
            say(line)
        if config.log_file and _LEVELS[level] >= _LEVELS[config.log_level]:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            trouble = _append(config.log_file, f"{stamp} {level} {ascii(line)[1:-1]}\n")
            if trouble:
                say(trouble)

    return log


def _append(path: str, line: str) -> str:
    """What went wrong; empty when nothing did."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        return f"cannot write log file {path}: {error}"
    return ""


def entry(text: bytes | None = None) -> None:
    """The executable, which ends without finalisation.

    text: what standard input held, if that has been read already.
    """
    import io

    closed = _occupy_standard_descriptors()
    with open(0, "rb", closefd=False) as stdin, open(1, "wb", closefd=False) as stdout:
        if 1 in closed:
            stdout.close()
        os._exit(main(os.environ, stdin if text is None else io.BytesIO(text), stdout))


def _occupy_standard_descriptors() -> list[int]:
    """Those of 0, 1 and 2 that were closed, now open on /dev/null.

    Else the next file opened would get such a number, and the answer be written into a record.
    """
    closed = []
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            closed.append(descriptor)
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
    return closed
