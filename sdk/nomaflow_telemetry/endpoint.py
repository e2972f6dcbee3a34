"""Serves metrics over HTTP, from a thread of its own, with prometheus_client's application.

A scrape asks the event loop for one reading, which is cheap; all other work is done in the scrape's own thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from nomaflow_telemetry.metrics import Histogram, Metric, Reading
from nomaflow_telemetry.metrics_address import (
    MetricsAddress,
    MetricsAddressRefused,
    MetricsAddressTaken,
    MetricsCertificate,
    MetricsPlace,
    MetricsToken,
    checked_address,
)

_LOG = logging.getLogger(__name__)
_READ_SECONDS = 5.0
_REQUEST_SECONDS = 10.0
_AT_ONCE = 8
_ROOM_SECONDS = 1.0

LOOP_LAG = Metric(
    name="nomaflow_loop_lag_seconds",
    kind="gauge",
    unit="seconds",
    help="How long the event loop took to get to this scrape.",
)


class MetricsEndpoint:
    """The metrics endpoint of a process, and the collector of its metrics for prometheus_client.

    :param metrics: its metrics, without ``LOOP_LAG``
    :param read: returns their values; called on the event loop
    :raises MetricsAddressRefused: if the address or a file must not be used, or the library is not installed
    """

    def __init__(self, place: MetricsPlace, *, metrics: Sequence[Metric], read: Callable[[], Reading]) -> None:
        self._address = checked_address(place)
        self._token = None if place.token_file is None else MetricsToken(place.token_file)
        cert, key = place.tls_cert, place.tls_key
        self._certificate = None if cert is None or key is None else MetricsCertificate(cert, key)
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
        try:
            if self._address.path:
                self._server = _UnixServer(self._address.path)
            else:
                self._server = _Server(self._address, self._certificate)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise MetricsAddressTaken(f"cannot serve metrics on {self._address}: {reason}") from None
        self._server.set_app(self._answer)
        threading.Thread(target=self._server.serve_forever, name="nomaflow-metrics", daemon=True).start()
        host = self._address.host
        shown = f"[{host}]" if ":" in host else host
        scheme = "http" if self._certificate is None else "https"
        url = f"{self._address}" if self._address.path else f"{scheme}://{shown}:{self._server.server_port}/metrics"
        _LOG.info("metrics on %s", url)
        if self._certificate is None and not self._address.is_local:
            _LOG.warning("the token of metrics crosses the network as plain text; metrics_tls_cert makes that TLS")
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
        status, text, more = "404 Not Found", "metrics are at /metrics", []
        if not self._address.is_meant_by(environ.get("HTTP_HOST")):
            status, text = "421 Misdirected Request", "the Host header names another machine; ask for 127.0.0.1"
        elif self._token is not None and not self._token.is_shown_by(environ.get("HTTP_AUTHORIZATION", "")):
            status, text = "401 Unauthorized", "show the token of metrics_token_file: Authorization: Bearer TOKEN"
            more = [("WWW-Authenticate", "Bearer")]
        elif environ["PATH_INFO"] == "/metrics":
            try:
                answer: Iterable[bytes] = self._application(environ, start_response)
                return answer
            except (TimeoutError, RuntimeError) as error:  # RuntimeError: the loop is closed
                status, text = "503 Service Unavailable", str(error)
        start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *more])
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
    """Serves at most eight scrapes at a time, each in a thread that does not delay the end of the process.

    Where there are eight, the one that began first makes room: whoever sends theirs slowly must not keep others out.
    """

    daemon_threads = True

    def __init__(self, address: MetricsAddress, certificate: MetricsCertificate | None = None) -> None:
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._open: dict[Any, socket.socket] = {}
        """Each request → another handle of its connection, in the order in which they came."""
        self._certificate = certificate
        if address.host:
            self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        super().__init__((address.host, address.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or close the connection if none makes room in time."""
        if not self._slots.acquire(blocking=False):
            with contextlib.suppress(StopIteration, RuntimeError, OSError):  # it has ended just now
                next(iter(self._open.values())).shutdown(socket.SHUT_RDWR)
            if not self._slots.acquire(timeout=_ROOM_SECONDS):
                self.shutdown_request(request)
                return
        try:
            self._open[request] = request.dup()  # TLS takes the request's own away
        except OSError:
            self._slots.release()
            raise
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a request in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.pop(request).close()
            self._slots.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer a request, after the handshake if there is one; both have the time limit of a request."""
        if self._certificate is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(_REQUEST_SECONDS)
        with self._certificate.context().wrap_socket(request, server_side=True) as connection:
            super().finish_request(connection, client_address)
            connection.unwrap()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a scraper that went away; the library would print a traceback."""
        _LOG.debug("a scrape by %s failed", client_address, exc_info=True)


class _UnixServer(_Server):
    """Serves them on a Unix socket, for its owner and group; a folder may let fewer in."""

    address_family = socket.AF_UNIX

    def __init__(self, path: str) -> None:
        self._path = path
        self._bound = False
        super().__init__(MetricsAddress(path=path))

    def server_bind(self) -> None:
        """Take the path, also from a process that has ended without removing it."""
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(self._path).st_mode) and not _listens(self._path):
                os.unlink(self._path)
        self.server_address = self._path  # type: ignore[assignment]  # that of a Unix socket
        TCPServer.server_bind(self)
        self._bound = True
        os.chmod(self._path, 0o660)  # nobody can connect before it listens
        self.server_name, self.server_port = "localhost", 0
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its other end has no address."""
        connection, _ = self.socket.accept()
        return connection, ("", 0)

    def server_close(self) -> None:
        """Close it, and remove its path if that is this one's."""
        super().server_close()
        if self._bound:
            with contextlib.suppress(OSError):
                os.unlink(self._path)


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
