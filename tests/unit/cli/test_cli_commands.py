"""The commands against a fake kernel: shapes, exit codes, errors."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from cli_command import Command
from fake_kernel import FakeKernel, Refusal, make_run
from nomaflow_api.v1 import host_pb2, job_pb2, run_pb2
from nomaflow_api.v1 import kernel_service_pb2 as pb

RUN_KEYS = {"run_id", "job_id", "state", "reason", "rows_affected", "error", "trigger", "params", "steps"}
STEP_KEYS = {
    "name", "state", "attempt", "rows_affected", "extras", "error", "reason", "started_at", "finished_at", "attempts",
}  # fmt: skip
DOCS = Path(__file__).parents[3] / "docs" / "cli.md"


def _run_with_steps(state: str = "FAILED") -> run_pb2.Run:
    run = make_run("run_1", state, params_json=b'{"a": 123456789012345678901234567890}')
    run.trigger.kind, run.trigger.by = run_pb2.TriggerKind.TRIGGER_KIND_CLI, "ann"
    run.reason.code, run.reason.message = "step_failed", "no \x1b[31mrows"
    step = run.steps.add(name="purge", type="python", callable="myapp.cleanup:purge")
    for number, outcome in ((1, run_pb2.AttemptState.ATTEMPT_STATE_FAILED), (2, run_pb2.ATTEMPT_STATE_FAILED)):
        attempt = step.attempts.add(attempt_key=f"run_1/purge/{number}", attempt=number, state=outcome)
        attempt.error = "no \x1b[31mrows"
        attempt.extras_json = b'{"tenant": 10}'
        attempt.rows_affected = number
    run.steps.add(name="load", index=1)
    return run


async def test_show_prints_the_promised_object(kernel: FakeKernel, command: Command) -> None:
    """``show -o json`` is one object with at least the promised keys, numbers exact."""
    kernel.runs["run_1"] = _run_with_steps()
    done = await command("show", "run_1", "--address", kernel.address, "-o", "json")
    run = json.loads(done.out)
    assert done.code == 0
    assert set(run) >= RUN_KEYS
    assert run["params"] == {"a": 123456789012345678901234567890}
    assert run["trigger"] == {"kind": "cli", "by": "ann", "at": None}
    assert run["reason"] == "step_failed"
    purge, load = run["steps"]
    assert set(purge) >= STEP_KEYS
    assert (purge["attempt"], purge["rows_affected"], len(purge["attempts"])) == (2, 2, 2)
    assert (load["state"], load["attempt"], load["attempts"]) == ("PENDING", 0, [])


async def test_show_for_people_is_harmless_and_plain(kernel: FakeKernel, command: Command) -> None:
    """Into a pipe goes no escape sequence, neither ours nor one of the run."""
    kernel.runs["run_1"] = _run_with_steps()
    done = await command("show", "run_1", "--address", kernel.address)
    assert done.code == 0
    assert "\x1b" not in done.out
    assert r"no \x1b[31mrows" in done.out
    assert "try 2" in done.out


@pytest.mark.parametrize(
    ("state", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 3), ("SKIPPED", 4), ("MISSED", 4)]
)
async def test_waiting_exits_with_the_state(kernel: FakeKernel, command: Command, state: str, code: int) -> None:
    """``run --wait`` exits with the code of the run's state, and prints the run."""
    kernel.triggered["k"] = "run_1"
    kernel.runs["run_1"] = make_run("run_1", state)
    done = await command(
        "run", "nightly", "--key", "k", "--wait", "-o", "json", env={"NOMAFLOW_ADDRESS": kernel.address}
    )
    assert (done.code, json.loads(done.out)["state"]) == (code, state)
    follow = await command("run", "nightly", "--key", "k", "--follow", "--address", kernel.address)
    assert follow.code == code


async def test_run_answers_at_once_with_the_run(kernel: FakeKernel, command: Command) -> None:
    """The current run is printed without ``--wait``, and the exit code is 0."""
    done = await command("run", "nightly", "-p", "a=1", "--address", kernel.address, "-o", "json")
    assert (done.code, json.loads(done.out)["state"]) == (0, "QUEUED")
    sent = kernel.requests["TriggerRun"][0]
    assert (sent.trigger_kind, sent.params_json) == (run_pb2.TriggerKind.TRIGGER_KIND_CLI, b'{"a":1}')


