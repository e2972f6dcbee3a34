"""The endpoint of metrics: where it may listen, what it answers, what it costs the event loop."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nomaflow_telemetry.endpoint import (
    MetricsAddressRefused,
    MetricsAddressTaken,
    MetricsEndpoint,
    read_metrics_address,
)
from nomaflow_telemetry.metrics import Histogram, Metric, Reading

METRICS = (
    Metric(name="nomaflow_things", kind="gauge", labels=("state",), help="Things."),
    Metric(name="nomaflow_seen_total", kind="counter", help="Seen."),
    Metric(name="nomaflow_taken_seconds", kind="histogram", unit="seconds", help="Taken."),
)


def reading() -> Reading:
    """Return a value of each."""
    taken = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0, -1.0):
        taken.observe(seconds)
    return {
        "nomaflow_things": {("on",): 2, ("off",): 0},
        "nomaflow_seen_total": {(): 5},
        "nomaflow_taken_seconds": taken,
    }


def get(url: str) -> str:
    """Return what a URL answers."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


@asynccontextmanager
async def served(address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Serve the metrics; nothing listens afterwards."""
    endpoint = MetricsEndpoint(address=address, metrics=METRICS, read=reading)
    url = endpoint.start()
    try:
        yield url
    finally:
        await endpoint.stop()
        await endpoint.stop()
    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(get, url)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:9464",
        "[::]:9464",
        "192.0.2.1:80",
        "example.org:80",
        ":9464",
        "",
        "9464",
        "127.0.0.1:x",
        "127.0.0.1:99999",
    ],
)
def test_other_addresses_than_loopback_are_refused(address: str) -> None:
    """The refusal names the expected form."""
    with pytest.raises(MetricsAddressRefused, match=r"127\.0\.0\.1:"):
        read_metrics_address(address)


async def test_a_scrape_has_every_metric() -> None:
    """Values, labels, and histograms with cumulative buckets; the process's own metrics too."""
    async with served() as url:
        text = await asyncio.to_thread(get, url)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {sample.labels["state"]: sample.value for sample in families["nomaflow_things"].samples} == {
        "on": 2,
        "off": 0,
    }
    assert [sample.value for sample in families["nomaflow_seen"].samples if sample.name.endswith("_total")] == [5]
    taken = families["nomaflow_taken_seconds"]
    assert taken.type == "histogram"
    buckets = {sample.labels["le"]: sample.value for sample in taken.samples if sample.name.endswith("_bucket")}
    assert buckets == {"0.1": 3, "1": 4, "+Inf": 5} or buckets == {"0.1": 3, "1.0": 4, "+Inf": 5}
    assert [sample.value for sample in taken.samples if sample.name.endswith("_sum")] == [pytest.approx(7.65)]
    assert families["nomaflow_loop_lag_seconds"].samples[0].value >= 0
    assert "process_cpu_seconds" in families


async def test_there_is_nothing_elsewhere() -> None:
    """Another path is 404, and says where the metrics are."""
    async with served() as url:
        with pytest.raises(urllib.error.HTTPError) as caught:
            await asyncio.to_thread(get, url.replace("/metrics", "/"))
        with caught.value as answer:
            assert answer.code == 404
            assert b"/metrics" in answer.read()


async def test_a_loop_that_stands_still_fails_the_scrape_and_not_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scraper gets 503 and why; the next one is answered."""
    monkeypatch.setattr("nomaflow_telemetry.endpoint._READ_SECONDS", 0.2)
    answers: list[int] = []

    def scrape(url: str) -> None:
        try:
            get(url)
        except urllib.error.HTTPError as error:
            with error:
                answers.append(error.code)

    async with served() as url:
        scraper = threading.Thread(target=scrape, args=(url,))
        scraper.start()
        until = time.monotonic() + 8
        while not answers and time.monotonic() < until:
            time.sleep(0.01)  # the event loop stands still
        scraper.join()
        assert answers == [503]
        assert "nomaflow_things" in await asyncio.to_thread(get, url)


async def test_many_connections_are_few_threads() -> None:
    """Eight may be open at once, the next one is closed; once they have gone a scrape is answered again."""
    async with served() as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
        # Less than the ten seconds after which any connection that asks for nothing is closed.
        with socket.create_connection(("127.0.0.1", port), timeout=6) as one_more:
            assert await asyncio.to_thread(one_more.recv, 1) == b""
        for connection in idle:
            connection.close()

        def scraped() -> bool:
            try:
                return "nomaflow_things" in get(url)
            except OSError:
                return False

        async with asyncio.timeout(20):
            while not await asyncio.to_thread(scraped):
                await asyncio.sleep(0.01)


async def test_an_address_that_is_taken_is_said() -> None:
    """The error gives the system's reason."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        endpoint = MetricsEndpoint(address=f"127.0.0.1:{port}", metrics=METRICS, read=reading)
        with pytest.raises(MetricsAddressTaken, match="address already in use"):
            endpoint.start()
        await endpoint.stop()
