"""No text that a kernel stored can steer a terminal or forge a line: every field of every answer, every command."""

from __future__ import annotations

import ast
import io
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

import nomaflow_cli
from cli_command import Command
from fake_kernel import FakeKernel, Refusal
from nomaflow.client.values import LogLine, RunView
from nomaflow_api.v1 import access_service_pb2, event_pb2, host_pb2, job_pb2, log_pb2, run_pb2
from nomaflow_api.v1 import kernel_service_pb2 as pb
from nomaflow_api.v1.message_codec import decode
from nomaflow_cli import output
from nomaflow_cli.live.screens import PlainScreen, TerminalScreen

FORGED = "FORGED LINE"
HOSTILE = (
    f"a\n{FORGED}\r\n{FORGED}\x85{FORGED}\u2028{FORGED}\x1b[2J\x1b]8;;http://evil\x1b\\link\x1b]0;title\x07"
    "\x9b31m\x00\x7f\u202eexe\u2066\u200e\u061c\U000e0041\tb"
)
RUN_ID = "run_" + "0" * 26
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def filled(kind: type[Any], depth: int = 0, *, number: int = 1) -> Any:
    """Return a message with something hostile in every field.

    :param number: the value of each number and enum
    """
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        many = hasattr(getattr(message, field.name), "extend")
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                getattr(message, field.name)[HOSTILE] = HOSTILE
            elif field.message_type.full_name == "google.protobuf.Timestamp":
                getattr(message, field.name).seconds = 1_700_000_000
            elif depth < 5:
                inner = filled(field.message_type._concrete_class, depth + 1, number=number)
                (getattr(message, field.name).append if many else getattr(message, field.name).CopyFrom)(inner)
            continue
        value = _hostile(field, number)
        if many:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


def _hostile(field: FieldDescriptor, number: int) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return "warning" if field.name == "severity" else HOSTILE
    if field.type == FieldDescriptor.TYPE_BYTES:
        hostile = {HOSTILE: HOSTILE, "steps": [{"name": HOSTILE, "callable": HOSTILE, "op_kwargs": {HOSTILE: HOSTILE}}]}
        return json.dumps(hostile).encode() if field.name.endswith("_json") else HOSTILE.encode() + b"\xff"
    if field.type == FieldDescriptor.TYPE_BOOL:
        return True
    return float(number) if field.type == FieldDescriptor.TYPE_DOUBLE else number


def run_of(state: int) -> run_pb2.Run:
    """Return a hostile run in a state, with two attempts in one step."""
    run: run_pb2.Run = filled(run_pb2.Run, number=state)
    run.state = state  # type: ignore[assignment]  # a number of the enum
    run.steps[0].attempts.append(run.steps[0].attempts[0])
    return run


def check(text: str) -> None:
    """Fail if a text steers a terminal, or holds a line that only the hostile text began."""
    assert not STEERS.search(text), repr(STEERS.search(text))
    assert not [line for line in text.splitlines() if line.startswith(FORGED)], text
    assert "\\x1b]8;;http://evil" in text or "http://evil" not in text


@pytest.fixture
def hostile_kernel(kernel: FakeKernel) -> FakeKernel:
    """Return a kernel all of whose answers are hostile in every field."""
    run = run_of(run_pb2.RUN_STATE_FAILED)
    run.run_id = RUN_ID
    kernel.runs = {RUN_ID: run, "other": run_of(run_pb2.RUN_STATE_RUNNING)}
    kernel.lines = [filled(log_pb2.LogLine, number=1)]
    kernel.events = [filled(event_pb2.Event, number=1)]
    for method, kind in (
        ("ListJobs", pb.ListJobsResponse),
        ("GetJob", pb.GetJobResponse),
        ("ListHosts", pb.ListHostsResponse),
        ("ReloadHost", pb.ReloadHostResponse),
    ):
        reply = filled(kind)
        if hasattr(reply, "next_page_token"):
            reply.next_page_token = ""
        kernel.replies[method] = reply
    kernel.audit.rows = [filled(access_service_pb2.AuditRow)]
    kernel.audit.verdict = filled(access_service_pb2.VerifyAuditResponse)
    for method in ("ListTokens", "ListCertificates", "CreateToken", "RevokeTokens", "GetAuthority"):
        kernel.audit.replies[method] = filled(getattr(access_service_pb2, f"{method}Response"))
        if method.startswith("List"):
            kernel.audit.replies[method].next_page_token = ""
    return kernel


