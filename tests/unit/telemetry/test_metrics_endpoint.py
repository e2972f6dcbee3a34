"""The endpoint of metrics: where it may listen, what it answers, what it costs the event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.certificate_authority import Authority
from tests.machine_parts import need

from nomaflow_telemetry.endpoint import MetricsEndpoint
from nomaflow_telemetry.metrics import Histogram, Metric, Reading
from nomaflow_telemetry.metrics_address import (
    MetricsAddressRefused,
    MetricsAddressTaken,
    MetricsPlace,
    read_metrics_address,
)

METRICS = (
    Metric(name="nomaflow_things", kind="gauge", labels=("state",), help="Things."),
    Metric(name="nomaflow_seen_total", kind="counter", help="Seen."),
    Metric(name="nomaflow_taken_seconds", kind="histogram", unit="seconds", help="Taken."),
)
TOKEN = "a-token-of-many-characters"


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
    endpoint = MetricsEndpoint(MetricsPlace(address=address), metrics=METRICS, read=reading)
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
        "example.org:80",
        ":9464",
        "",
        "9464",
        "127.0.0.1:x",
        "127.0.0.1:99999",
    ],
)
def test_malformed_addresses_are_refused(address: str) -> None:
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
        until = time.monotonic() + 60
        while not answers and time.monotonic() < until:
            time.sleep(0.01)  # the event loop stands still
        scraper.join()
        assert answers == [503]
        monkeypatch.undo()
        assert "nomaflow_things" in await asyncio.to_thread(get, url)


async def test_slow_callers_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight may be open at once; for the next one the first of them is closed, and no other."""
    # Else any connection that asks for nothing is closed after ten seconds.
    monkeypatch.setattr("nomaflow_telemetry.endpoint._Handler.timeout", 600.0)
    async with served() as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        slow = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(8)]
        for connection in slow:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        assert "nomaflow_things" in await asyncio.to_thread(get, url)
        assert await asyncio.to_thread(slow[0].recv, 1) == b""
        for connection in slow[1:]:
            connection.sendall(b"ly\r\n\r\n")
            assert (await asyncio.to_thread(connection.recv, 15)).startswith(b"HTTP/1.0 200 OK")
            connection.close()
        slow[0].close()


async def test_an_address_that_is_taken_is_said() -> None:
    """The error gives the system's reason."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        endpoint = MetricsEndpoint(MetricsPlace(address=f"127.0.0.1:{port}"), metrics=METRICS, read=reading)
        with pytest.raises(MetricsAddressTaken, match="address already in use"):
            endpoint.start()
        await endpoint.stop()


@asynccontextmanager
async def answering(**options: Any) -> AsyncIterator[MetricsEndpoint]:
    """Serve the metrics with further options."""
    endpoint = MetricsEndpoint(MetricsPlace(**options), metrics=METRICS, read=reading)
    try:
        yield endpoint
    finally:
        await endpoint.stop()


def ask(url: str, **headers: str) -> tuple[int, str]:
    """Return the status and text of an answer to a request with these headers."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:9464", 200),
        ("[::1]:9464", 200),
        ("[::1]", 200),
        ("127.0.0.1:1", 200),
        ("evil.example:9464", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.0.2.7:9464", 421),
        ("", 421),
    ],
)
async def test_a_page_that_gives_loopback_its_own_name_reads_nothing(host: str, status: int) -> None:
    """A browser whose page's name was made to point to loopback gets 421: the Host header names another machine."""
    async with answering(address="127.0.0.1:0") as endpoint:
        code, text = await asyncio.to_thread(ask, endpoint.start(), Host=host)
    assert code == status
    assert ("nomaflow_things" in text) is (status == 200)