async def test_following_as_json_ends_with_the_run(kernel: FakeKernel, command: Command) -> None:
    """``run --follow -o json`` is one object a line, the run last."""
    kernel.triggered["k"] = "run_1"
    kernel.runs["run_1"] = make_run()
    await kernel.say(b"hello")
    await kernel.finish("run_1")
    done = await command("run", "nightly", "--key", "k", "-f", "--address", kernel.address, "-o", "json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert sorted(line["type"] for line in lines) == ["event", "log", "run"]
    assert lines[-1]["type"] == "run"
    assert lines[-1]["state"] == "SUCCEEDED"


async def test_logs_are_one_object_a_line(kernel: FakeKernel, command: Command) -> None:
    """``logs -o json`` has the promised keys; filters go to the kernel; any byte survives."""
    kernel.runs["run_1"] = make_run("run_1", "SUCCEEDED", steps=[run_pb2.Step(name="one")])
    await kernel.say(b"quiet", level=10)
    await kernel.say(b"loud \xff", level=40)
    done = await command(
        "logs", "run_1", "--level", "warning", "--step", "one", "--address", kernel.address, "-o", "json"
    )
    [line] = [json.loads(text) for text in done.out.splitlines()]
    assert set(line) == {"seq", "ts", "level", "logger", "step", "attempt", "message"}
    assert (line["level"], line["message"]) == ("ERROR", "loud \udcff")
    assert kernel.requests["ReadLogs"][0].step == "one"


async def test_an_unknown_run_is_a_short_error(kernel: FakeKernel, command: Command) -> None:
    """A refusal is a message on stderr, exit code 2, and JSON for programs; never a traceback."""
    done = await command("show", "run_none", "--address", kernel.address)
    assert (done.code, done.out) == (2, "")
    assert done.err == "✘ no run 'run_none'\n"
    as_json = await command("show", "run_none", "--address", kernel.address, "-o", "json")
    error = {"reason": "RUN_NOT_FOUND", "message": "no run 'run_none'", "fix": None}
    assert (as_json.code, json.loads(as_json.err)) == (2, {"error": error})


async def test_an_unreachable_kernel_exits_5(command: Command, tmp_path: Path) -> None:
    """A missing kernel gives exit code 5, with the address and the way out, even if the project's has never run."""
    for arguments in (["runs"], ["run", "nightly", "--follow"], ["logs", "run_1"]):
        done = await command(*arguments, "--address", f"unix:{tmp_path}/no.sock")
        assert done.code == 5
        assert "no kernel answers at unix:" in done.err
        assert "nomaflow up" in done.err
    (tmp_path / "cwd" / "jobs.toml").touch()
    done = await command("jobs", "-o", "json")
    assert (done.code, json.loads(done.err)["error"]["reason"]) == (5, "KERNEL_UNREACHABLE")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["rnus"], "Did you mean 'runs'?"),
        (["run"], "missing argument 'JOB'"),
        (["runs", "--limit", "0"], "'--limit' / '-n': expected a whole number from 1 to 10,000, got 0"),
        (["schedule", "--days", "x"], "'--days': expected a whole number from 1 to 366, got 'x'"),
        (["runs", "--address", "nonsense"], "the address 'nonsense' has no known form"),
        (["run", "x", "-p", "a", "--address", "unix:/x"], "--param 'a' has no value"),
        (["pause", "x", "--host", "y", "--address", "unix:/x"], "JOB and --host cannot be used together"),
        (["runs", "--since", "yesterday", "--address", "unix:/x"], "--since"),
        (["cron", "61 * * * *"], "cron expression '61 * * * *'"),
        (["cron", "* * * * *", "--tz", "Europe/Pariss"], "Europe/Paris"),
        (["cron", "* * * * *", "--batch"], "not both"),
        (["init"], "missing argument"),
        (["jobs"], "no project here"),
    ],
)
async def test_mistakes_exit_2_and_say_the_way_out(command: Command, arguments: list[str], text: str) -> None:
    """A mistake of the person is one short message on stderr and exit code 2."""
    done = await command(*arguments)
    assert done.code == 2
    assert text in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 4
    as_json = await command(*arguments, "-o", "json")
    assert set(json.loads(as_json.err)["error"]) == {"reason", "message", "fix"}


async def test_a_lost_token_is_explained(kernel: FakeKernel, command: Command) -> None:
    """A kernel that does not know the caller: the message says where the token comes from."""
    kernel.refusals["ListRuns"] = [Refusal(grpc.StatusCode.UNAUTHENTICATED, "a valid token is needed")]
    done = await command("runs", "--address", kernel.address)
    assert done.code == 2
    assert "nomaflow login FILE" in done.err
    assert "--token-file" in done.err


