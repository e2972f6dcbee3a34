"""A running system is asked for its state, and to read its files again, by signals; its logs are lines for machines."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project_system import ProjectSystem, open_system

from real_system import eventually, launch_up

pytestmark = pytest.mark.e2e

JOBS = """
[[jobs]]
id = "sleep"
overlap = "allow"
steps = [{ callable = "team.code:sleep" }]

[[jobs]]
id = "waits"
overlap = "queue"
steps = [{ callable = "team.code:sleep" }]
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[ProjectSystem]:
    """Make a project whose processes write JSON lines."""
    for opened in open_system(tmp_path / "p", forks_templates=True):
        opened.write(JOBS)
        (opened.project / "nomaflow.toml").write_text(
            '[host]\nname = "team"\ndrain_seconds = 0.2\ncancel_grace_seconds = 0.2\n'
        )
        yield opened


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log that are written whole; each must be one JSON object."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def dumped(path: Path, pid: int) -> dict[str, Any]:
    """Ask a process for its state and return it."""
    before = sum("state" in line for line in lines(path))
    os.kill(pid, signal.SIGUSR1)
    states = eventually(lambda: [line["state"] for line in lines(path) if "state" in line][before:])
    return dict(states[0])


def test_a_kernel_and_a_host_tell_their_state(system: ProjectSystem) -> None:
    """SIGUSR1 writes one line each: runs, queues, hosts, timers, commits, attempts, workers, and where the tasks stand."""
    system.start_kernel("--log-format", "json", "--log-level", "ERROR")
    system.start_host("--log-format", "json")
    run = system.ask("run", "sleep")["run_id"]
    system.ask("run", "waits")
    system.ask("run", "waits")
    eventually(lambda: [each.attempts[-1].state for each in system.run(run).steps if each.attempts] == ["RUNNING"])
    eventually(lambda: sorted(each.state for each in system.runs("waits")) == ["QUEUED", "RUNNING"])
    kernel = dumped(system.project / "kernel.log", system.parts["kernel"].pid)
    assert (kernel["leader"], kernel["epoch"], kernel["store_kind"]) == (True, 1, "sqlite")
    assert kernel["runs"] == {"QUEUED": 1, "RUNNING": 2}
    assert kernel["queues"] == {"team": 1}
    assert sum(kernel["attempts"].values()) == 2
    assert run in [each["run_id"] for each in kernel["oldest_running"]]
    assert [(each["host"], each["state"], each["attempts"]) for each in kernel["hosts"]] == [("team", "ATTACHED", 2)]
    assert list(kernel["sessions"].values()) == [0]
    assert kernel["timers"]["count"] >= 1
    assert kernel["store"]["waiting"] == 0
    assert kernel["store"]["last_commits"][-1]["transitions"] > 0
    assert any("EngineLoop" in frame for each in kernel["stacks"] for frame in each["stack"])
    assert "nomaflow-store" in [each["thread"] for each in kernel["threads"]]
    host = dumped(system.project / "host.log", system.parts["host"].pid)
    assert (host["session"]["attached"], host["session"]["epoch"], host["generation"]["number"]) == (True, 1, 1)
    held = {each["attempt_key"]: each for each in host["attempts"]["first"]}
    attempt = held[f"{run}/sleep/1"]
    assert (attempt["state"], attempt["rung"]) == ("RUNNING", 0)
    assert attempt["worker_pid"] in [each["pid"] for each in host["workers"]["first"]]
    assert host["outbox"]["spilled_bytes"] == 0


def test_the_rung_of_a_stop_is_told(system: ProjectSystem) -> None:
    """The host's dump shows the rung of a stop under way, and its log shows the attempt's owner."""
    jobs = '[[jobs]]\nid = "deaf"\ncancel_grace_seconds = 600\nsteps = [{ callable = "team.code:deaf" }]\n'
    code = "import time\n\ndef deaf(*, ctx):\n    while True:\n        time.sleep(0.02)\n"
    system.write(jobs, code=code)
    system.start_kernel()
    system.start_host("--log-format", "json")
    run = system.ask("run", "deaf")["run_id"]
    log = system.project / "host.log"
    pid = system.parts["host"].pid
    eventually(lambda: [each["state"] for each in dumped(log, pid)["attempts"]["first"]] == ["RUNNING"])
    system.ask("cancel", run)
    eventually(lambda: [each["state"] for each in dumped(log, pid)["attempts"]["first"]] == ["STOPPING"])
    assert dumped(log, pid)["attempts"]["first"][0]["rung"] == 1
    rungs = [line for line in lines(log) if "(stage 1 of 4)" in line["message"]]
    assert [(line["run_id"], line["step"], line["attempt"], line["host"]) for line in rungs] == [
        (run, "deaf", 1, "team")
    ]
    system.kill("host")  # its grace is long


def test_up_passes_the_signals_on(system: ProjectSystem) -> None:
    """SIGUSR1 and SIGHUP to ``up`` reach both parts, and neither ends any of them, nor ``up`` while it starts them."""
    flags = ("--log-format", "json", "-o", "json", "--metrics", "127.0.0.1:0")
    up = system.parts["up"] = launch_up(system.project, "--no-console", *flags, log_file=system.project / "up.log")
    state = system.project / ".nomaflow"
    eventually((state / "kernel.log").exists)
    for _ in range(10):
        os.kill(up.pid, signal.SIGHUP)
    eventually(lambda: [line for line in lines(system.project / "up.log") if line.get("type") == "ready"])
    os.kill(up.pid, signal.SIGUSR1)
    for part in ("kernel", "host"):
        eventually(lambda part=part: [line for line in lines(state / f"{part}.log") if "state" in line])
        assert any("metrics on http://127.0.0.1:" in line["message"] for line in lines(state / f"{part}.log"))
    os.kill(up.pid, signal.SIGHUP)
    eventually(lambda: [line for line in lines(state / "host.log") if "generation 2 serves" in line["message"]])
    eventually(lambda: [line for line in lines(state / "kernel.log") if "jobs file" in line["message"]])
    assert not up.ended
    system.stop("up")
