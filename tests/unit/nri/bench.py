"""The handlers on the engine's workbench, and pods for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.core.annotations import KEYS
from cni_netdev.core.policy import Policy
from nri_plugin.handlers import Handlers, Settings
from nri_plugin.limits import Limit
from nri_plugin.messages import PodSandbox
from tests.unit.nri.recorders import RecordingLog, RecordingMetrics
from tests.workbench import PATH, Bench

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_netdev.core.errors import NetdevError

NET1 = {"name": "eth1", "new_name": "net1", "address": "192.168.2.2", "prefix": 24}
KEY = ("nri", "c1", "")


def pod(*devices: dict[str, Any], id_: str = "c1", netns: str = PATH) -> PodSandbox:
    annotations = {KEYS[0]: json.dumps(devices)} if devices else {}
    return PodSandbox(id_, f"name-{id_}", "uid", "hpc", {"app": "x"}, annotations, netns)


POD = pod(NET1)


class Nri:
    """Handlers on a bench."""

    def __init__(self, bench: Bench, policy: Callable[[], Policy] = Policy, **more: bool) -> None:
        self.bench = bench
        self.log, self.metrics = RecordingLog(), RecordingMetrics()
        self.handlers = Handlers(bench.engine, Settings(policy, **more), self.log, self.metrics)

    def run(self, each: PodSandbox = POD, limit: Limit | None = None) -> None:
        self.handlers.run(each, limit or Limit(60))

    def refused(
        self, each: PodSandbox, error: type[NetdevError], limit: Limit | None = None
    ) -> Any:
        """What run raises; by which nothing was changed."""
        before = self.bench.at_home()
        with pytest.raises(error) as caught:
            self.run(each, limit)
        assert self.bench.at_home() == before
        self.bench.nothing_left()
        assert self.metrics.counted[-1] == ("attached", error.__name__)
        assert self.log.lines[-1].level == "error"
        assert self.log.lines[-1].fields["sandbox"] == each.id
        return caught.value

    def in_pod(self, path: str = PATH) -> list[str]:
        return [link.name for link in self.bench.kernel.open(path).links()]
