"""Kernels and hosts that are killed, frozen or rebooted under running steps: what ran once never runs twice unasked."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from faults_system import FaultSystem, open_faults
from team_system import reason_of

from nomaflow.client import KernelUnreachable
from nomaflow.client.values import EventView
from processes import command_of, is_alive
from real_system import CLOCKS, Running, eventually

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def system() -> Iterator[FaultSystem]:
    """Start a kernel."""
    root = Path(tempfile.mkdtemp(prefix="nf-"))
    with open_faults(root, forks_templates=False) as started:
        started.counting_project("team")
        # The host finds its kernel by the file, and so notices at once that there is another one.
        (root / "team" / ".nomaflow").mkdir(mode=0o700)
        (root / "team" / ".nomaflow" / "address").symlink_to(started.kernel_project / ".nomaflow" / "address")
        yield started
    shutil.rmtree(root)


def start_host(system: FaultSystem) -> Running:
    """Start the host; it drains for longer than a kernel takes to start on a machine that is busy."""
    return system.start_host("team", "--kernel", "", settings=["drain_seconds = 120"])


@pytest.fixture
def host(system: FaultSystem) -> Iterator[Running]:
    """Give the host, restarted if the test before killed it; a second one is stopped after the test."""
    host = system.parts.get("team")
    yield host if host is not None and host.process.poll() is None else start_host(system)
    if spare := system.parts.pop("spare", None):
        spare.stop()


class Watcher:
    """A client that watches everything, whatever happens to the kernel."""

    def __init__(self, system: FaultSystem) -> None:
        self.events: list[EventView] = []
        self._client = system.client("watcher")
        self._after = system.last_event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self.events or self.events[-1].kind != "run.finished":
            # A client does not wait for a kernel for ever; whoever does resumes where it was.
            with contextlib.suppress(KernelUnreachable):
                after = self.events[-1].seq if self.events else self._after
                for event in self._client.watch_events(after_seq=after):
                    self.events.append(event)
                    if event.kind == "run.finished":
                        break

    def everything(self) -> list[EventView]:
        """Return the events up to the end of a run, and check that none is missing and none came twice."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        seqs = [event.seq for event in self.events]
        assert seqs == list(range(self._after + 1, self._after + 1 + len(seqs)))
        return self.events


def test_the_kernel_is_killed_and_comes_back(system: FaultSystem, host: Running) -> None:
    """The same processes continue, the host is back, a watcher has every event once, and no line is lost or doubled."""
    works = [system.work("ticks").under_way(), system.work("sync_ticks").under_way()]
    watcher = Watcher(system)
    system.kill("kernel")
    for work in works:
        work.goes_on()
    system.start_kernel()
    system.until_state("team", "ATTACHED")
    pids = [work.ledger.pid() for work in works]
    for work in works:
        work.goes_on()
    assert [run.steps[0].last.worker_pid for run in (work.run() for work in works)] == pids
    for work in works:
        work.succeeds_whole()
    assert "host.reattached" in [event.kind for event in watcher.everything()]


def test_a_host_is_killed(system: FaultSystem, host: Running) -> None:
    """A killed host leaves no process, its end is seen at once, its successor's proof ends the attempts by policy."""
    once, twice, exclusive = (system.work(job).under_way() for job in ("ticks", "tried_twice", "sync_ticks"))
    below = host.tree()
    assert {work.ledger.pid() for work in (once, twice, exclusive)} <= below
    host.process.kill()
    host.process.wait()
    eventually(lambda: not any(is_alive(pid) for pid in below))
    eventually(lambda: system.state_of("team") in ("AWAITED", "UNREACHABLE"))
    assert [work.run().state for work in (once, twice, exclusive)] == ["RUNNING"] * 3
    start_host(system)
    for work in (once, exclusive):
        run = system.end(work.run_id)
        assert (run.state, reason_of(run)) == ("FAILED", "host_crashed")
        assert len(work.ledger.entries("start")) == 1
        lines = [line.message for line in system.api.read_logs(work.run_id)]
        assert lines == [f"tick {number}" for number in range(1, len(lines) + 1)]
    twice.ledger.wait_for("start", 2)
    run = twice.let_go()
    assert run.state == "SUCCEEDED"
    assert [(one.state, reason_of(one)) for one in run.steps[0].attempts] == [
        ("FAILED", "host_crashed"),
        ("SUCCEEDED", ""),
    ]


