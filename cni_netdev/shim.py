"""The executable of CNI's bin directory: it asks the resident agent, or does the work itself.

`netdevctl install` makes that executable of this file.  It starts for every pod on the node, so it
imports nothing that the interpreter has not loaded anyway, but for ``_socket``: json, socket and os
would cost 6, 6 and 2 ms.  wire says what is said.
"""

import posix
import sys

_TAKEN_SECONDS, _ANSWER_SECONDS = 1.0, 60.0
_LONGEST = 1 << 20
_PORTION = 1 << 16
_O_PATH = 0o10000000


def run(socket: str, state_dir: str, version: str, libraries: list[str]) -> None:
    """One call of the plugin; does not return.

    socket: the agent's, unless the configuration names another one or another state directory than
    this.  version: of the code in ``libraries``, where the plugin and all that it needs lie.
    """
    text = None
    if b"CNI_COMMAND" in posix.environ and _are_open(0, 1, 2):
        text = _standard_input()
        try:
            code, out, err = _ask(_place(socket, state_dir, text), version, text)
            _write(2, err)
            _write(1, out)
            posix._exit(code)  # noqa: SLF001 - os is not loaded
        except Exception:  # noqa: BLE001, S110 - nobody there, or too late, or refused
            pass
    import gc

    gc.disable()  # it ends before a collection pays
    sys.path += libraries
    from cni_netdev.core import finder

    finder.install()
    from cni_netdev.main import entry

    entry(text)


def _are_open(*descriptors: int) -> bool:
    try:
        for each in descriptors:
            posix.fstat(each)
    except OSError:
        return False
    return True


def _standard_input() -> bytes:
    pieces = []
    while piece := posix.read(0, _PORTION):
        pieces.append(piece)
    return b"".join(pieces)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[posix.write(descriptor, data) :]


def _place(socket: str, state_dir: str, text: bytes) -> str:
    """Where the agent for this configuration listens."""
    usual = [b'"stateDir":%b"%b"' % (space, state_dir.encode()) for space in (b"", b" ")]
    others = text.count(b"stateDir") - sum(text.count(each) for each in usual)
    if not others and b"agentSocket" not in text:
        return socket
    import json

    conf = json.loads(text)
    named, elsewhere = (conf.get(key) for key in ("agentSocket", "stateDir"))
    if elsewhere and elsewhere != state_dir:
        socket = f"{elsewhere}/agent.sock"
    return named if named and isinstance(named, str) else socket


def _ask(path: str, version: str, text: bytes) -> tuple[int, bytes, bytes]:
    """The agent's exit code, standard output and standard error.

    Raises OSError and ValueError when it cannot be had.
    """
    import _socket

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    connection.settimeout(_TAKEN_SECONDS)
    connection.connect(path)
    peer = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    if int.from_bytes(peer[4:8], sys.byteorder) != posix.geteuid() or len(text) > _LONGEST:
        raise ValueError
    environ = b"".join(
        b"%b=%b\0" % each for each in posix.environ.items() if each[0].startswith(b"CNI_")
    )
    data = b"netdev-agent 1 %b %d %d\n" % (version.encode(), len(environ), len(text))
    data += environ + text
    rights = b"".join(each.to_bytes(4, sys.byteorder) for each in _descriptors())
    sent = connection.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    if sent < len(data):  # else it may have answered and gone by now
        connection.sendall(data[sent:])
    answer = connection.recv(_PORTION)
    connection.settimeout(_ANSWER_SECONDS)
    while piece := connection.recv(_PORTION):
        answer += piece
    head, _, said = answer.removeprefix(b"taken\n").partition(b"\n")
    done, code, out, err = head.split(b" ")
    if done != b"done" or len(said) != int(out) + int(err):
        raise ValueError
    return int(code), said[: int(out)], said[int(out) :]


def _descriptors() -> list[int]:
    """By which the agent knows whether it sees what we see; the pod's namespace last."""
    ours = ("/proc/self/ns/net", "/proc/self/ns/mnt", "/")
    found = [posix.open(each, _O_PATH | posix.O_CLOEXEC) for each in ours]
    try:
        flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK
        found.append(posix.open(posix.environ.get(b"CNI_NETNS", b""), flags))
    except OSError:
        pass  # the plugin itself says what is wrong with it
    return found
