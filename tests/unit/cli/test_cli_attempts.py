"""Commands about attempts: values, stops, ends, seals; searching a log; a look at a running step; replays."""

from __future__ import annotations

import json

import grpc
import pytest

from cli_command import Command
from fake_kernel import FakeKernel, Refusal, make_run
from nomaflow.client.values import RunView
from nomaflow_api.v1 import attempt_inspection_pb2, log_pb2, run_pb2
from nomaflow_api.v1 import kernel_service_pb2 as pb
from nomaflow_api.v1.log_lines import encode_line, pack_lines


def stopped_run() -> run_pb2.Run:
    """Return a run whose only step was stopped by force."""
    run = make_run("run_1", "CANCELED", log_lines=12)
    step = run.steps.add(name="hold", type="python", callable="m:hold", max_attempts=3, enabled=True)
    attempt = step.attempts.add(attempt_key="run_1/hold/2", attempt=2, state=run_pb2.ATTEMPT_STATE_CANCELED)
    attempt.kwargs_json = b'{"table": "a\\u001b[31m", "token": "${TOKEN}"}'
    attempt.exit.signal, attempt.exit.text = 9, "killed by SIGKILL, by its host"
    attempt.warnings.append("it left 1 thread running")
    for number, what, why, after in ((1, "asked to stop", "canceled by ann", 0), (4, "killed", "not stopped", 5)):
        rung = attempt.stop.rungs.add(rung=number, what=what, why=why, after_seconds=after)
        rung.at.seconds = 1_700_000_000 + after
    attempt.stop.stopped_at.seconds = 1_700_000_006
    attempt.log.lines, attempt.log.complete = 12, True
    return run


async def test_show_tells_values_the_ladder_the_end_and_the_seal(kernel: FakeKernel, command: Command) -> None:
    """In words and in order, with the proof at the end; nothing of it can harm a terminal."""
    kernel.runs["run_1"] = stopped_run()
    done = await command("show", "run_1", "--address", kernel.address)
    said = [" ".join(line.split()) for line in done.out.splitlines()]
    assert done.code == 0
    assert 'token "${TOKEN}"' in said
    assert "hold try 2 of 3" in said
    at = said.index("0 ms 1 asked to stop (canceled by ann)")
    assert said[at + 1 : at + 5] == [
        "5 s 4 killed (not stopped)",
        "6 s ✔ stopped: none of its code runs any more",
        "process killed by SIGKILL, by its host",
        "! it left 1 thread running",
    ]
    assert said[-1] == "log: nomaflow logs run_1 (12 lines, complete)"
    assert "\x1b" not in done.out
    told = json.loads((await command("show", "run_1", "--address", kernel.address, "-o", "json")).out)
    attempt = told["steps"][0]["attempts"][0]
    assert attempt["exit"] == {"status": None, "signal": 9, "text": "killed by SIGKILL, by its host"}
    assert [rung["after_seconds"] for rung in attempt["stop"]["rungs"]] == [0.0, 5.0]
    assert attempt["log"]["complete"]
    assert (told["steps"][0]["max_attempts"], told["steps"][0]["enabled"]) == (3, True)


@pytest.mark.parametrize(
    ("state", "log", "seal"),
    [
        ("RUNNING", {"lines": 3}, "3 lines, open"),
        ("SUCCEEDED", {"lines": 3, "complete": True}, "3 lines, complete"),
        (
            "FAILED",
            {"lines": 3, "complete": True, "dropped_lines": 1204, "dropped_bytes": 3_100_000},
            "3 lines, 1,204 lines of 3,100,000 bytes dropped by max_log_bytes, nothing else is missing",
        ),
        ("FAILED", {"lines": 3, "lost_lines": 1}, "3 lines, 1 line lost by the host"),
        ("FAILED", {"lines": 3}, "3 lines, events of the host are missing"),
        ("LOST", {"lines": 3}, "3 lines, what a lost host had not sent is missing"),
    ],
)
async def test_the_seal_says_what_is_missing(
    kernel: FakeKernel, command: Command, state: str, log: dict[str, object], seal: str
) -> None:
    """The seal says whether the log is whole, and what is missing if not."""
    run = make_run("run_1", "FAILED" if state == "LOST" else state, log_lines=3)
    step = run.steps.add(name="a", max_attempts=1)
    number = run_pb2.AttemptState.Value(f"ATTEMPT_STATE_{state}")
    step.attempts.add(attempt=1, state=number, log=run_pb2.AttemptLog(**log))  # type: ignore[arg-type]  # its fields
    kernel.runs["run_1"] = run
    done = await command("show", "run_1", "--address", kernel.address, env={"COLUMNS": "150"})
    assert f"({seal})" in " ".join(done.out.split())


