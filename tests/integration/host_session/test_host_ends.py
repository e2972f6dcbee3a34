"""The ends of a host that runs as a process: drained, hurried, or by a signal to its whole group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from host_process import KEY, MakeKernel, Start, exit_code, within_a_step

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.letters import Finished, Started
from nomaflow_api.v1.sealing import open_event, open_reports
from processes import still_alive
from real_system import eventually


async def test_stopping_lets_steps_finish_and_a_second_signal_cancels_them(kernels: MakeKernel, start: Start) -> None:
    """The first SIGTERM drains and refuses new work, the second stops what runs; the outcome is still reported."""
    kernel, mine, session = await within_a_step(kernels, start, seconds=60)
    mine.process.send_signal(signal.SIGTERM)
    await kernel.journal.until(lambda: any(beat.draining for beat in session.heartbeats))
    session.dispatch("run_2/new/1", callable="myapp.work:quick")
    await kernel.journal.until(lambda: kernel.journal.kinds("run_2/new/1") == ["finished"])
    assert kernel.journal.end_of("run_2/new/1").reason_code == "host_refused"
    assert not mine.ended
    mine.process.send_signal(signal.SIGTERM)
    assert await exit_code(mine) == 0
    outcome = kernel.journal.end_of(KEY)
    assert outcome.reason_code == "host_draining"


async def test_a_kernel_that_takes_over_is_told_of_the_drain_at_once(kernels: MakeKernel, start: Start) -> None:
    """The hello says so, and by which clock: before the first heartbeat, the host might get a step that it refuses."""
    kernel, mine, session = await within_a_step(kernels, start, seconds=60)
    assert not session.hello.heartbeat.draining
    mine.process.send_signal(signal.SIGTERM)
    await kernel.journal.until(lambda: any(beat.draining for beat in session.heartbeats))
    await kernel.kill()
    began = time.time_ns() // 1000
    beat = (await (await kernels(epoch=2)).session()).hello.heartbeat
    assert beat.draining
    assert began <= beat.sent_at_us <= time.time_ns() // 1000


@pytest.mark.parametrize("first", ["workers", "host"])
async def test_a_signal_to_all_processes_is_the_end_of_the_host_and_not_of_its_worker(
    kernels: MakeKernel, start: Start, first: str
) -> None:
    """An engine's SIGTERM kills a worker in the moment in which the host learns of it, before or after."""
    kernel, mine, session = await within_a_step(kernels, start, seconds=60)
    below = mine.tree()
    assert mine.process.pid not in below
    if first == "host":
        mine.process.send_signal(signal.SIGTERM)
        await kernel.journal.until(lambda: any(beat.draining for beat in session.heartbeats))
    for pid in below:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    if first == "workers":
        mine.process.send_signal(signal.SIGTERM)
    begun = kernel.journal.events[KEY][0]
    assert isinstance(begun, Started)
    assert not await asyncio.to_thread(still_alive, [begun.worker_pid], seconds=60)
    assert await exit_code(mine) == 0
    outcome = kernel.journal.end_of(KEY)
    assert (outcome.reason_code, outcome.exit_text) == ("host_draining", "ended by signal 15 (SIGTERM)")


async def test_a_stop_during_the_first_load_is_no_fault_of_the_code(
    kernels: MakeKernel, start: Start, project: Path
) -> None:
    """The load is given up in one quiet line: there is nothing to correct."""
    reached = project / "reached"
    (project / "plugins" / "endless.py").write_text(
        f"import pathlib, time\npathlib.Path({str(reached)!r}).touch()\ntime.sleep(600)\n"
    )
    await kernels()
    mine = await start()
    await asyncio.to_thread(eventually, reached.exists)
    mine.process.send_signal(signal.SIGTERM)
    assert await exit_code(mine) == 0
    assert "nothing was loaded: the host is stopping" in mine.log
    assert "WARNING" not in mine.log
    assert "ERROR" not in mine.log


async def test_a_hurried_host_waits_a_moment_for_a_kernel_that_goes_away_meanwhile(
    kernels: MakeKernel, start: Start
) -> None:
    """The kernel was still attached as the host had ended its steps, and went before it took the outcome."""
    kernel, mine, session = await within_a_step(kernels, start, seconds=60)
    asked = asyncio.Event()

    async def never(request: pb.StreamReportsRequest, _: object) -> None:
        if any(isinstance(open_event(one), Finished) for each in open_reports(request.attempts) for one in each.events):
            asked.set()
        await asyncio.Event().wait()

    kernel.on_report = never
    mine.process.send_signal(signal.SIGTERM)
    await kernel.journal.until(lambda: any(beat.draining for beat in session.heartbeats))
    mine.process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(asked.wait(), 60)
    beats = len(session.heartbeats)
    await kernel.journal.until(lambda: len(session.heartbeats) > beats + 2)  # it has ended its drain meanwhile
    await kernel.kill()
    assert await exit_code(mine) == 0
    assert "it will find out the outcomes by itself" in mine.log