async def test_lists_are_objects_and_tables(kernel: FakeKernel, command: Command) -> None:
    """``jobs``, ``runs`` and ``hosts`` print tables, and one object each for programs."""
    kernel.runs["run_1"] = make_run("run_1", "SUCCEEDED")
    job = job_pb2.Job(job_id="nightly", host="team", enabled=True, schedule="0 3 * * *", timezone="Europe/Paris")
    job.problems.add(severity="error", code="unknown_key", file="jobs.toml", path="jobs[0].x", message="no", fix="yes")
    kernel.replies["ListJobs"] = pb.ListJobsResponse(jobs=[job])
    host = host_pb2.Host(name="team", state=host_pb2.HOST_STATE_ATTACHED, job_count=1)
    host.instances.add(incarnation="abc", state=host_pb2.HOST_STATE_ATTACHED, pid=7, code_newer=True)
    kernel.replies["ListHosts"] = pb.ListHostsResponse(hosts=[host])
    for name, key, words in (
        ("jobs", "jobs", ["nightly", "Europe/Paris", "disabled by a problem", "jobs.toml › jobs[0].x", "→ yes"]),
        ("runs", "runs", ["run_1", "SUCCEEDED"]),
        ("hosts", "hosts", ["team", "ATTACHED", "pid 7", "newer on disk"]),
    ):
        table = await command(name, "--address", kernel.address)
        assert table.code == 0
        assert all(word in table.out for word in words), table.out
        listed = json.loads((await command(name, "--address", kernel.address, "-o", "json")).out)
        assert len(listed[key]) == 1


async def test_other_commands_answer_in_json(kernel: FakeKernel, command: Command) -> None:
    """``cancel``, ``replay``, ``pause``, ``resume``, ``reload``, ``hosts forget`` and ``job`` have an object each."""
    kernel.runs["run_1"] = make_run()
    kernel.replies["ReloadHost"] = pb.ReloadHostResponse(
        instances=[pb.ReloadOutcome(incarnation="abc", accepted=False, generation=3, message="it does not import")]
    )
    kernel.replies["GetJob"] = pb.GetJobResponse(job=job_pb2.Job(job_id="nightly", definition_json=b'{"id":"nightly"}'))
    remote = ("--address", kernel.address, "-o", "json")
    canceled = await command("cancel", "run_1", "--why", "late", *remote)
    assert (canceled.code, json.loads(canceled.out)["run_id"]) == (0, "run_1")
    assert kernel.requests["CancelRun"][0].why == "late"
    replayed = await command("replay", "run_1", "--from-failed", "--wait", *remote)
    assert (replayed.code, json.loads(replayed.out)["run_id"]) == (0, "run_replayed")
    paused = json.loads((await command("pause", "nightly", "--for", "30m", *remote)).out)
    assert (paused["job_id"], paused["until"][-1]) == ("nightly", "Z")
    assert json.loads((await command("resume", *remote)).out)["was_paused"] is True
    reloaded = await command("reload", *remote)
    assert (reloaded.code, json.loads(reloaded.out)["instances"][0]["accepted"]) == (1, False)
    forgotten = json.loads((await command("hosts", "forget", "old", *remote)).out)
    assert forgotten == {"host": "old", "released_job_ids": ["a", "b"]}
    job = json.loads((await command("job", "nightly", *remote)).out)
    assert (job["definition"], job["recent_runs"][0]["run_id"]) == ({"id": "nightly"}, "run_1")


async def test_a_typo_in_a_filter_is_no_empty_answer(kernel: FakeKernel, command: Command) -> None:
    """``runs JOB`` of a job that does not exist and ``logs --step`` of a step that a run does not have are refused."""
    kernel.refusals["GetJob"] = [
        Refusal(grpc.StatusCode.NOT_FOUND, "no job has the id 'nighty'", reason="JOB_NOT_FOUND")
    ]
    done = await command("runs", "nighty", "--address", kernel.address)
    assert (done.code, "no job has the id 'nighty'" in done.err) == (2, True)
    kernel.runs["run_1"] = make_run("run_1", "SUCCEEDED")
    done = await command("logs", "run_1", "--step", "nope", "--address", kernel.address)
    assert (done.code, "run run_1 has no step 'nope'" in done.err) == (2, True)