def chunk(first: int, *texts: str, level: int = 20) -> log_pb2.LogChunk:
    """Return a stored block of lines."""
    packed = pack_lines([encode_line(level, 1_700_000_000_000_000, "l", text) for text in texts])
    return log_pb2.LogChunk(
        first_seq=first, line_count=len(texts), step="a", attempt=1, levels=packed.levels, body=packed.body,
        compressed=packed.codec == 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--grep", "tenant 7"], [2, 300]),
        (["--grep", "TENANT 7"], []),
        (["--grep", "TENANT 7", "-i"], [2, 300]),
        (["-g", "^tenant 7$", "--tail", "1"], [300]),
        (["-g", 'a "quote"'], [301]),
        (["-g", "é+"], [302]),
        (["-g", "tenant", "--level", "warning"], [300]),
    ],
)
async def test_a_log_is_searched_whole(
    kernel: FakeKernel, command: Command, arguments: list[str], found: list[int]
) -> None:
    """Text and patterns find lines, with and without case, in compressed blocks too; numbers are those of the log."""
    kernel.runs["run_1"] = make_run("run_1", "SUCCEEDED")
    kernel.chunks = [
        chunk(1, "nothing", "tenant 7", *["filler"] * 297),
        chunk(300, "tenant 7", level=30),
        chunk(301, 'a "quote"', "éé"),
    ]
    done = await command("logs", "run_1", *arguments, "--address", kernel.address, "-o", "json")
    assert done.code == 0
    assert [json.loads(line)["seq"] for line in done.out.splitlines()] == found


async def test_a_search_that_finds_nothing_and_one_that_is_none_say_so(kernel: FakeKernel, command: Command) -> None:
    """The first is no error; the second names the way to look for the text itself."""
    kernel.runs["run_1"] = make_run("run_1", "SUCCEEDED")
    nothing = await command("logs", "run_1", "--grep", "x", "--address", kernel.address)
    assert (nothing.code, nothing.out, nothing.err.strip()) == (0, "", "no line matches")
    empty = await command("logs", "run_1", "--address", kernel.address)
    assert (empty.code, empty.out, empty.err.strip()) == (0, "", "the log has no lines")
    bad = await command("logs", "run_1", "--grep", "(", "--address", kernel.address)
    assert bad.code != 0
    assert "is no regular expression" in bad.err
    assert "to look for it as it is: --grep '\\('" in bad.err
    lost = await command("logs", "run_1", "-i", "--address", kernel.address)
    assert (lost.code, "-i needs --grep" in lost.err) == (2, True)


async def test_a_search_goes_on_with_the_lines_that_follow(kernel: FakeKernel, command: Command) -> None:
    """Lines after the last one that was searched are shown, each once."""
    kernel.runs["run_1"] = make_run("run_1", "SUCCEEDED")
    kernel.chunks = [chunk(1, "match", "no")]
    kernel.lines = [log_pb2.LogLine(seq=seq, message=text) for seq, text in ((1, b"match"), (3, b"no"), (4, b"match"))]
    done = await command("logs", "run_1", "-g", "match", "--follow", "--address", kernel.address, "-o", "json")
    assert [json.loads(line)["seq"] for line in done.out.splitlines()] == [1, 4]


