"""A policy in a file of its own, shared by both front ends."""

from __future__ import annotations

import json
import os

from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.policy import parse_policy

if TYPE_CHECKING:
    from cni_netdev.core.policy import Policy

_OTHERS_MAY_WRITE = 0o022


def load(path: str) -> Policy:
    """The policy at a path, JSON or YAML.

    The file must be root's (or the caller's own) and not writable by others: whoever writes it
    decides which pod gets which link.  Raises RequestError with what is wrong.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if found.st_uid not in (0, os.geteuid()) or found.st_mode & _OTHERS_MAY_WRITE:
                raise RequestError((Fault(path, "must be root's and not writable by others"),))
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError((Fault(path, f"the policy cannot be read: {error}"),)) from error
    return parse_policy(decode(text, path), path)


def decode(text: str, where: str) -> object:
    """JSON or YAML, with YAML's scalars as text.  Raises RequestError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise RequestError((Fault(where, "is nested too deep"),)) from None
    except ValueError:
        pass  # then it is YAML
    import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))  # noqa: S506 - makes text only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RequestError((Fault(where, f"is neither JSON nor YAML: {error}"),)) from error
