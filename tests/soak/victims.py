"""Who is killed in the soak, and how they are of use again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

from tests.lines import Ended
from tests.nri_runtime import GoRuntime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.containerd import Containerd


class Victim(Protocol):
    """Who can be killed.  kill: at once; False when there was nobody.  revive: of use again."""

    def kill(self) -> bool: ...
    def revive(self) -> None: ...


class GoSide:
    """NRI's runtime side, which keeps its plugin, and its pods' names, over its own deaths."""

    def __init__(self, directory: Path, required_plugin: str) -> None:
        """required_plugin: without which there is no container."""
        self._directory = directory
        self._required = required_plugin
        self._runtime: GoRuntime | None = None
        self.pods: dict[str, dict[str, Any]] = {}

    @property
    def socket(self) -> Path:
        return self._directory / "nri.sock"

    @property
    def runtime(self) -> GoRuntime:
        """Raises Ended while there is none."""
        if self._runtime is None:
            raise Ended("nri-runtime is not running")
        return self._runtime

    @property
    def pid(self) -> int:
        return self.runtime.process.pid

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        runtime = GoRuntime(self._directory, required_plugin=self._required)
        runtime.wait_for("listening", 30)
        runtime.set_pods(list(self.pods.values()))
        self._runtime = runtime
        runtime.wait_for("synchronized", 30)
        runtime.wait_for("plugins", 30, count=2)  # NRI's own validator is one

    def kill(self) -> bool:
        runtime, self._runtime = self.runtime, None
        runtime.process.kill()
        runtime.close()
        return True

    revive = start

    def close(self) -> None:
        if self._runtime is not None:
            self._runtime.close()


class Program(Protocol):
    """What a resident is to be: a process with a log.  NriPlugin is one."""

    log_file: Path

    @property
    def pid(self) -> int: ...
    def kill(self) -> None: ...
    def start(self) -> None: ...
    def lines(self, message: str) -> list[dict[str, Any]]: ...
    def wait_for(self, message: str, count: int) -> object: ...


class Resident:
    """Such a process, which is of use again when it says so."""

    def __init__(self, program: Program, says: str) -> None:
        self.program = program
        self._says = says
        self._said = 0
        self.deaths = 0

    def kill(self) -> bool:
        self.deaths += 1
        self.program.kill()
        self.count()
        return True

    def revive(self) -> None:
        self.program.start()
        self.wait()

    def count(self) -> None:
        """How often it has said so by now."""
        self._said = len(self.program.lines(self._says))

    def wait(self) -> None:
        """Until it says so once more than was counted."""
        self.program.wait_for(self._says, self._said + 1)


class ContainerdAndPlugin:
    """Of use again when its plugin has connected to it again."""

    def __init__(self, containerd: Containerd, plugin: Resident) -> None:
        self._containerd = containerd
        self._plugin = plugin
        self.there = Event()
        self.there.set()

    def kill(self) -> bool:
        self.there.clear()
        self._containerd.kill()
        self._plugin.count()
        return True

    def revive(self) -> None:
        self._containerd.start()
        self.there.set()
        self._plugin.wait()


class CallInFlight:
    """A call of the CNI plugin, if one is made soon, at a random moment of its life."""

    _PATIENCE = 1.0
    _LIFE = 0.1

    def kill(self) -> bool:
        limit = time.monotonic() + self._PATIENCE
        while time.monotonic() < limit:
            for pid in self._running():
                time.sleep(random.uniform(0, self._LIFE))  # noqa: S311 - any moment
                if self._end(pid):
                    return True
            time.sleep(0.001)
        return False

    def revive(self) -> None:
        """Nothing: the next call starts the next one."""

    def _running(self) -> Iterator[int]:
        for each in Path("/proc").iterdir():
            if each.name.isdecimal() and self._is_ours(int(each.name)):
                yield int(each.name)

    def _is_ours(self, pid: int) -> bool:
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            same = os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
            return same and any(word.endswith("/cni-netdev") for word in words[:3])
        return False

    def _end(self, pid: int) -> bool:
        """By descriptor: the number may be another process's by now."""
        with suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                if self._is_ours(pid):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    return True
            finally:
                os.close(descriptor)
        return False


class Recovery:
    """`netdevctl recover`, at a random moment of its life."""

    _LIFE = 0.3

    def kill(self) -> bool:
        command = [str(Path(sys.executable).parent / "netdevctl"), "recover"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
            time.sleep(random.uniform(0, self._LIFE))  # noqa: S311 - any moment
            child.kill()
        return child.returncode < 0

    def revive(self) -> None:
        """Nothing: it is not missed."""