async def test_a_running_step_is_looked_at(kernel: FakeKernel, command: Command) -> None:
    """Processes, stacks innermost last, and what could not be seen; hostile names do no harm."""
    reply = attempt_inspection_pb2.InspectAttemptResponse(attempt_key="run_1/a/1", host="team", note="no answer")
    reply.processes.add(pid=7, ppid=1, state="S", rss_bytes=25 << 20, cpu_seconds=21, command="python \x1b[31m")
    reply.stacks.add(name="worker", frames=["a.py:1 outer", "a.py:9 inner"], of_attempt=True)
    kernel.replies["InspectAttempt"] = reply
    done = await command("inspect", "run_1", "--step", "a", "--try", "2", "--address", kernel.address)
    assert done.code == 0
    lines = [line.strip() for line in done.out.splitlines()]
    assert lines.index("a.py:9 inner") == lines.index("a.py:1 outer") + 1
    assert "25 MiB" in done.out
    assert "! no answer" in lines
    assert "\x1b" not in done.out
    (request,) = kernel.requests["InspectAttempt"]
    assert (request.run_id, request.step, request.attempt) == ("run_1", "a", 2)


async def test_a_replay_takes_all_its_options(kernel: FakeKernel, command: Command) -> None:
    """Switches, level, overlap and today's definition reach the kernel; ``--validate`` starts nothing."""
    remote = ("--address", kernel.address)
    options = ("--today", "--step", "a=off", "--log-level", "debug", "--overlap", "allow")
    assert (await command("replay", "run_1", *options, *remote)).code == 0
    kernel.replies["ReplayRun"] = pb.ReplayRunResponse(
        warnings=["careful"], steps=[run_pb2.StepValues(step="b", op_kwargs_json=b'{"n": 1}')]
    )
    checked = await command("replay", "run_1", "--validate", *remote, "-o", "json")
    assert json.loads(checked.out) == {
        "accepted": True, "reason": "", "problems": [], "warnings": ["careful"],
        "steps": [{"step": "b", "op_kwargs": {"n": 1}}],
    }  # fmt: skip
    shown = await command("replay", "run_1", "--validate", *remote)
    assert "a replay of run_1 would be accepted" in shown.out
    assert "b  n  1" in shown.out
    first, second, _ = kernel.requests["ReplayRun"]
    assert (first.current_definition, first.log_level, first.overlap) == (True, "DEBUG", run_pb2.OVERLAP_CHOICE_ALLOW)
    assert [(switch.step, switch.enabled) for switch in first.step_switches] == [("a", False)]
    assert (first.validate_only, second.validate_only) == (False, True)


async def test_a_run_that_may_not_be_read_is_named(kernel: FakeKernel, command: Command) -> None:
    """A token with the grant trigger alone learns the id of the run; a refusal would have a script start another."""
    refusal = Refusal(grpc.StatusCode.PERMISSION_DENIED, "ci may not read job:a", reason="PERMISSION_DENIED")
    kernel.refusals["GetRun"] = [refusal] * 4
    remote = ("--address", kernel.address, "-o", "json")
    started = await command("run", "a", *remote)
    shape = json.loads(started.out)
    assert (started.code, shape["run_id"], shape["job_id"], shape["state"]) == (0, "run_1", "a", "QUEUED")
    assert shape.keys() == RunView(run_id="run_1", job_id="a", state="QUEUED").to_json().keys()
    again = await command("replay", "run_1", *remote)
    assert (again.code, json.loads(again.out)["trigger"]["kind"]) == (0, "replay")
    for option in ("--wait", "--follow"):
        ended = await command("run", "a", option, *remote)
        error = json.loads(ended.err)["error"]
        assert (ended.code, error["reason"]) == (2, "PERMISSION_DENIED")
        assert error["message"].startswith("run run_")
        assert "was started, but nothing more is known of it: ci may not read job:a" in error["message"]
    assert not kernel.refusals["GetRun"]


async def test_a_trigger_that_is_not_permitted_would_not_be_accepted(kernel: FakeKernel, command: Command) -> None:
    """``--validate`` exits with 1 for that too."""
    refusal = Refusal(grpc.StatusCode.PERMISSION_DENIED, "ro may not trigger job:a", reason="PERMISSION_DENIED")
    kernel.refusals["TriggerRun"] = [refusal]
    checked = await command("run", "a", "--validate", "--address", kernel.address, "-o", "json")
    assert (checked.code, json.loads(checked.out)["reason"]) == (1, "PERMISSION_DENIED")
