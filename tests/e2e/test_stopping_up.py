"""``nomaflow up`` starts again what crashed; asked to stop once, then again, it lets finish what may and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from team_system import NOTING_STEPS, Ledger

from cli_command import run_command
from nomaflow.client import ClientError, ProjectAddress, SyncKernelClient, TriggerOrder
from processes import is_alive, pids_below
from real_system import eventually

pytestmark = pytest.mark.e2e

CODE = (
    NOTING_STEPS
    + """
async def may_finish(*, ledger, **_):
    note(ledger, "may_finish")
    while not Path(ledger + ".go").exists():
        await asyncio.sleep(0.01)
    note(ledger, "finished")

def deaf(*, ledger, **_):
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 0.2; done"])
    note(ledger, "child", pid=child.pid)
    note(ledger, "deaf")
    while True:
        try:
            time.sleep(0.05)
        except BaseException:
            pass
"""
)
JOBS = """
[[jobs]]
id = "may_finish"
overlap = "allow"
steps = [{ callable = "work:may_finish" }]

[[jobs]]
id = "deaf"
cancel_grace_seconds = 0.2
steps = [{ callable = "work:deaf" }]
"""


@contextmanager
def started(project: Path) -> Iterator[subprocess.Popen[str]]:
    """Write a project and start it; nothing of it may be left."""
    (project / "plugins").mkdir()
    (project / "plugins" / "work.py").write_text(CODE)
    (project / "jobs.toml").write_text(JOBS)
    (project / "nomaflow.toml").write_text('[host]\nname = "team"\ndrain_seconds = 600\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "nomaflow_cli", "up", str(project), "-o", "json", "--no-console"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    below: list[int] = []
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["type"] == "ready"
        below = pids_below(process.pid)
        yield process
    finally:
        below += pids_below(process.pid)
        process.kill()
        process.communicate()
        for each in filter(is_alive, below):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a project that its test stops."""
    with started(tmp_path) as process:
        yield process


@dataclass(frozen=True, kw_only=True)
class Lasting:
    """A project that outlives the crashes of its parts."""

    up: subprocess.Popen[str]
    project: Path

    @property
    def settings(self) -> Path:
        """The file with its settings."""
        return self.project / "nomaflow.toml"

    def break_settings(self, more: str) -> str:
        """Add to the settings what a part cannot use, and return what they were."""
        good = self.settings.read_text()
        self.settings.write_text(good + more)
        return good

    def mend_settings(self, good: str, *, part: str) -> None:
        """Wait until a part has said that it cannot use them, which ends nothing, and restore them."""
        said: dict[str, Any] = {}
        while "exit code 78" not in (said.get("exit") or ""):
            said = _lines_until(self.up, type="part", name=part)[-1]
        assert said["again_in"] is not None
        assert any("nomaflow.toml" in line or "lease_seconds" in line for line in said["tail"])
        self.settings.write_text(good)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lasting]:
    """Start one project for the tests in which its parts crash, and for the last one, which stops it."""
    project = tmp_path_factory.mktemp("lasting")
    with started(project) as process:
        yield Lasting(up=process, project=project)


def stored(project: Path) -> dict[str, tuple[str, str]]:
    """Return state and reason of the run of each job, from the file."""
    with closing(sqlite3.connect(project / ".nomaflow" / "kernel.db")) as store:
        return {row[0]: (row[1], row[2]) for row in store.execute("SELECT job_id, state, reason_code FROM runs")}


