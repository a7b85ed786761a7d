"""What is told over HTTP, asked over HTTP."""

from __future__ import annotations

import http.client
import re
import socket
from typing import TYPE_CHECKING

import pytest

from nri_plugin import prometheus
from nri_plugin.prometheus import PrometheusMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

    from nri_plugin.metrics import Metrics


class Client:
    """Asks a server of these metrics."""

    def __init__(self, metrics: PrometheusMetrics, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as free:
            free.bind((host, 0))
            self.address = (host, free.getsockname()[1])
        self.stop = metrics.serve(*self.address)

    def ask(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    def value(self, name: str) -> float | None:
        match = re.search(rf"^{re.escape(name)} (\S+)$", self.ask("/metrics")[1], re.MULTILINE)
        return float(match[1]) if match else None


@pytest.fixture
def metrics() -> PrometheusMetrics:
    return PrometheusMetrics()


@pytest.fixture
def client(metrics: PrometheusMetrics) -> Iterator[Client]:
    client = Client(metrics)
    yield client
    client.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    """For what needs no metrics of its own: to stop a server takes half a second."""
    client = Client(PrometheusMetrics())
    yield client
    client.stop()


def test_what_happened_is_counted(metrics: Metrics, client: Client) -> None:
    metrics.attached("ok", 0.016)
    metrics.attached("ok", 0.5)
    metrics.attached("PolicyRefused", 0.001)
    metrics.detached("ok", 0.03)
    metrics.detached("incomplete", 7.0)
    metrics.fell_back(3)
    metrics.fell_back(0)
    metrics.lost(2)
    metrics.lost(0)
    metrics.lent(5)
    metrics.without_device(3)
    metrics.reconnected()
    wanted = {
        'netdev_attach_total{result="ok"}': 2,
        'netdev_attach_total{result="PolicyRefused"}': 1,
        'netdev_detach_total{result="ok"}': 1,
        'netdev_detach_total{result="incomplete"}': 1,
        "netdev_attach_seconds_count": 3,
        "netdev_attach_seconds_sum": 0.517,
        'netdev_attach_seconds_bucket{le="0.005"}': 1,
        'netdev_attach_seconds_bucket{le="0.02"}': 2,
        'netdev_attach_seconds_bucket{le="2.0"}': 3,
        'netdev_detach_seconds_bucket{le="5.0"}': 1,
        'netdev_detach_seconds_bucket{le="+Inf"}': 2,
        "netdev_restore_fallbacks_total": 3,
        "netdev_devices_lost_total": 2,
        "netdev_devices_lent": 5,
        "netdev_pods_without_device": 3,
        "netdev_reconnects_total": 1,
    }
    assert {name: client.value(name) for name in wanted} == pytest.approx(wanted)


def test_gauges_say_how_it_is_now(metrics: Metrics, client: Client) -> None:
    for number in (5, 0):
        metrics.lent(number)
        metrics.without_device(number)
        assert client.value("netdev_devices_lent") == number
        assert client.value("netdev_pods_without_device") == number


def test_the_process_is_told_of(shared: Client) -> None:
    text = shared.ask("/metrics")[1]
    assert "process_resident_memory_bytes" in text
    assert "python_info" in text


def test_two_of_them_do_not_mix(client: Client) -> None:
    PrometheusMetrics().lent(7)
    assert client.value("netdev_devices_lent") == 0


def test_readiness(metrics: Metrics, client: Client) -> None:
    assert client.ask("/readyz") == (503, "not connected to a runtime\n")
    metrics.ready(True)
    assert client.ask("/readyz") == (200, "ok\n")
    metrics.ready(False)
    assert client.ask("/readyz")[0] == 503


def test_liveness_is_the_event_loops_and_the_workers(
    metrics: Metrics, client: Client, mocker: MockerFixture
) -> None:
    now = 1000.0
    clock = mocker.patch("nri_plugin.prometheus.time.monotonic", side_effect=lambda: now)
    metrics.alive("")
    assert client.ask("/healthz") == (200, "ok\n")
    now += 31
    assert client.ask("/healthz") == (503, "the event loop is stuck\n")
    metrics.alive("the worker is, too")
    assert client.ask("/healthz") == (503, "the worker is, too\n")
    metrics.alive("")
    assert client.ask("/healthz")[0] == 200
    assert clock.called


@pytest.mark.parametrize("path", ["/", "/metrics/", "/healthz2", "/readyz/x"])
def test_there_is_nothing_else(shared: Client, path: str) -> None:
    status, body = shared.ask(path)
    assert status == 404
    assert body == "there are /metrics, /healthz and /readyz\n"


def test_a_silent_client_keeps_nobody_waiting(shared: Client) -> None:
    with socket.create_connection(shared.address):
        assert shared.ask("/healthz")[0] == 200


def test_a_client_that_gives_up_is_no_news(
    metrics: PrometheusMetrics, mocker: MockerFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    mocker.patch.object(prometheus._Quiet, "timeout", 0.01)
    client = Client(metrics)
    with socket.create_connection(client.address) as silent:
        assert silent.recv(1) == b"", "it was not waited for"
    client.stop()
    assert capfd.readouterr().err == ""


def test_of_too_many_clients_the_oldest_goes(client: Client, mocker: MockerFixture) -> None:
    mocker.patch.object(prometheus, "_MOST_CLIENTS", 4)
    silent = [socket.create_connection(client.address) for _ in range(12)]
    assert client.ask("/healthz")[0] == 200
    for each in silent[:8]:
        assert each.recv(1) == b""
    for each in silent[9:]:
        each.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert each.recv(12) == b"HTTP/1.0 200"
    for each in silent:
        each.close()


def test_an_ipv6_address(metrics: PrometheusMetrics) -> None:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    client = Client(metrics, "::1")
    assert client.ask("/healthz")[0] == 200
    client.stop()


def test_nobody_is_asked_for_our_name(metrics: PrometheusMetrics, mocker: MockerFixture) -> None:
    """The DNS may be down, and Configure has two seconds."""
    asked = mocker.patch("socket.getfqdn")
    Client(metrics).stop()
    assert not asked.called


def test_an_address_that_is_taken(metrics: PrometheusMetrics, client: Client) -> None:
    with pytest.raises(OSError, match="in use"):
        metrics.serve(*client.address)


def test_a_stopped_server_lets_its_address_go(client: Client, metrics: PrometheusMetrics) -> None:
    other = Client(metrics)
    other.stop()
    with pytest.raises(ConnectionRefusedError):
        other.ask("/healthz")
    metrics.serve(*other.address)()
    assert client.ask("/healthz")[0] == 200