def test_a_host_is_frozen_for_a_while(system: FaultSystem, host: Running) -> None:
    """A frozen host is UNREACHABLE and gets nothing new; thawed, it continues, and each step has one result."""
    works = [system.work("ticks").under_way(), system.work("sync_ticks").under_way()]
    os.kill(host.pid, signal.SIGSTOP)
    try:
        system.until_state("team", "UNREACHABLE")
        queued = system.work("ticks")
        assert [work.run().state for work in works] == ["RUNNING"] * 2
        assert queued.run().state == "QUEUED"
        works[1].goes_on()
    finally:
        os.kill(host.pid, signal.SIGCONT)
    queued.under_way()
    for work in (*works, queued):
        work.succeeds_whole()


def test_a_host_is_frozen_for_longer_than_the_grace(system: FaultSystem, host: Running) -> None:
    """Attempts are LOST; a result that comes later is an event, and what may run again runs elsewhere, once."""
    before = system.last_event()
    patient, again = system.work("given_up_soon").under_way(), system.work("may_run_again").under_way()
    os.kill(host.pid, signal.SIGSTOP)
    try:
        shutil.copytree(system.root / "team", system.root / "spare", ignore=shutil.ignore_patterns(".nomaflow"))
        system.start_host("spare", "--name", "team", serves=False)
        lost = system.end(patient.run_id)
        assert (lost.state, reason_of(lost)) == ("FAILED", "host_lost")
        assert lost.steps[0].last.state == "LOST"
        again.ledger.wait_for("start", 2)
        patient.until.touch()
        patient.ledger.wait_for("end")
    finally:
        os.kill(host.pid, signal.SIGCONT)
    late = system.events(before, lambda event: event.kind == "attempt.late_result")[-1]
    (end,) = patient.ledger.entries("end")
    assert (late.run_id, late.data["state"], late.data["rows_affected"]) == (patient.run_id, "SUCCEEDED", end["count"])
    first, second = again.ledger.entries("start")
    eventually(lambda: not is_alive(first["pid"]))
    assert is_alive(second["pid"])
    run = again.let_go()
    assert run.state == "SUCCEEDED"
    assert [one.state for one in run.steps[0].attempts] == ["LOST", "SUCCEEDED"]
    assert len(again.ledger.entries("start")) == 2
    now = system.run(patient.run_id)
    assert (now.state, now.reason, now.steps) == (lost.state, lost.reason, lost.steps)


def test_a_step_that_was_given_up_and_runs_on(system: FaultSystem, host: Running) -> None:
    """Thawed with its host it logs and works on; the run is LOST, and its result is known once it comes."""
    work = system.work("given_up_soon").under_way()
    os.kill(host.pid, signal.SIGSTOP)
    try:
        lost = system.end(work.run_id)
        assert lost.steps[0].last.state == "LOST"
        frozen = system.last_event()
    finally:
        os.kill(host.pid, signal.SIGCONT)
    system.until_state("team", "ATTACHED")
    work.goes_on()
    work.until.touch()
    late = system.events(frozen, lambda event: event.kind == "attempt.late_result")[-1]
    (end,) = work.ledger.entries("end")
    assert (late.run_id, late.data["state"], late.data["rows_affected"]) == (work.run_id, "SUCCEEDED", end["count"])
    assert len(work.ledger.entries("start")) == 1
    now = system.run(work.run_id)
    assert (now.state, now.reason, now.steps) == (lost.state, lost.reason, lost.steps)


