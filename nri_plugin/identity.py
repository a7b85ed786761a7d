"""Who the plugin is to the runtime; pure."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "network-device-injector"
_INDEX = re.compile(r"[0-9]{2}")
_PLUGIN_NAME = re.compile(r"[A-Za-z0-9_.+-]+")


class Identity(NamedTuple):
    """Who we are to the runtime.  descriptor: the connected socket of a launched plugin."""

    name: str
    idx: str
    descriptor: int | None = None


def identity(
    name: str | None, index: str | None, program: str, environ: Mapping[str, str]
) -> Identity:
    """By the environment of a launched plugin, else by flags, else by a program called NN-NAME.

    Raises ValueError.
    """
    socket = environ.get("NRI_PLUGIN_SOCKET")
    if socket is not None:
        name, index = environ.get("NRI_PLUGIN_NAME"), environ.get("NRI_PLUGIN_IDX")
    own_index, _, own_name = os.path.basename(program).partition("-")
    if index is None and _INDEX.fullmatch(own_index):
        index, name = own_index, name or own_name
    name = name or NAME
    if index is None or not _INDEX.fullmatch(index):
        raise ValueError(f"the plugin's index {index!r} must be two digits, as in -idx 10")
    if not _PLUGIN_NAME.fullmatch(name):
        raise ValueError(f"the plugin's name {name!r} may have letters, digits and _.+- only")
    if socket is not None and not (socket.isascii() and socket.isdigit()):
        raise ValueError(f"NRI_PLUGIN_SOCKET: {socket!r} is no descriptor")
    return Identity(name, index, None if socket is None else int(socket))