async def test_a_scrape_shows_the_token_of_the_file(tmp_path: Path) -> None:
    """Without the token, and with a wrong one, a scrape gets 401; a replaced token counts from the next scrape on."""
    file = tmp_path / "token"
    file.write_text("a-token-of-many-characters\n")
    file.chmod(0o600)
    async with answering(address="127.0.0.1:0", token_file=file) as endpoint:
        url = endpoint.start()

        async def status(text: str) -> int:
            headers = {"Authorization": text} if text else {}
            return (await asyncio.to_thread(ask, url, **headers))[0]

        good = "Bearer a-token-of-many-characters"
        assert [await status(text) for text in ("", "Bearer x", "Basic a-token-of-many-characters", good)] == [
            401,
            401,
            401,
            200,
        ]
        file.write_text("another-token-of-many-characters")
        assert await status(good) == 401
        assert await status("bearer another-token-of-many-characters") == 200
        file.unlink()
        assert await status("Bearer ") == 401


@pytest.mark.parametrize(("text", "mode", "why"), [("x" * 40, 0o644, "chmod 600"), ("short", 0o600, "fewer than 16")])
def test_a_token_file_that_protects_nothing_is_refused(tmp_path: Path, text: str, mode: int, why: str) -> None:
    """The file must be its owner's alone, and hold a token that nobody guesses; the refusal never shows it."""
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(MetricsAddressRefused, match=why) as refused:
        MetricsEndpoint(MetricsPlace(address="127.0.0.1:0", token_file=file), metrics=METRICS, read=reading)
    assert text not in str(refused.value)
    with pytest.raises(MetricsAddressRefused, match="no such file"):
        MetricsEndpoint(
            MetricsPlace(address="127.0.0.1:0", token_file=tmp_path / "none"), metrics=METRICS, read=reading
        )


def scrape_unix(path: Path) -> str:
    """Return what the metrics on a Unix socket answer."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(20)
        link.connect(str(path))
        link.sendall(b"GET /metrics HTTP/1.0\r\nHost: anything\r\n\r\n")
        return b"".join(iter(lambda: link.recv(1 << 16), b"")).decode()


async def test_metrics_on_a_unix_socket_are_for_its_owner_and_group(tmp_path: Path) -> None:
    """The socket is closed to other users, takes the place of one left behind, and goes with the process."""
    path = tmp_path / "metrics.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    async with answering(address=f"unix:{path}") as endpoint:
        assert endpoint.start() == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert "nomaflow_things" in await asyncio.to_thread(scrape_unix, path)
        second = MetricsEndpoint(MetricsPlace(address=f"unix:{path}"), metrics=METRICS, read=reading)
        with pytest.raises(MetricsAddressTaken, match="in use"):
            second.start()
        assert "nomaflow_things" in await asyncio.to_thread(scrape_unix, path)
    assert not path.exists()
    path.write_text("a file of somebody")
    with pytest.raises(MetricsAddressTaken):
        MetricsEndpoint(MetricsPlace(address=f"unix:{path}"), metrics=METRICS, read=reading).start()
    assert path.read_text() == "a file of somebody"
    with pytest.raises(MetricsAddressRefused, match="absolute"):
        read_metrics_address("unix:relative.sock")


def a_token(folder: Path) -> Path:
    """Return a file that holds ``TOKEN``."""
    file = folder / "token"
    file.touch(mode=0o600)
    file.write_text(TOKEN)
    return file


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464"])
def test_an_address_of_the_network_needs_a_token(address: str, tmp_path: Path) -> None:
    """Without one it is refused, with the two ways out; with one it is taken."""
    with pytest.raises(MetricsAddressRefused, match=r"metrics_token_file, or serve metrics on 127\.0\.0\.1:9464"):
        MetricsEndpoint(MetricsPlace(address=address), metrics=METRICS, read=reading)
    MetricsEndpoint(MetricsPlace(address=address, token_file=a_token(tmp_path)), metrics=METRICS, read=reading)


ELSEWHERE = """
import asyncio, logging, pathlib, sys, urllib.error, urllib.request
from nomaflow_telemetry.endpoint import MetricsEndpoint
from nomaflow_telemetry.metrics_address import MetricsPlace