async def test_a_key_that_was_used_is_a_warning_for_programs_too(kernel: FakeKernel, command: Command) -> None:
    """Standard error holds JSON where the output does."""
    kernel.triggered["k"] = "run_1"
    kernel.runs["run_1"] = make_run("run_1", "SUCCEEDED")
    for _ in range(2):
        done = await command("run", "nightly", "--key", "k", "--address", kernel.address, "-o", "json")
    assert "the key was used before" in json.loads(done.err)["warning"]


async def test_output_that_cannot_be_written_is_no_traceback(kernel: FakeKernel) -> None:
    """A full disk gives one line and exit code 1; a closed standard output gives nothing."""
    kernel.runs["run_1"] = make_run("run_1", "SUCCEEDED")
    await kernel.say(b"a line")
    full = b"the output cannot be written: No space left on device"
    for words, redirection, code, told in (
        ("runs", ">/dev/full", 1, full),
        ("logs run_1 -o json", ">/dev/full", 1, full),
        ("runs", ">&-", 0, b""),
        ("logs run_1 -o json", ">&- 2>&- <&-", 0, b""),
    ):
        shell = f"{sys.executable} -m nomaflow_cli {words} --address {kernel.address} {redirection}"
        process = await asyncio.create_subprocess_shell(shell, stderr=subprocess.PIPE)
        _, said = await process.communicate()
        assert (process.returncode, told in said, said.count(b"\n")) == (code, True, bool(told)), said


async def test_up_says_where_it_may_not_write(command: Command, tmp_path: Path) -> None:
    """A project whose state folder cannot be made is refused before anything starts."""
    (tmp_path / "jobs.toml").write_text("")
    (tmp_path / ".nomaflow").write_text("a file where a directory should be")
    done = await command("up", str(tmp_path))
    assert done.code == 2
    assert done.err.startswith(f"✘ cannot write to '{tmp_path}/.nomaflow': File exists\n")
    assert done.out == ""


async def test_a_table_in_a_pipe_has_no_blanks_at_its_right(kernel: FakeKernel, command: Command) -> None:
    """A table does not wrap in a terminal that is narrower than the pipe's width."""
    kernel.runs["run_1"] = make_run("run_1", "SUCCEEDED")
    done = await command("runs", "--address", kernel.address)
    assert "run_1" in done.out
    assert not any(line.endswith(" ") for line in done.out.splitlines())


