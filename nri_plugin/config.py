"""The plugin's configuration: YAML or JSON, from a file or from the runtime's Configure; pure.

    policy: {default: deny, rules: [...]}    or policyFile: PATH
    stateDir: /run/cni-netdev
    log: {level: info, format: text, file: PATH}
    metrics: 127.0.0.1:9400
    adopt: false

All keys may be left out.  Flags win over Configure, and Configure over the file.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_netdev.core import values
from cni_netdev.core.decoding import decode
from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.objects import Object
from cni_netdev.core.policy import parse_policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_netdev.core.policy import Policy

LEVELS = ("debug", "info", "warn", "error")
FORMATS = ("text", "json")
_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:]+)\]|([^:\s\[\]]*)):([0-9]{1,5})")
_LAST_PORT = 65535
_LONGEST_SOCKET = 107  # sun_path less its end (unix(7))


class Config(NamedTuple):
    """What was said; None where nothing was.

    metrics: (host, port) to listen on, host "" for all addresses.
    """

    policy: Policy | None = None
    policy_file: str | None = None
    state_dir: str | None = None
    log_level: str | None = None
    log_format: str | None = None
    log_file: str | None = None
    metrics: tuple[str, int] | None = None
    adopt: bool | None = None

    def over(self, other: Config) -> Config:
        """This one, with the other's values where this has none."""
        if self.policy is not None or self.policy_file is not None:
            other = other._replace(policy=None, policy_file=None)  # they are one choice
        said = {key: value for key, value in self._asdict().items() if value is not None}
        return other._replace(**said)


def parse(text: str, where: str = "configuration") -> Config:
    """Raises RequestError with every fault, each with its path."""
    value = decode(text, where) if text.strip() else {}
    faults: list[Fault] = []
    given = Object(value, "", faults)
    config = Config(
        policy=given.take("policy", parse_policy),
        policy_file=given.take("policyFile", _absolute),
        state_dir=given.take("stateDir", _absolute),
        metrics=given.take("metrics", as_address),
        adopt=given.take("adopt", values.as_boolean),
        **_log(given.nested("log")),
    )
    if config.policy is not None and config.policy_file is not None:
        given.fault(".policyFile", "stands beside policy; give one of them")
    given.refuse_unknown(("policy", "policyFile", "stateDir", "metrics", "adopt", "log"))
    if faults:
        raise RequestError(
            tuple(
                Fault(": ".join(filter(None, (where, fault.path))), fault.message)
                for fault in faults
            )
        )
    return config


def as_address(value: object) -> tuple[str, int]:
    """``HOST:PORT``, ``[IPv6]:PORT`` or ``:PORT``.  Raises ValueError."""
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 0 < int(match[3]) <= _LAST_PORT:
        raise ValueError(f"{values.shown(value)} is no address to listen on, as 127.0.0.1:9400")
    return match[1] or match[2] or "", int(match[3])


def as_socket(value: str) -> str:
    """A path for a unix socket.  Raises ValueError for one that no socket can have."""
    size = len(value.encode(errors="surrogateescape"))
    if "\0" in value or not 0 < size <= _LONGEST_SOCKET:
        shown = values.shown(value)
        raise ValueError(f"{shown} is no path of a socket, which has 1 to {_LONGEST_SOCKET} bytes")
    return value


def _log(given: Object) -> dict[str, Any]:
    given.refuse_unknown(("level", "format", "file"))
    return {
        "log_level": given.take("level", _one_of(LEVELS)),
        "log_format": given.take("format", _one_of(FORMATS)),
        "log_file": given.take("file", _absolute),
    }


def _one_of(words: tuple[str, ...]) -> Callable[[object], str]:
    def convert(value: object) -> str:
        if value not in words:
            raise ValueError(f"{values.shown(value)} is none of {', '.join(words)}")
        return str(value)

    return convert


def _absolute(value: object) -> str:
    if not isinstance(value, str) or not os.path.isabs(value) or "\0" in value:
        raise ValueError(f"{values.shown(value)} must be an absolute path")
    return value