COMMANDS = [
    ("jobs",),
    ("jobs", "--tag", "none"),
    ("job", "x"),
    ("runs",),
    ("show", RUN_ID),
    ("logs", RUN_ID),
    ("hosts",),
    ("callables",),
    ("hosts", "forget", "x"),
    ("reload",),
    ("cancel", RUN_ID),
    ("cancel", RUN_ID, "--wait"),
    ("run", HOSTILE.replace("\x00", "")),
    ("run", "x", "--preset", HOSTILE.replace("\x00", "")),
    ("replay", RUN_ID, "--follow"),
    ("pause", HOSTILE.replace("\x00", "")),
    ("pause", "--host", HOSTILE.replace("\x00", "")),
    ("resume", HOSTILE.replace("\x00", "")),
    ("audit",),
    ("audit", "verify"),
    ("token", "list"),
    ("token", "create", "--user", "ann", "--role", "viewer"),
    ("token", "revoke", "x"),
    ("pki", "show"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments)[:20].partition("\n")[0])
async def test_no_command_prints_what_steers_a_terminal(
    hostile_kernel: FakeKernel, command: Command, arguments: tuple[str, ...]
) -> None:
    """Whatever the kernel has stored: into a pipe goes text of ours, in lines of ours, and no escape sequence."""
    done = await command(*arguments, "--address", hostile_kernel.address)
    assert "Traceback" not in done.err
    assert done.out or done.err
    check(done.out)
    check(done.err)


async def test_a_followed_log_for_a_program_is_exact(hostile_kernel: FakeKernel, command: Command) -> None:
    """With -o json every character comes as it was, escaped as JSON does; without it a tab stays a tab."""
    done = await command("logs", RUN_ID, "--address", hostile_kernel.address, "-o", "json")
    (line,) = map(json.loads, done.out.splitlines())
    assert line["message"].startswith(HOSTILE)
    assert not STEERS.search(done.out)
    assert "\tb" in (await command("logs", RUN_ID, "--address", hostile_kernel.address)).out


@pytest.mark.parametrize("reason", ["JOB_NOT_FOUND", HOSTILE[:20].replace("\n", "")])
async def test_an_error_of_the_kernel_cannot_steer_a_terminal(
    kernel: FakeKernel, command: Command, reason: str
) -> None:
    """Its text is shown, and obeyed by nobody; its further lines are indented."""
    kernel.refusals["ListHosts"] = [Refusal(grpc.StatusCode.NOT_FOUND, HOSTILE.replace("\x00", ""), reason=reason)] * 9
    done = await command("hosts", "--address", kernel.address)
    assert done.code != 0
    assert not STEERS.search(done.err)
    assert not [line for line in done.err.splitlines() if line.startswith(FORGED)]


