"""NRI's runtime side as Go has it, without a container runtime: tests/peers/runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from tests.host import PEERS
from tests.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# NRI before today's that there is a program of, as tests/peers/runtime/go-*.mod.
OLD_VERSIONS = ("0.3", "0.6", "0.8", "0.11")


class PluginRefused(Exception):
    """What the runtime was told, or noticed itself, when it asked its plugins."""


def pod(
    name: str,
    annotations: Mapping[str, str] | None = None,
    *,
    netns: str = "",
    namespace: str = "default",
    labels: Mapping[str, str] | None = None,
    pid: int = 0,
) -> dict[str, Any]:
    """A pod as the operations take it; without ``netns`` the plugin is told of none."""
    return {
        "id": f"sandbox-{name}",
        "name": name,
        "uid": f"uid-{name}",
        "namespace": namespace,
        "labels": dict(labels or {}),
        "annotations": dict(annotations or {}),
        "netns": netns,
        "pid": pid,
    }


class GoRuntime(Lines):
    """The program while the block lasts; ready for plugins, and launched ones synchronized.

    Timeouts are as Go writes durations.  A plugin that connects causes the event "synchronized"
    (with "error" if that failed) and then "plugins" with their new "count".

    version: one of OLD_VERSIONS, instead of today's NRI.  Those know no required_plugin, and
    nothing may be asked of them while a plugin connects.
    """

    def __init__(
        self,
        directory: Path,
        *,
        version: str = "",
        socket: Path | None = None,
        plugin_path: Path | None = None,
        config_path: Path | None = None,
        required_plugin: str = "",
        registration_timeout: str = "5s",
        request_timeout: str = "2s",
    ) -> None:
        self.socket = socket or directory / "nri.sock"
        options = {
            "socket": str(self.socket),
            "registration-timeout": registration_timeout,
            "request-timeout": request_timeout,
            "required-plugin": required_plugin,
            **({"plugin-path": str(plugin_path)} if plugin_path else {}),
            **({"config-path": str(config_path)} if config_path else {}),
        }
        flags = [f"--{name}={value}" for name, value in options.items()]
        program = PEERS / (f"nri-runtime-{version}" if version else "nri-runtime")
        super().__init__([str(program), *flags], directory / "nri-runtime.log")

    def __enter__(self) -> Self:
        self.wait_for("listening", 30)
        return self

    def do(self, op: str, **request: Any) -> dict[str, Any]:
        """Any operation.  PluginRefused when it failed; ``ms`` in the answer is its time."""
        answer = self.ask(op=op, **request)
        if not answer["ok"]:
            raise PluginRefused(answer["error"])
        return answer

    def set_pods(
        self, pods: Sequence[Mapping[str, Any]], containers: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """What plugins that connect from now on are told of as being there."""
        self.do("pods", pods=list(pods), containers=list(containers))

    def plugins(self) -> dict[str, Any]:
        """``count`` of those connected, and the names of all that were ever ``called``."""
        return self.do("plugins")

    def run(self, pod: Mapping[str, Any]) -> None:
        self.do("run", pod=pod)

    def stop(self, pod: Mapping[str, Any]) -> None:
        self.do("stop", pod=pod)

    def remove(self, pod: Mapping[str, Any]) -> None:
        self.do("remove", pod=pod)

    def create(self, pod: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Create a container; gives the adjustment that the plugins asked for."""
        container = {"id": f"container-{name}", "pod": pod["id"], "name": name}
        return self.do("create", pod=pod, container=container)["adjust"] or {}