def test_a_machine_is_started_anew(system: FaultSystem, host: Running) -> None:
    """Attempts fail with a reboot of their machine, and an unrelated process with an old pid is left alone."""
    work = system.work("sync_ticks").under_way()
    host.process.kill()
    host.process.wait()
    eventually(lambda: not is_alive(work.ledger.pid()))
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            (record,) = (system.root / "team").rglob("instance.json")
            told = json.loads(record.read_text())
            told["boot_id"] = "11111111-2222-3333-4444-555555555555"
            told["reaper"][0] = told["main"][0] = stranger.pid
            record.write_text(json.dumps(told))
            start_host(system)
            run = system.end(work.run_id)
            assert (run.state, reason_of(run)) == ("FAILED", "host_crashed")
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_template_and_reaper_are_killed(system: FaultSystem, host: Running) -> None:
    """Steps survive their template; with the reaper all processes go, each attempt says so, and the host serves again."""
    works = [system.work("ticks").under_way(), system.work("sync_ticks").under_way()]
    workers = {work.ledger.pid() for work in works}
    (reaper,) = psutil.Process(host.pid).children()
    view = system.instance("team")
    assert view is not None
    known = workers | {worker.pid for worker in view.workers}
    templates = [child for child in reaper.children() if child.pid not in known and "template" in command_of(child.pid)]
    assert templates
    for template in templates:
        template.kill()
    for work in works:
        work.goes_on()
    system.work("ticks").under_way().succeeds_whole()
    below = host.tree()
    with (system.root / "team" / "jobs.toml").open("a") as jobs:
        jobs.write('\n[[jobs]]\nid = "of_now"\nsteps = [{ callable = "faulty.steps:ticks" }]\n')
    reaper.kill()
    for work in works:
        run = system.end(work.run_id)
        assert (run.state, reason_of(run)) == ("FAILED", "worker_killed")
        assert "reaper" in (run.reason.message if run.reason else "")
    eventually(lambda: not any(is_alive(pid) for pid in below))
    system.work("ticks").under_way().succeeds_whole()
    eventually(
        lambda: any(job.job_id == "of_now" for job in system.api.list_jobs().jobs)
    )  # the code on disk, like any reload


def test_the_kernel_is_away_for_longer_than_the_grace(system: FaultSystem, host: Running) -> None:
    """The host kills only what may run again; the rest runs on, and its results are taken when the kernel is back."""
    patient, again = system.work("given_up_soon").under_way(), system.work("may_run_again").under_way()
    first = again.ledger.pid()
    system.kill("kernel")
    eventually(lambda: not is_alive(first))
    patient.goes_on()
    # A longer margin for the kernel's own verdict: a slow machine has its time until the host is back.
    system.kernel_flags = (*CLOCKS[:-1], "400")
    system.start_kernel()
    patient.goes_on()
    patient.succeeds_whole()
    again.ledger.wait_for("start", 2)
    run = again.let_go()
    assert run.state == "SUCCEEDED"
    attempts = run.steps[0].attempts
    assert [one.state for one in attempts][-1] == "SUCCEEDED"
    assert (len(attempts), reason_of(attempts[0])) == (2, "host_lost")
    assert len({entry["key"] for entry in again.ledger.entries("start")}) == 2


def test_a_host_is_stopped_while_the_kernel_is_away(system: FaultSystem, host: Running) -> None:
    """Results from a time without a kernel are delivered before the host leaves; a second signal does not wait."""
    work = system.work("ticks").under_way()
    system.kill("kernel")
    work.until.touch()
    work.ledger.wait_for("end")
    host.process.send_signal(signal.SIGTERM)
    eventually(lambda: "no kernel: waiting" in host.log)
    system.start_kernel()
    assert host.process.wait(30) == 0
    assert system.end(work.run_id).state == "SUCCEEDED"
    work.is_whole()
    hasty = start_host(system)
    unheard = system.work("ticks").under_way()
    system.kill("kernel")
    unheard.until.touch()
    unheard.ledger.wait_for("end")
    said = hasty.log.count("no kernel: waiting")
    hasty.process.send_signal(signal.SIGTERM)
    eventually(lambda: hasty.log.count("no kernel: waiting") > said)
    hasty.process.send_signal(signal.SIGTERM)
    assert hasty.process.wait(30) == 0
    system.start_kernel()
    start_host(system)
    assert reason_of(system.end(unheard.run_id)) == "host_crashed"
