"""Serves metrics over HTTP to Prometheus, on loopback, from a thread of its own, with prometheus_client's application.

A scrape asks the event loop for one reading, which is cheap; all other work is done in the scrape's own thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from nomaflow_telemetry.metrics import Histogram, Metric, Reading

__all__ = ["LOOP_LAG", "MetricsAddressRefused", "MetricsAddressTaken", "MetricsEndpoint", "read_metrics_address"]

_LOG = logging.getLogger(__name__)
_READ_SECONDS = 5.0
_REQUEST_SECONDS = 10.0
_AT_ONCE = 8

LOOP_LAG = Metric(
    name="nomaflow_loop_lag_seconds",
    kind="gauge",
    unit="seconds",
    help="How long the event loop took to get to this scrape.",
)


class MetricsAddressRefused(Exception):
    """Raised when metrics must not, or cannot, be served at all; the text gives the reason and the way out."""


class MetricsAddressTaken(Exception):
    """Raised when the address cannot be listened on now."""


def read_metrics_address(address: str) -> tuple[str, int]:
    """Return host and port of an address on loopback.

    :raises MetricsAddressRefused: if it is malformed, or can be reached from other machines
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise MetricsAddressRefused(
            f"the metrics address {address!r} is not HOST:PORT on loopback; write 127.0.0.1:9464, say"
        )
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        on_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        on_loopback = False
    if not on_loopback:
        raise MetricsAddressRefused(
            f"the metrics address {address!r} can be reached from other machines, and metrics have no token, no TLS; "
            f"serve them on 127.0.0.1:{port}, and have an agent or a TLS proxy on this machine scrape them"
        )
    return host, int(port)


class MetricsEndpoint:
    """The metrics endpoint of a process, and the collector of its metrics for prometheus_client.

    :param metrics: its metrics, without ``LOOP_LAG``
    :param read: returns their values; called on the event loop
    :raises MetricsAddressRefused: if the address must not be used, or the library is not installed
    """

    def __init__(self, *, address: str, metrics: Sequence[Metric], read: Callable[[], Reading]) -> None:
        self._address = read_metrics_address(address)
        self._metrics = metrics
        self._read = read
        self._server: _Server | None = None
        try:
            import prometheus_client
        except ModuleNotFoundError:
            raise MetricsAddressRefused(
                "metrics need prometheus-client, which is not installed; pip install 'nomaflow[metrics]'"
            ) from None
        registry = prometheus_client.CollectorRegistry(auto_describe=False)
        prometheus_client.ProcessCollector(registry=registry)
        registry.register(self)
        self._application = prometheus_client.make_wsgi_app(registry)

    def start(self) -> str:
        """Listen, for the running event loop; return the URL.

        :raises MetricsAddressTaken: if the address cannot be listened on
        """
        self._loop = asyncio.get_running_loop()
        host, port = self._address
        try:
            self._server = _Server(host, port)
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise MetricsAddressTaken(f"cannot serve metrics on {host}:{port}: {reason}") from None
        self._server.set_app(self._answer)
        threading.Thread(target=self._server.serve_forever, name="nomaflow-metrics", daemon=True).start()
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{self._server.server_port}/metrics"
        _LOG.info("metrics on %s", url)
        return url

    async def stop(self) -> None:
        """Stop listening. Stopping twice, or before the start, is allowed."""
        server, self._server = self._server, None
        if server is not None:
            # It may be in the middle of a scrape that waits for this very loop.
            await asyncio.to_thread(server.shutdown)
            server.server_close()

    def collect(self) -> Iterator[Any]:
        """Yield the metric families; called by the library, in the thread of a scrape.

        :raises TimeoutError: if the event loop does not answer
        """
        from prometheus_client import core

        makers: dict[str, Any] = {"gauge": core.GaugeMetricFamily, "counter": core.CounterMetricFamily}
        reading, lag = self._reading()
        yield core.GaugeMetricFamily(LOOP_LAG.name, LOOP_LAG.help, value=lag)
        for metric in self._metrics:
            found = reading[metric.name]
            if isinstance(found, Histogram):
                yield core.HistogramMetricFamily(
                    metric.name, metric.help, buckets=_cumulative(found), sum_value=found.total
                )
                continue
            family = makers[metric.kind](metric.name, metric.help, labels=metric.labels)
            for labels, value in found.items():
                family.add_metric(labels, value)
            yield family

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request for ``/metrics`` with the library's application."""
        status, text = "404 Not Found", "metrics are at /metrics"
        if environ["PATH_INFO"] == "/metrics":
            try:
                answer: Iterable[bytes] = self._application(environ, start_response)
                return answer
            except (TimeoutError, RuntimeError) as error:  # RuntimeError: the loop is closed
                status, text = "503 Service Unavailable", str(error)
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{text}\n".encode()]

    def _reading(self) -> tuple[Reading, float]:
        """Read the metrics on the event loop, between two of its turns."""
        answer: concurrent.futures.Future[tuple[Reading, float]] = concurrent.futures.Future()
        asked = time.monotonic()

        def read() -> None:
            if answer.set_running_or_notify_cancel():
                answer.set_result((self._read(), time.monotonic() - asked))

        self._loop.call_soon_threadsafe(read)
        try:
            return answer.result(_READ_SECONDS)
        except TimeoutError:
            answer.cancel()
            raise TimeoutError(f"the event loop did not answer within {_READ_SECONDS:g} s") from None


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS

    def log_message(self, format: str, *arguments: object) -> None:
        """Log requests at the lowest level."""
        _LOG.debug(format, *arguments)


class _Server(ThreadingMixIn, WSGIServer):
    """Serves at most eight scrapes at a time, each in a thread that does not delay the end of the process."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or close the connection if there are enough."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a request in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a scraper that went away; the library would print a traceback."""
        _LOG.debug("a scrape by %s failed", client_address, exc_info=True)


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