def test_one_signal_drains_and_a_second_one_is_faster(up: subprocess.Popen[str], tmp_path: Path) -> None:
    """A step that ends in time has succeeded; a deaf one is stopped with its children long before the deadline.

    SIGHUP asks for a reload, even too late for one, and hurries nobody.
    """
    ledger = Ledger(file=tmp_path / "ledger")
    with closing(SyncKernelClient(ProjectAddress(project=tmp_path))) as client:
        for job in ("may_finish", "deaf"):
            client.trigger(TriggerOrder(job_id=job, params={"ledger": str(ledger.file)}))
        pids = [ledger.pid(what) for what in ("may_finish", "deaf", "child")]
        below = set(pids_below(up.pid)) | set(pids)
        up.send_signal(signal.SIGTERM)
        lines = _lines_until(up, type="stopping")
        assert not lines[-1]["hurried"]
        assert client.get_kernel().pid in below, "the kernel takes what the host still reports"
        for number in (signal.SIGHUP, signal.SIGUSR1):
            up.send_signal(number)
        log = tmp_path / ".nomaflow" / "host.log"
        eventually(lambda: "nomaflow.state" in log.read_text())
        Path(f"{ledger.file}.go").touch()
        ledger.wait_for("finished")
        eventually(lambda: any(run.state == "SUCCEEDED" for run in client.list_runs(job_id="may_finish")))
        assert up.poll() is None
        assert all(is_alive(pid) for pid in pids[1:]), "it may go on until the deadline"
        assert "asked to stop a second time" not in log.read_text()
    began = time.monotonic()
    up.send_signal(signal.SIGTERM)
    said, _ = up.communicate(timeout=40)
    assert [line["hurried"] for line in map(json.loads, said.splitlines()) if line["type"] == "stopping"] == [True]
    assert up.returncode == 0
    assert time.monotonic() - began < 30
    eventually(lambda: not any(is_alive(pid) for pid in below))
    assert stored(tmp_path) == {"may_finish": ("SUCCEEDED", ""), "deaf": ("FAILED", "host_draining")}


def test_kernel_and_host_of_a_killed_up_stop_by_themselves(up: subprocess.Popen[str], tmp_path: Path) -> None:
    """They stop once: steps have their time. A second signal cancels the rest; a host waits a moment for no kernel."""
    in_time, late = Ledger(file=tmp_path / "in-time"), Ledger(file=tmp_path / "late")
    with closing(SyncKernelClient(ProjectAddress(project=tmp_path))) as client:
        for ledger in (in_time, late):
            client.trigger(TriggerOrder(job_id="may_finish", params={"ledger": str(ledger.file)}))
            ledger.wait_for("may_finish")
        host = psutil.Process(client.list_hosts()[0].instances[0].pid)
    below = set(pids_below(up.pid))
    log = tmp_path / ".nomaflow" / "host.log"
    up.kill()
    eventually(lambda: "stopping: 2 steps may finish" in log.read_text())
    for times in (1, 2, 3):  # as the system does, for each thread of the one that died
        host.send_signal(signal.SIGUSR2)
        host.send_signal(signal.SIGUSR1)
        # uvloop may deliver one of two signals that come together twice.
        eventually(lambda times=times: log.read_text().count("nomaflow.state") >= times)
    Path(f"{in_time.file}.go").touch()
    in_time.wait_for("finished")
    assert "asked to stop a second time" not in log.read_text()
    host.terminate()
    eventually(lambda: "asked to stop a second time" in log.read_text())
    eventually(lambda: not any(is_alive(pid) for pid in below))
    assert late.entries("finished") == []


def test_a_killed_kernel_is_started_again_beside_its_host(lasting: Lasting, tmp_path: Path) -> None:
    """One line says who ended, how, and when it restarts; the host's workers continue and their result counts.

    A kernel that comes back to settings that it cannot use says so, and serves once they are mended.
    """
    ledger = Ledger(file=tmp_path / "ledger")
    with closing(SyncKernelClient(ProjectAddress(project=lasting.project))) as client:
        run = client.trigger(TriggerOrder(job_id="may_finish", params={"ledger": str(ledger.file)})).run_id
        worker = ledger.pid("may_finish")
        old = client.get_kernel().pid
        good = lasting.break_settings("[kernel]\nlease_seconds = 'long'\n")
        os.kill(old, signal.SIGKILL)
        crashed = _lines_until(lasting.up, type="part", pid=old)[-1]
        assert {key: crashed[key] for key in ("name", "state", "exit", "again_in")} == {
            "name": "kernel", "state": "crashed", "exit": "killed by SIGKILL", "again_in": 0.5,
        }  # fmt: skip
        assert _lines_until(lasting.up, type="part")[-1]["state"] == "started"
        lasting.mend_settings(good, part="kernel")
        eventually(lambda: _pid_of(client, "kernel") not in (0, old))
        Path(f"{ledger.file}.go").touch()
        ended = client.wait(run)
        assert (ended.state, [one.worker_pid for one in ended.steps[0].attempts]) == ("SUCCEEDED", [worker])
    assert len(ledger.entries("finished")) == 1