async def test_a_reader_that_goes_away_is_no_traceback(kernel: FakeKernel, tmp_path: Path) -> None:
    """``nomaflow logs RUN | head -1`` ends quietly."""
    kernel.runs["run_1"] = make_run("run_1", "SUCCEEDED")
    for number in range(3000):
        await kernel.say(b"line %d" % number + b"x" * 100)
    shell = f"{sys.executable} -m nomaflow_cli logs run_1 --address {kernel.address} | head -1"
    process = await asyncio.create_subprocess_shell(shell, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await process.communicate()
    assert out.count(b"\n") == 1
    assert err == b""


async def test_cron_prints_instants(command: Command) -> None:
    """``cron`` prints ISO instants in UTC; the batch form answers line by line."""
    done = await command("cron", "0 3 * * *", "--tz", "Europe/Paris", "--from", "2026-03-28T00:00:00", "-n", "2")
    assert done.out.split() == ["2026-03-28T02:00:00Z", "2026-03-29T01:00:00Z"]
    asked = '{"expr": "0 0 * * *", "tz": "UTC", "from": "2026-01-01T00:00:00Z", "n": 1}\n{"expr": "x"}\n'
    batch = await command("cron", "--batch", stdin=asked)
    first, second = (json.loads(line) for line in batch.out.splitlines())
    assert first == {"fires": ["2026-01-02T00:00:00Z"]}
    assert set(second) == {"error"}
    assert batch.code == 0


async def test_init_writes_a_project_that_is_in_order(command: Command, tmp_path: Path) -> None:
    """A new project passes the check, its callables run, and it is never overwritten."""
    project = tmp_path / "team"
    made = await command("init", str(project))
    assert (made.code, f"in another terminal: cd {project} && nomaflow run" in made.out) == (0, True)
    again = await command("init", str(project))
    assert again.code == 2
    assert "nothing was written" in again.err
    check = await command("check", str(project), "--no-import", "-o", "json")
    assert (check.code, json.loads(check.out)["ok"]) == (0, True)
    fires = json.loads((await command("schedule", str(project), "--days", "2", "-o", "json")).out)
    assert len(fires["fires"]) == 2
    env = {"NOMAFLOW_PROJECT": str(project)}
    filled = await command("call", "myapp.cleanup:fill_sessions", "-p", "count=200", "-o", "json", env=env)
    assert (filled.code, json.loads(filled.out)["rows_affected"]) == (0, 200)
    purged = await command("call", "myapp.cleanup:purge_old_sessions", "-o", "json", env=env)
    assert json.loads(purged.out)["rows_affected"] > 0
    assert "removed" in purged.err


async def test_check_says_where_and_what_to_do(command: Command, tmp_path: Path) -> None:
    """A bad job fails the check with file, path and the way out; the good one stays in order."""
    (tmp_path / "jobs.toml").write_text(
        '[[jobs]]\nid = "good"\n[[jobs.steps]]\ntype = "python"\ncallable = "a.b:c"\n'
        '[[jobs]]\nid = "bad"\nshedule = "* * * * *"\n[[jobs.steps]]\ntype = "python"\ncallable = "a.b:c"\n'
    )
    done = await command("check", str(tmp_path), "--no-import")
    assert done.code == 1
    assert "✔ good" in done.out
    assert "✘ bad  would be disabled" in done.out
    assert "jobs.toml:8 › bad: jobs[1].shedule" in done.out
    assert "did you mean 'schedule'?" in done.out


async def test_check_names_every_error_of_the_files_though_no_host_could_start(
    command: Command, tmp_path: Path
) -> None:
    """The files are checked even if a typo in nomaflow.toml prevents the import of plugins."""
    (tmp_path / "nomaflow.toml").write_text('[host]\nnam = "x"\n')
    (tmp_path / "connectors.toml").write_text("[pols.x]\n")
    (tmp_path / "jobs.toml").write_text("[[jobs]]\nid=1")
    done = await command("check", str(tmp_path))
    assert done.code == 1
    for words in ("nomaflow.toml:2 › host.nam", "connectors.toml:1 › pols", "jobs.toml", "callables were not checked"):
        assert words in done.out
    assert "errors; " in done.out
    assert not done.out.startswith("\n")
    (tmp_path / "jobs.toml").unlink()
    done = await command("check", str(tmp_path), "--no-import")
    assert "3 errors, and no job was found; 2 files read: nomaflow.toml, connectors.toml" in done.out


async def test_ways_out_can_be_pasted_into_a_shell(command: Command, tmp_path: Path) -> None:
    """A path with a blank is quoted in the commands that are proposed."""
    project = tmp_path / "my team"
    made = await command("init", str(project))
    unreachable = await command("jobs", "--project", str(project))
    for proposed in (made.out, unreachable.err):
        assert f"nomaflow up '{project}'" in proposed
    missing = await command("check", "no such")
    assert "nomaflow init 'no such'" in missing.err


def test_version_loads_neither_typer_nor_grpc() -> None:
    """The quickest answer stays quick: nothing heavy is imported for it."""
    code = (
        "import sys; from nomaflow_cli import main; code = main(['version'])\n"
        "sys.exit(code or any(name in sys.modules for name in ('typer', 'grpc', 'rich', 'pydantic')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"nomaflow \d+\.\d+\.\d+\n", done.stdout)


def test_commands_that_do_not_talk_load_no_grpc() -> None:
    """Building the application and running ``cron`` load no gRPC."""
    code = (
        "import sys; from nomaflow_cli import main; main(['cron', '0 0 * * *'])\n"
        "sys.exit(any(name in sys.modules for name in ('grpc', 'sqlalchemy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


async def test_the_document_names_every_command_and_option(command: Command) -> None:
    """docs/cli.md has every command, every shared variable and every exit code."""
    text = DOCS.read_text(encoding="utf-8")
    helped = await command("--help", env={"COLUMNS": "100"})
    commands = re.findall(r"^│ ([a-z]+) {2,}", helped.out, re.MULTILINE)
    assert len(commands) >= 20
    assert [name for name in commands if f"`{name}" not in text] == []
    for name in ("ADDRESS", "TOKEN", "TOKEN_FILE", "CA", "PROFILE", "TRUST", "PROJECT", "OUTPUT"):
        assert f"NOMAFLOW_{name}" in text
    assert [code for code in ("0", "1", "2", "3", "4", "5", "130") if f"| {code} |" not in text] == []
    for key in RUN_KEYS | STEP_KEYS:
        assert f'"{key}"' in text