@pytest.mark.parametrize("state", [run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_FAILED])
@pytest.mark.parametrize("attempt", [2, 3, 4, 5])
def test_a_live_screen_shows_hostile_text_and_does_not_obey(
    monkeypatch: pytest.MonkeyPatch, state: int, attempt: int
) -> None:
    """Steps, progress, reasons and log lines, drawn live and as a summary: only styles and cursor moves are ours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for kind, terminal in ((TerminalScreen, True), (PlainScreen, False)):
        monkeypatch.setattr("sys.stdout", _Terminal() if terminal else io.StringIO())
        console = output.console()
        screen = kind(console=console)
        message = run_of(state)
        for each in message.steps[0].attempts:
            each.state = attempt  # type: ignore[assignment]  # a number of the enum
        run = decode(RunView, message)
        screen.open()
        screen.update(run)
        screen.tick()
        screen.log([decode(LogLine, filled(log_pb2.LogLine))])
        screen.connected(False)
        screen.connected(True)
        screen.finish(run)
        screen.close()
        written = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
        assert "evil" in written
        # Rich draws: it moves the cursor up, erases lines, hides and shows the cursor.
        ours = re.sub(r"\x1b\[(?:\d*[AK]|\d?[JG]|\?25[lh])|\r", "", STYLE.sub("", written)) if terminal else written
        check(ours)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_page_that_forgets_to_make_a_text_printable_is_still_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The console spells out what is left, for pipes and for terminals."""
    for stream in (io.StringIO(), _Terminal()):
        monkeypatch.setattr("sys.stdout", stream)
        output.console().print(HOSTILE)
        output.say(HOSTILE)
        assert not STEERS.search(STYLE.sub("", stream.getvalue()))


# --- no other way out -------------------------------------------------------------------------------------------------

ROOT = Path(nomaflow_cli.__file__).parents[2]
WRITERS = {
    "sdk/nomaflow_cli/output.py": "the one way",
    "sdk/nomaflow_cli/entry.py": "prints the version before anything is loaded",
    "sdk/nomaflow_project/reading/store_password.py": "a sentence of ours, before anything is loaded",
    "sdk/nomaflow_telemetry/process_log.py": "the log, and errors before there is one",
    "kernel/nomaflow_kernel/upkeep/__main__.py": "writes JSON in ASCII for the command line",
    "kernel/nomaflow_kernel/upkeep/copy_and_reclaim.py": "draws a line of numbers and names of our tables",
    "plugin_host/nomaflow_host/app.py": "writes the manifest, JSON in ASCII, for the command line",
}


def _writes(tree: ast.AST) -> Iterator[int]:
    """Yield the line of each place that prints or writes to a standard stream, or makes a console of its own."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("print", "Console", "Live", "typer.echo", "click.echo", "traceback.print_exc") or re.fullmatch(
            r"sys\.(__)?std(out|err)(__)?(\.buffer)?\.write|traceback\.print_exception|logging\.basicConfig", called
        ):
            if called == "Live" and any(keyword.arg == "console" for keyword in node.keywords):
                continue
            yield node.lineno


def test_nothing_else_writes_to_a_terminal_or_a_log() -> None:
    """A module that prints by itself is found here, with its line: it goes through output.py or process_log.py."""
    folders = (
        "sdk/nomaflow_cli",
        "sdk/nomaflow_telemetry",
        "sdk/nomaflow_project",
        "sdk/nomaflow/client",
        "kernel",
        "plugin_host",
    )
    paths = itertools.chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders)
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in paths
        if "scaffold" not in path.parts and str(path.relative_to(ROOT)) not in WRITERS
        for line in _writes(ast.parse(path.read_text()))
    }
    assert found == set()


def test_there_is_one_function_that_spells_characters_out() -> None:
    """No second table of unsafe characters, which would forget one of them."""
    tables = [
        str(path.relative_to(ROOT))
        for folder in ("sdk", "kernel", "plugin_host")
        for path in (ROOT / folder).rglob("*.py")
        if r"\u202a" in path.read_text()
    ]
    assert tables == ["sdk/nomaflow_telemetry/visible_text.py"]


def _is_used(message: Message) -> bool:
    return bool(message.ListFields())


def test_the_hostile_answers_are_complete() -> None:
    """Every field is set, or this test would prove nothing of it."""
    for kind in (run_pb2.Run, job_pb2.Job, host_pb2.Host, log_pb2.LogLine, event_pb2.Event):
        message = filled(kind)
        assert {field.name for field, _ in message.ListFields()} == {field.name for field in kind.DESCRIPTOR.fields}
        assert _is_used(message)