def test_a_killed_host_is_started_again(lasting: Lasting, tmp_path: Path) -> None:
    """A killed host takes its step with it, which is reported; its successor serves, once it can use its settings."""
    ledger = Ledger(file=tmp_path / "ledger")
    with closing(SyncKernelClient(ProjectAddress(project=lasting.project))) as client:
        first = client.trigger(TriggerOrder(job_id="may_finish", params={"ledger": str(ledger.file)})).run_id
        ledger.wait_for("may_finish")
        host = eventually(lambda: _pid_of(client, "host"))
        good = lasting.break_settings("[host\n")
        os.kill(host, signal.SIGKILL)
        crashed = _lines_until(lasting.up, type="part", pid=host)[-1]
        assert (crashed["name"], crashed["state"], crashed["exit"]) == ("host", "crashed", "killed by SIGKILL")
        assert _lines_until(lasting.up, type="part", state="started")[-1]["pid"] != host
        lasting.mend_settings(good, part="host")
        ended = client.wait(first)
        assert (ended.state, ended.reason and ended.reason.code) == ("FAILED", "host_crashed")
        Path(f"{ledger.file}.go").touch()
        second = client.trigger(TriggerOrder(job_id="may_finish", params={"ledger": str(ledger.file)})).run_id
        assert client.wait(second).state == "SUCCEEDED"


def _pid_of(client: SyncKernelClient, part: str) -> int:
    """Return the process of a part that serves now, 0 for none."""
    try:
        kernel, hosts = client.get_kernel(), client.list_hosts()
    except ClientError:
        return 0
    if part == "kernel":
        return kernel.pid
    return next((one.pid for host in hosts for one in host.instances if one.state == "ATTACHED"), 0)


def test_a_host_without_code_is_not_called_ready(tmp_path: Path) -> None:
    """Code that ends the process which imports it leaves nothing to run: up and doctor say so, until a reload helps."""
    (tmp_path / "plugins").mkdir()
    code = tmp_path / "plugins" / "work.py"
    code.write_text("import os\nprint('the cause', flush=True)\nos._exit(3)\n")
    (tmp_path / "jobs.toml").write_text('[[jobs]]\nid = "one"\nsteps = [{ callable = "work:one" }]\n')
    (tmp_path / "nomaflow.toml").write_text('[host]\nname = "team"\n')
    command = [sys.executable, "-m", "nomaflow_cli", "up", str(tmp_path), "--no-console"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as up:
        try:
            assert up.stdout is not None
            said = []
            while not any("has no code to run until a reload succeeds" in line for line in said):
                said.append(up.stdout.readline())
                assert said[-1], "up has ended"
            assert not any("✔ host" in line for line in said)
            asked = run_command("doctor", folder=tmp_path)
            assert (asked.code, "takes no new work: no code is loaded" in asked.out) == (1, True)
            code.write_text("async def one(**_):\n    return 1\n")
            assert run_command("reload", "team", folder=tmp_path).code == 0
            assert run_command("doctor", folder=tmp_path).code == 0
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(60)


def _lines_until(process: subprocess.Popen[str], **wanted: Any) -> list[dict[str, Any]]:
    assert process.stdout is not None
    lines: list[dict[str, Any]] = []
    for text in process.stdout:
        lines.append(json.loads(text))
        if all(lines[-1].get(key) == value for key, value in wanted.items()):
            return lines
    raise AssertionError(f"up has ended: {lines[-3:]}")


def test_a_stop_is_in_order_though_nobody_reads_of_it(lasting: Lasting) -> None:
    """``nomaflow up | tee FILE``: Ctrl-C ends the reader at once, and still the command ends last."""
    up = lasting.up
    assert up.stdout is not None
    with closing(SyncKernelClient(ProjectAddress(project=lasting.project))) as client:
        kernel = client.get_kernel().pid
    others = [pid for pid in pids_below(up.pid) if pid != kernel]
    up.stdout.close()
    os.kill(kernel, signal.SIGSTOP)
    up.send_signal(signal.SIGINT)
    eventually(lambda: not any(is_alive(pid) for pid in others))
    with pytest.raises(subprocess.TimeoutExpired):
        up.wait(1)
    os.kill(kernel, signal.SIGCONT)
    assert up.wait(40) == 1
    assert not is_alive(kernel)