def status(**headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(URL, headers=headers), timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code

async def main():
    place = MetricsPlace(address="0.0.0.0:9464", token_file=pathlib.Path(sys.argv[1]))
    endpoint = MetricsEndpoint(place, metrics=(), read=dict)
    endpoint.start()
    for headers in ({}, {"Authorization": "Bearer " + sys.argv[2]}, {"Host": "metrics.example"}):
        print(await asyncio.to_thread(status, **headers))
    await endpoint.stop()

URL = "http://192.0.2.7:9464/metrics"
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(levelname)s %(message)s")
asyncio.run(main())
"""


def test_a_scrape_from_another_address_needs_the_token(tmp_path: Path) -> None:
    """In a network of its own, a process that listens on all addresses answers who shows the token, and warns."""
    need("unshare", "ip", namespaces=True)
    network = 'ip link set lo up && ip address add 192.0.2.7/32 dev lo && exec "$@"'
    command = ["unshare", "--net", "sh", "-c", network, "sh", sys.executable, "-c", ELSEWHERE]
    done = subprocess.run(
        [*command, str(a_token(tmp_path)), TOKEN], capture_output=True, text=True, check=True, timeout=240
    )
    told, warning, *statuses = done.stdout.splitlines()
    assert told == "INFO metrics on http://0.0.0.0:9464/metrics"
    assert warning.startswith("WARNING the token of metrics crosses the network as plain text")
    assert statuses == ["401", "200", "401"]


def shown(url: str, authority: Authority) -> int:
    """Return the serial number of the certificate that a scrape over TLS meets; its answer has the metrics."""
    context = ssl.create_default_context(cafile=authority.file)
    with urllib.request.urlopen(url, timeout=20, context=context) as answer:
        assert b"nomaflow_things" in answer.read()
    port = int(url.rpartition(":")[2].partition("/")[0])
    link = socket.create_connection(("127.0.0.1", port), timeout=20)
    with context.wrap_socket(link, server_hostname="127.0.0.1") as connection:
        found = connection.getpeercert()
    assert found is not None
    return int(str(found["serialNumber"]), 16)


async def test_metrics_over_tls(tmp_path: Path) -> None:
    """Plain text gets nothing, a silent connection holds nobody up, and a replaced certificate counts at once."""
    authority = Authority(tmp_path)
    pair, later = authority.issue("first", "127.0.0.1"), authority.issue("later", "127.0.0.1")
    async with answering(address="127.0.0.1:0", tls_cert=pair.cert, tls_key=pair.key) as endpoint:
        url = endpoint.start()
        assert url.startswith("https://127.0.0.1:")
        port = int(url.rpartition(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=20):
            first = await asyncio.to_thread(shown, url, authority)
            with pytest.raises((urllib.error.URLError, ConnectionError)):
                await asyncio.to_thread(get, url.replace("https", "http"))
            pair.become(later)
            assert await asyncio.to_thread(shown, url, authority) != first


def test_a_certificate_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """One file alone, a key of another certificate or with a password, a missing file, a key that others may read."""
    authority = Authority(tmp_path)
    pair, other = authority.issue("pair", "127.0.0.1"), authority.issue("other", "127.0.0.1")

    def refused(match: str, **files: Path) -> None:
        place = MetricsPlace(address="127.0.0.1:0", **files)  # type: ignore[arg-type]
        with pytest.raises(MetricsAddressRefused, match=match):
            MetricsEndpoint(place, metrics=METRICS, read=reading)

    refused("needs both", tls_cert=pair.cert)
    refused("needs both", tls_key=pair.key)
    refused("cannot be used: .*mismatch", tls_cert=pair.cert, tls_key=other.key)
    locked = authority.issue("locked", "127.0.0.1", password=b"open sesame")
    refused("cannot be used: the key has a password", tls_cert=locked.cert, tls_key=locked.key)
    refused("cannot be used: no such file", tls_cert=tmp_path / "none", tls_key=pair.key)
    pair.key.chmod(0o644)
    refused("chmod 600", tls_cert=pair.cert, tls_key=pair.key)
