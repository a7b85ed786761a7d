r"""What a shim and the agent say to each other, as bytes; pure.

A connection is one call.  The shim says

    netdev-agent 1 VERSION ENVIRON STDIN\n

and then so many bytes of each: its CNI_* variables, as NAME=VALUE and a zero each, and its standard
input.  Beside the first byte (SCM_RIGHTS) lie descriptors of its network namespace, its mount
namespace, its root directory and, if that can be opened, of the namespace at CNI_NETNS.  The agent
answers one of

    done CODE STDOUT STDERR\n     and so many bytes of each; the call is made
    no REASON\n                   the call is not the agent's to make; nothing was changed

after ``taken\n`` if that is not at once, and ends the connection.  A shim that is told no, or not
told all, makes the call itself.
"""

from __future__ import annotations

import os
from typing import NamedTuple

TAKEN = b"taken\n"
LONGEST = 1 << 20  # bytes of environment and of standard input, each
DESCRIPTORS = 4
_MAGIC = b"netdev-agent"
_LONGEST_HEADER = 128
_MOST_DIGITS = 7


class Refused(Exception):
    """The call is not the agent's to make: the reason, in a few words."""


class Request(NamedTuple):
    """One call of the plugin, as ``main`` takes it."""

    environ: dict[str, str]
    stdin: bytes


class Answer(NamedTuple):
    """What ``main`` returned and wrote."""

    code: int
    stdout: bytes
    stderr: bytes

    def encode(self) -> bytes:
        head = f"done {self.code} {len(self.stdout)} {len(self.stderr)}\n"
        return head.encode() + self.stdout + self.stderr


def refusal(reason: str) -> bytes:
    return f"no {reason}\n".encode()


class Incoming:
    """A request as it comes in, in pieces."""

    def __init__(self, version: str) -> None:
        """version: see source."""
        self._version = version
        self._data = b""
        self._sizes: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        """Bytes that its parts will have; 0 until that is known."""
        return sum(self._sizes or ())

    def receive(self, data: bytes) -> Request | None:
        """The request, with its last piece.  Raises Refused."""
        self._data += data
        if self._sizes is None:
            head, newline, rest = self._data.partition(b"\n")
            if len(head) > _LONGEST_HEADER:
                raise Refused("that is no request")
            if not newline:
                return None
            self._sizes, self._data = self._header(head), rest
        if len(self._data) > self.size:
            raise Refused("more than one request")
        if len(self._data) < self.size:
            return None
        environ = self._data[: self._sizes[0]]
        return Request(_environ(environ), self._data[self._sizes[0] :])

    def _header(self, head: bytes) -> tuple[int, int]:
        words = head.split(b" ")
        if words[:2] != [_MAGIC, b"1"] or len(words) != len((*Request._fields, "", "", "")):
            raise Refused("that is no request")
        version, *sizes = words[2:]
        if version != self._version.encode():
            raise Refused("another version: run netdevctl install, restart the agent")
        if not all(each.isdigit() and len(each) <= _MOST_DIGITS for each in sizes):
            raise Refused("that is no request")
        environ, stdin = map(int, sizes)
        if max(environ, stdin) > LONGEST:
            raise Refused("too long")
        return environ, stdin


def _environ(data: bytes) -> dict[str, str]:
    pairs = (each.partition(b"=") for each in data.split(b"\0") if each)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
