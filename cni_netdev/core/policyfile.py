"""A policy in a file of its own, shared by both front ends."""

from __future__ import annotations

from cni_netdev.core import trusted
from cni_netdev.core.decoding import decode
from cni_netdev.core.lean import TYPE_CHECKING
from cni_netdev.core.policy import parse_policy

if TYPE_CHECKING:
    from cni_netdev.core.policy import Policy


def load(path: str) -> Policy:
    """The policy at a path, JSON or YAML.

    The file must be root's and not writable by others: whoever writes it decides which pod gets
    which link.  Raises RequestError with what is wrong.
    """
    return parse_policy(decode(trusted.read(path), path), path)
