"""Metrics of real processes: they match the table of docs/metrics.md, and count what happened."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from project_system import ProjectSystem, open_system
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from nomaflow_host.observing.metrics import HOST_METRICS
from nomaflow_kernel.observing.metrics import KERNEL_METRICS
from nomaflow_telemetry.endpoint import LOOP_LAG
from real_system import eventually

pytestmark = pytest.mark.e2e

TOKEN, SOCKET = "a-token-of-many-characters", "metrics.sock"
JOBS = """
[[jobs]]
id = "count"
steps = [{ callable = "team.code:count" }]

[[jobs]]
id = "fail"
steps = [{ callable = "team.code:fail" }]

[[jobs]]
id = "sleep"
overlap = "queue"
steps = [{ callable = "team.code:sleep" }]

[[jobs]]
id = "ticks"
schedule = "* * * * * *"
params = { }
steps = [{ callable = "team.code:strict" }]
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[ProjectSystem]:
    """Start a kernel that serves metrics to who shows a token, and a host that serves its own on a Unix socket."""
    for opened in open_system(tmp_path / "p", forks_templates=True):
        opened.write(JOBS)
        settings = '[host]\nname = "team"\ndrain_seconds = 0.2\ncancel_grace_seconds = 0.2\n'
        place = f'metrics = "unix:{opened.project / SOCKET}"\n'
        (opened.project / "nomaflow.toml").write_text(f'{settings}{place}[kernel]\nmetrics_token_file = "token"\n')
        (opened.project / "token").touch(mode=0o600)
        (opened.project / "token").write_text(TOKEN)
        opened.start_kernel("--metrics", "127.0.0.1:0")
        opened.start_host()
        eventually(lambda opened=opened: len(opened.jobs()) == 4)
        yield opened


def asked(system: ProjectSystem, **headers: str) -> httpx.Response:
    """Return what the kernel answers to a scrape with these headers."""
    (url,) = re.findall(r"metrics on (http://127\.0\.0\.1:\d+/metrics)", system.log("kernel"))
    return httpx.get(url, headers=headers, timeout=20)


def scraped(system: ProjectSystem, part: str) -> dict[str, Metric]:
    """Return the families that a part exports, by name."""
    if part == "kernel":
        text = asked(system, Authorization=f"Bearer {TOKEN}").text
    else:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(system.project / SOCKET)), timeout=20) as client:
            text = client.get("http://localhost/metrics").text
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    """Return the value of one sample."""
    found = [each for family in families.values() for each in family.samples if each.name == sample]
    (one,) = [each for each in found if each.labels == labels]
    return float(one.value)


def test_the_exports_are_the_tables(system: ProjectSystem) -> None:
    """Each metric has name, type, help and labels of the table, and there is no other; V15: a stranger reads none of them."""
    assert asked(system).status_code == 401
    assert asked(system, Authorization=f"Bearer {TOKEN}", Host="evil.example").status_code == 421
    assert stat.S_IMODE((system.project / SOCKET).stat().st_mode) == 0o660
    for job, wanted in (("count", 0), ("count", 0), ("fail", 1)):
        system.cli("run", job, "--wait", code=wanted)
    system.ask("run", "sleep")
    system.ask("run", "sleep")
    eventually(lambda: len(system.runs("ticks")) >= 2)
    eventually(lambda: value(scraped(system, "kernel"), "nomaflow_runs", state="QUEUED") == 1)
    eventually(lambda: value(scraped(system, "kernel"), "nomaflow_runs_finished_total", state="SUCCEEDED") >= 4)
    for part, metrics in (("kernel", KERNEL_METRICS), ("host", HOST_METRICS)):
        found = scraped(system, part)
        exported = {name: (each.type, each.documentation) for name, each in found.items() if name[:8] != "process_"}
        assert exported == {each.name.removesuffix("_total"): (each.kind, each.help) for each in (*metrics, LOOP_LAG)}
        for each in metrics:
            for sample in found[each.name.removesuffix("_total")].samples:
                assert set(sample.labels) - {"le"} == set(each.labels)
    kernel = scraped(system, "kernel")
    assert value(kernel, "nomaflow_leader") == 1
    assert value(kernel, "nomaflow_runs_finished_total", state="FAILED") == 1
    assert value(kernel, "nomaflow_runs_finished_total", state="SUCCEEDED") >= 4
    assert value(kernel, "nomaflow_runs_triggered_total", trigger="cli") == 5
    # A run of the schedule may be queued for a moment.
    eventually(lambda: value(scraped(system, "kernel"), "nomaflow_queue_depth", host="team") == 1)
    # A scrape may fall between two numbers of one fire, or of one commit.
    eventually(lambda: _is_whole(scraped(system, "kernel")))
    assert value(kernel, "nomaflow_schedule_lag_seconds_sum") > 0
    assert value(kernel, "nomaflow_dispatch_latency_seconds_count") >= 5
    assert value(kernel, "nomaflow_log_lines_total") > 0
    assert value(kernel, "nomaflow_log_bytes_total") > 0
    assert value(kernel, "nomaflow_hosts", state="ATTACHED") == 1
    assert value(kernel, "nomaflow_host_workers", host="team", kind="shared") >= 1
    host = scraped(system, "host")
    assert value(host, "nomaflow_host_attached") == 1
    assert value(host, "nomaflow_attempts_ended_total", state="FAILED") == 1
    assert value(host, "nomaflow_attempt_duration_seconds_count") >= 4
    assert value(host, "nomaflow_worker_log_lines_total") > 0


def _is_whole(kernel: dict[str, Metric]) -> bool:
    """Return whether the numbers that count the same things are equal."""
    fires = value(kernel, "nomaflow_runs_triggered_total", trigger="cron")
    commits = value(kernel, "nomaflow_commit_operations_count")
    return (
        value(kernel, "nomaflow_schedule_lag_seconds_count") == fires
        and value(kernel, "nomaflow_commit_latency_seconds_count") == commits
    )


@pytest.mark.parametrize("part", ["kernel", "host"])
def test_an_address_that_others_reach_is_refused_without_a_token(tmp_path: Path, part: str) -> None:
    """Exit 78 with the way out, before anything was started."""
    done = subprocess.run(
        [sys.executable, "-m", f"nomaflow_{part}", "--project", str(tmp_path), "--metrics", "0.0.0.0:9464"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert "metrics_token_file, or serve metrics on 127.0.0.1:9464" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_kernel_without_an_address_serves_no_metrics(tmp_path: Path) -> None:
    """Off by default: it listens on no port of TCP."""
    for system in open_system(tmp_path / "p", forks_templates=True):
        system.write(JOBS)
        system.start_kernel()
        assert psutil.Process(system.parts["kernel"].pid).net_connections("tcp") == []
