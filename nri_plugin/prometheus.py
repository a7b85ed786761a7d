"""What Prometheus and the kubelet may ask: /metrics, /healthz, /readyz.

Loaded only when an address is configured.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    make_wsgi_app,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# A move takes 16 ms; the runtime gives up after 2 s.
_BUCKETS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.5, 2.0, 5.0)
_ALIVE_SECONDS = 30.0
_MOST_CLIENTS = 32


class PrometheusMetrics:
    """metrics.Metrics, told over HTTP."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._registry = registry
        self._attached = Counter("netdev_attach", "Pods served", ["result"], registry=registry)
        self._detached = Counter("netdev_detach", "Pods ended", ["result"], registry=registry)
        self._attach_seconds = _seconds("netdev_attach_seconds", "Time to attach", registry)
        self._detach_seconds = _seconds("netdev_detach_seconds", "Time to detach", registry)
        self._lent = Gauge("netdev_devices_lent", "Devices that pods hold", registry=registry)
        self._fell_back = Counter(
            "netdev_restore_fallbacks", "Links back under another name", registry=registry
        )
        self._lost = Counter(
            "netdev_devices_lost", "Links destroyed while they were lent", registry=registry
        )
        self._reconnects = Counter(
            "netdev_reconnects", "Connections to the runtime after the first", registry=registry
        )
        self._without = Gauge(
            "netdev_pods_without_device",
            "Running pods that lacked what they asked for at the last synchronization",
            registry=registry,
        )
        self._ready = False
        self._seen_alive = time.monotonic()
        self._stuck = ""

    def attached(self, result: str, seconds: float) -> None:
        self._attached.labels(result).inc()
        self._attach_seconds.observe(seconds)

    def detached(self, result: str, seconds: float) -> None:
        self._detached.labels(result).inc()
        self._detach_seconds.observe(seconds)

    def fell_back(self, links: int) -> None:
        self._fell_back.inc(links)

    def lost(self, links: int) -> None:
        self._lost.inc(links)

    def lent(self, devices: int) -> None:
        self._lent.set(devices)

    def without_device(self, pods: int) -> None:
        self._without.set(pods)

    def reconnected(self) -> None:
        self._reconnects.inc()

    def ready(self, yes: bool) -> None:
        self._ready = yes

    def alive(self, stuck: str) -> None:
        self._seen_alive, self._stuck = time.monotonic(), stuck

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Answer on this address until the returned function is called.  Raises OSError."""
        kind = _Server6 if ":" in host else _Server
        server = make_server(host, port, self._application(), kind, _Quiet)
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()

        def stop() -> None:
            server.shutdown()
            server.server_close()

        return stop

    def _application(self) -> Any:
        metrics = make_wsgi_app(self._registry)

        def application(environ: dict[str, Any], start: Any) -> Any:
            match environ.get("PATH_INFO"):
                case "/metrics":
                    return metrics(environ, start)
                case "/healthz":
                    silent = time.monotonic() - self._seen_alive > _ALIVE_SECONDS
                    return _plain(start, "the event loop is stuck" if silent else self._stuck)
                case "/readyz":
                    return _plain(start, "" if self._ready else "not connected to a runtime")
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"there are /metrics, /healthz and /readyz\n"]

        return application


class _Server(ThreadingMixIn, WSGIServer):
    """One thread a request: a slow reader must not keep the kubelet's probe waiting.

    Of too many the oldest goes, so that they do not use up descriptors either.
    """

    daemon_threads = True
    request_queue_size = 2 * _MOST_CLIENTS

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._clients: dict[Any, None] = {}

    def process_request(self, request: Any, client_address: Any) -> None:
        self._clients[request] = None
        if len(self._clients) > _MOST_CLIENTS:
            oldest = next(iter(self._clients))
            self._clients.pop(oldest, None)
            with suppress(OSError):  # it just went by itself
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._clients.pop(request, None)
        super().shutdown_request(request)

    def server_bind(self) -> None:
        """HTTPServer's also asks the DNS for our name, for as long as that takes."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def handle_error(self, *_: Any) -> None:
        """A client that says nothing, or leaves, is no news."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = 10  # seconds for a client to say what it wants

    def log_message(self, *_: Any) -> None: ...


def _seconds(name: str, what: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, what, buckets=_BUCKETS, registry=registry)


def _plain(start: Any, trouble: str) -> list[bytes]:
    status = "503 Service Unavailable" if trouble else "200 OK"
    start(status, [("Content-Type", "text/plain")])
    return [f"{trouble or 'ok'}\n".encode()]
