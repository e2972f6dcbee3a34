"""Following a run: on a terminal, into a pipe, across a restart of the kernel, and Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import warm_start
from cli_command import CLI_MODULES
from fake_kernel import FakeKernel, Refusal, make_run
from nomaflow.client.values import LogLine, RunView
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.message_codec import decode
from nomaflow_cli.live.following import _Follower
from nomaflow_cli.live.screens import PlainScreen
from nomaflow_cli.output import console

PATIENCE = 60.0


class Terminal:
    """A ``nomaflow run --follow`` on a real pseudo-terminal."""

    def __init__(self, process: warm_start.Forked, master: int) -> None:
        self.process = process
        self.master = master
        self.shown = ""
        self._grown = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            self.shown += os.read(self.master, 65536).decode("utf-8", "replace")
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self.master)
        self._grown.set()

    async def until(self, text: str) -> None:
        """Wait until the terminal has shown a text; only one that is itself a sequence is looked for among those."""
        async with asyncio.timeout(PATIENCE):
            while text not in (self.shown if "\x1b" in text else re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.shown)):
                self._grown.clear()
                await self._grown.wait()

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self.master, text.encode())

    async def end(self) -> int:
        """Return the exit code once the command has ended."""
        return await asyncio.to_thread(self.process.wait, PATIENCE)


@pytest.fixture
async def terminal(kernel: FakeKernel, tmp_path: Path) -> AsyncIterator[Terminal]:
    """Follow a run of the fake kernel on a terminal."""
    kernel.triggered["k"] = "run_1"
    run = make_run("run_1")
    attempt = run.steps.add(name="load").attempts.add(attempt=1, state=run_pb2.ATTEMPT_STATE_RUNNING)
    attempt.progress.done, attempt.progress.total, attempt.progress.message = 5, 20, "page \x1b[2J"
    kernel.runs["run_1"] = run
    master, slave = pty.openpty()
    with open(slave, "r+b", buffering=0) as stream:
        process = warm_start.fork(
            ["nomaflow_cli", "run", "nightly", "--key", "k", "-f", "--address", kernel.address],
            modules=CLI_MODULES,
            cwd=tmp_path,
            env={**os.environ, "TERM": "xterm-256color"},
            streams=(stream, stream, stream),
        )
    shown = Terminal(process, master)
    yield shown
    asyncio.get_running_loop().remove_reader(master)
    process.kill()
    process.wait()
    os.close(master)


async def test_a_terminal_shows_the_run_live(kernel: FakeKernel, terminal: Terminal) -> None:
    """Progress is a bar, log lines scroll above, what would steer the terminal is spelled out, a summary ends it."""
    await terminal.until("25%")
    await terminal.until(r"page \x1b[2J")
    await kernel.say(b"working \x1b]0;owned\x07 hard", level=30)
    await terminal.until(r"working \x1b]0;owned\x07 hard")
    await kernel.finish("run_1", "FAILED")
    await terminal.until("nightly FAILED")
    assert await terminal.end() == 1
    assert "\x1b]0;owned" not in terminal.shown


async def test_a_terminal_says_that_the_kernel_is_away(kernel: FakeKernel, terminal: Terminal) -> None:
    """An outage is shown, and the lines logged meanwhile follow."""
    await kernel.say(b"early")
    await terminal.until("early")
    await kernel.stop()
    await terminal.until("the kernel is away")
    await kernel.say(b"meanwhile")
    await kernel.start()
    await terminal.until("the kernel is back")
    await terminal.until("meanwhile")
    await kernel.finish("run_1")
    assert await terminal.end() == 0
    assert "chttp2" not in terminal.shown


async def test_a_refused_look_at_the_run_ends_no_watch(kernel: FakeKernel, terminal: Terminal) -> None:
    """Progress is shown again once the kernel answers, as after a moment in which it was too slow."""
    await terminal.until("25%")
    await kernel.requested("ReadLogs")
    kernel.refusals["GetRun"] = [Refusal(grpc.StatusCode.INTERNAL, "too slow")]
    async with kernel.changed:
        refused = len(kernel.requests["GetRun"]) + 1
        await kernel.changed.wait_for(lambda: len(kernel.requests["GetRun"]) > refused)
    kernel.runs["run_1"].steps[0].attempts[0].progress.done = 10
    await terminal.until("50%")
    await kernel.finish("run_1")
    assert await terminal.end() == 0


@pytest.mark.parametrize(("answer", "code", "canceled"), [("d\n", 130, False), ("c\n", 3, True), ("\n", 0, False)])
async def test_ctrl_c_asks(kernel: FakeKernel, terminal: Terminal, answer: str, code: int, canceled: bool) -> None:
    """The person may detach, cancel, or keep watching."""
    await terminal.until("25%")
    terminal.process.send_signal(signal.SIGINT)
    await terminal.until("[d]etach and leave it running, [c]ancel it")
    terminal.type(answer)
    if canceled:
        await kernel.requested("CancelRun")
        await kernel.finish("run_1", "CANCELED")
    elif code == 0:
        await kernel.finish("run_1")
    assert await terminal.end() == code
    assert bool(kernel.requests["CancelRun"]) is canceled


async def test_a_cancel_that_is_refused_ends_no_watch(kernel: FakeKernel, terminal: Terminal) -> None:
    """A person who may start a run and not cancel it reads that, and still sees its end."""
    kernel.refusals["CancelRun"] = [Refusal(grpc.StatusCode.PERMISSION_DENIED, "alice may not cancel runs of nightly")]
    await terminal.until("25%")
    terminal.process.send_signal(signal.SIGINT)
    await terminal.until("[c]ancel it")
    terminal.type("c\n")
    await terminal.until("alice may not cancel runs of nightly")
    await kernel.finish("run_1")
    await terminal.until("nightly SUCCEEDED")
    assert await terminal.end() == 0


async def test_a_terminal_keeps_its_cursor(kernel: FakeKernel, terminal: Terminal) -> None:
    """A command that is told to end gives the terminal back, and ends as any other one."""
    await terminal.until("25%")
    assert "\x1b[?25l" in terminal.shown
    terminal.process.send_signal(signal.SIGTERM)
    assert await terminal.end() == -signal.SIGTERM
    await terminal.until("\x1b[?25h")


async def test_a_second_ctrl_c_detaches(kernel: FakeKernel, terminal: Terminal) -> None:
    """A second Ctrl-C returns the terminal; the run continues."""
    await terminal.until("25%")
    terminal.process.send_signal(signal.SIGINT)
    await terminal.until("[c]ancel it")
    terminal.process.send_signal(signal.SIGINT)
    assert await terminal.end() == 130
    await terminal.until("nomaflow logs run_1 --follow")
    assert not kernel.requests["CancelRun"]


def test_in_a_pipe_the_end_of_the_run_is_said_last(capsys: pytest.CaptureFixture[str]) -> None:
    """Each state is printed once; a run ends after its steps."""
    message = make_run("run_1", "RUNNING")
    attempt = message.steps.add(name="one").attempts.add(attempt=1, state=run_pb2.ATTEMPT_STATE_DISPATCHED)
    screen = PlainScreen(console=console())
    screen.update(decode(RunView, message))
    message.state, attempt.state = run_pb2.RUN_STATE_SUCCEEDED, run_pb2.ATTEMPT_STATE_SUCCEEDED
    screen.update(decode(RunView, message))
    screen.update(decode(RunView, message))
    said = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert said == [
        "— nightly RUNNING",
        "— step one DISPATCHED",
        "— step one SUCCEEDED",
        "— nightly SUCCEEDED",
    ]


def test_in_a_pipe_a_step_that_calls_a_job_names_the_run_that_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    """No process runs such a step: none is named."""
    message = make_run("run_1", "RUNNING")
    attempt = message.steps.add(name="then").attempts.add(attempt=1, state=run_pb2.ATTEMPT_STATE_RUNNING)
    attempt.started_at.seconds, attempt.child_run_id = 1, "run_2"
    PlainScreen(console=console()).update(decode(RunView, message))
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.endswith(": it waits for run_2")
    assert "pid" not in said


def _line(seq: int, step: str, attempt: int = 1) -> LogLine:
    return LogLine(seq=seq, at_us=0, level=20, logger="app", step=step, attempt=attempt, message=f"line {seq}")


def _ended_run() -> RunView:
    """Return a run of two steps, the first of which was tried twice, with four lines."""
    at = Timestamp(seconds=1)
    message = make_run("run_1", "SUCCEEDED", started_at=at, finished_at=at, log_lines=4)
    for step, states in (("one", ("FAILED", "SUCCEEDED")), ("two", ("SUCCEEDED",))):
        attempts = message.steps.add(name=step).attempts
        for number, state in enumerate(states, 1):
            value = run_pb2.AttemptState.Value(f"ATTEMPT_STATE_{state}")
            attempts.add(attempt=number, state=value, started_at=at, finished_at=at, worker_pid=7)
    return decode(RunView, message)


def _said(text: str) -> list[str]:
    """Return what was printed, without times and numbers."""
    spoken = [line[line.index("line ") :] if "app line" in line else line for line in text.splitlines()]
    return [re.split(r"  | at | in ", line)[0] for line in spoken if line.startswith(("— ", "line "))]


ORDER = [
    "— nightly RUNNING", "— step one RUNNING", "line 1", "— step one FAILED", "— step one RUNNING try 2", "line 2",
    "line 3", "— step one SUCCEEDED try 2", "— step two RUNNING", "line 4", "— step two SUCCEEDED",
    "— nightly SUCCEEDED",
]  # fmt: skip


async def test_the_lines_of_an_attempt_stand_between_its_begin_and_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever comes first: lines, or the run as it is after them."""
    lines = [_line(1, "one"), _line(2, "one", 2), _line(3, "one", 2), _line(4, "two")]
    queued = decode(RunView, make_run("run_1", "QUEUED"))

    def logging(*blocks: list[LogLine]) -> Any:
        async def get_run(run_id: str) -> RunView:
            return _ended_run()

        async def read_log_blocks(run_id: str, *, follow: bool) -> AsyncIterator[list[LogLine]]:
            for block in blocks:
                yield block

        return SimpleNamespace(get_run=get_run, read_log_blocks=read_log_blocks)

    for kernel in (logging(lines), logging(*([each] for each in lines)), logging(lines[:3], lines[3:])):
        screen = PlainScreen(console=console())
        screen.update(queued)
        await _Follower(kernel=kernel, run_id="run_1", screen=screen)._lines()
        assert _said(capsys.readouterr().out) == ["— nightly QUEUED", *ORDER]
    screen = PlainScreen(console=console())
    screen.update(_ended_run())
    screen.log(lines[:1])
    screen.finish(_ended_run())  # the rest of the log cannot be read
    assert _said(capsys.readouterr().out) == [each for each in ORDER if each not in ("line 2", "line 3", "line 4")]


async def test_the_refresh_ends_when_told_to_in_the_moment_of_an_event() -> None:
    """A cancel that comes together with an event is not lost: the view ends when the run does."""
    run = SimpleNamespace(run_id="run_1", job_id="j", state="RUNNING", terminal=False, steps=())

    async def get_run(run_id: str) -> Any:
        return run

    kernel = cast("Any", SimpleNamespace(get_run=get_run))
    follower = _Follower(kernel=kernel, run_id="run_1", screen=PlainScreen(console=console()))
    for _ in range(3):
        refresh = asyncio.create_task(follower._refresh())
        for _ in range(5):
            await asyncio.sleep(0)
        follower._changed.set()
        await asyncio.sleep(0)
        refresh.cancel()
        done, _pending = await asyncio.wait({refresh}, timeout=5)
        assert done == {refresh}
