"""The agent inside another resident process: a thread of its own, that process's worker."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from cni_netdev import source
from cni_netdev.agent import Agent
from cni_netdev.answerer import Answerer
from cni_netdev.core.engine import Injector
from cni_netdev.core.errors import NetdevError
from cni_netdev.core.journal import FileJournal
from cni_netdev.listener import Listener
from cni_netdev.resident import LOCK_SECONDS
from cni_netdev.wire import SOCKET

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from cni_netdev.core.logs import Log
    from cni_netdev.core.ports import Kernel

_PAUSE = 5.0  # seconds until it is tried again to have the socket
