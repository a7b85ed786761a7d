"""From a configuration to handlers over the real kernel and journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_netdev.core.engine import Injector
from cni_netdev.core.errors import Fault, RequestError
from cni_netdev.core.journal import DEFAULT_DIRECTORY, FileJournal
from cni_netdev.core.kernel import SystemKernel
from cni_netdev.core.policy import Policy
from cni_netdev.core.policyfile import load
from nri_plugin.config import Config, parse
from nri_plugin.handlers import Handlers, Settings
from nri_plugin.metrics import NoMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from nri_plugin.logs import Log
    from nri_plugin.metrics import Metrics

# A lock is had well within the runtime's 2 s, or the pod is refused while there is time to say so.
_LOCK_SECONDS = 1.0


class Assembly:
    """Puts the parts together, anew at each Configure."""

    def __init__(self, flags: Config, file: Config, log: Log) -> None:
        """Raises RequestError and OSError, as configure() does."""
        self._flags, self._file = flags, file
        self._log = log
        self._stop_serving: Callable[[], None] | None = None
        self._serving: tuple[str, int] | None = None
        self._kernel = SystemKernel()
        self.metrics: Metrics = NoMetrics()
        self.handlers = self.configure("")

    def configure(self, text: str) -> Handlers:
        """The handlers by the text of Configure, over the file's configuration, below the flags'.

        Raises RequestError for a text that is wrong or an address that cannot be had, OSError for
        a log file that cannot be opened.
        """
        config = self._flags.over(parse(text, "Configure")).over(self._file)
        policy = _policy(config)
        policy()  # what is wrong with it is said now, not with the first pod
        self._log.become(config.log_file, config.log_level, config.log_format)
        self._serve(config.metrics)
        directory = config.state_dir or DEFAULT_DIRECTORY
        journal = FileJournal(directory, _LOCK_SECONDS, resident=True)
        engine = Injector(self._kernel, journal, resident=True)
        settings = Settings(policy, bool(config.adopt))
        self.handlers = Handlers(engine, settings, self._log, self.metrics)
        return self.handlers

    def warm(self) -> None:
        """Load what the first pod would otherwise wait for; nothing is changed."""
        import yaml  # noqa: F401 - annotations are written in it

        from cni_netdev.core import sysctl  # noqa: F401

        host = self._kernel.host
        loopback = host.link(name="lo")
        if loopback is not None:
            ifindex = loopback.identity.ifindex
            for look in (host.addresses, host.routes, host.neighbours, host.tcx, host.qdiscs):
                look(ifindex)

    def close(self) -> None:
        if self._stop_serving is not None:
            self._stop_serving()
        self._kernel.close()

    def _serve(self, address: tuple[str, int] | None) -> None:
        if address == self._serving:
            return
        if self._stop_serving is not None:
            self._stop_serving()
        self._stop_serving, self._serving, self.metrics = None, None, NoMetrics()
        if address is not None:
            from nri_plugin.prometheus import PrometheusMetrics

            metrics = PrometheusMetrics()
            try:
                self._stop_serving = metrics.serve(*address)
            except (OSError, UnicodeError) as error:
                raise _cannot_listen(address, error) from error
            self.metrics, self._serving = metrics, address


def _cannot_listen(address: tuple[str, int], error: Exception) -> RequestError:
    host, port = address
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return RequestError((Fault("metrics", f"cannot listen on {where}: {reason}"),))


def _policy(config: Config) -> Callable[[], Policy]:
    path = config.policy_file
    if path is not None:
        return lambda: load(path)
    policy = config.policy or Policy()
    return lambda: policy
