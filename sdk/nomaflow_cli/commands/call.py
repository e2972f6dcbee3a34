"""``nomaflow call``: one callable, from a terminal, without a kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from nomaflow_cli.call_child import GRACE_SECONDS
from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.formatting import WITH_JSON, Excerpt, amount, exit_words, extras_text
from nomaflow_cli.invocation import Invocation, local_command
from nomaflow_cli.options import argument, option, repeated
from nomaflow_cli.output import answer, print_warnings
from nomaflow_cli.parsers import level_number, parse_params
from nomaflow_cli.project import project_of
from nomaflow_telemetry.visible_text import paragraph

_RECHECK_SECONDS = 0.05


@local_command("call", needs=("host",))
def call(
    *,
    invocation: Invocation,
    reference: str = argument("The callable, for example myapp.cleanup:purge_old_sessions.", metavar="CALLABLE"),
    param: list[str] = repeated("Argument of the call, as key=json.", "-p"),
    log_level: str = option("Lowest log level to show.", default="INFO"),
) -> ExitCode:
    """Run one callable without a kernel, and print its result.

    It runs in a process of its own, with the project's connectors and settings.
    """
    order = {
        "reference": reference,
        "op_kwargs": parse_params(param),
        "log_level": level_number(log_level),
        "project": str(project_of(invocation, runs_code=True)),
    }
    from nomaflow.testing.host_machinery import process_trees

    trees = process_trees()
    trees.become_subreaper()  # what the callable leaves becomes a child of this process, however its own one ends
    try:
        outcome = _in_child(order)
    finally:
        ended = _end_children(trees)
        if ended:
            what = "a process" if ended == 1 else f"{ended} processes"
            told = f"ended {what} that the callable had left behind, as a host does"
            print_warnings([told], as_json=invocation.as_json)
    answer(invocation, outcome, _text(outcome))
    return ExitCode.of_run(outcome["state"])


def _in_child(order: dict[str, Any]) -> dict[str, Any]:
    """Return the outcome that the child wrote; what the callable prints goes to standard error."""
    # Into a file: a pipe would be full at 64 KiB, and would not end before all that the callable has started does.
    with tempfile.TemporaryFile() as answers:
        command = [sys.executable, "-P", "-m", "nomaflow_cli.call_child", str(answers.fileno())]
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until the child has its modules
        try:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sys.stderr, pass_fds=(answers.fileno(),))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        with child:
            child.communicate(json.dumps(order).encode())
        answers.seek(0)
        body = answers.read()
    if not body:
        raise CliError(
            f"the process of the callable ended without a result: {exit_words(child.returncode)}",
            reason="NO_RESULT",
            fix="its output above may name the cause",
            exit_code=ExitCode.FAILED,
        )
    outcome: dict[str, Any] = json.loads(body)
    return outcome


def _end_children(trees: Any) -> int:
    """Wait until this process has no children; return the number of processes that had to be killed for that.

    :param trees: see `process_trees`
    """
    killed, until = 0, time.monotonic() + GRACE_SECONDS
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return killed
        if ended:
            continue
        if not killed and time.monotonic() > until:
            killed = trees.kill_trees([trees.ProcessIdentity.of(pid) for pid in trees.own_children()])
        time.sleep(_RECHECK_SECONDS)  # nothing announces the end of an adopted process


def _text(outcome: dict[str, Any]) -> str:
    sign = {"SUCCEEDED": "✔", "CANCELED": "⊘"}.get(outcome["state"], "✘")
    facts = (
        ("rows_affected", amount(outcome["rows_affected"])),
        ("extras", extras_text(outcome["extras"])),
        ("", WITH_JSON if Excerpt.of_extras(outcome["extras"]).is_cut else ""),
        ("error", paragraph(outcome["error"] or "", indent=17)),
    )
    lines = [f"{sign} {outcome['state']}", *(f"  {name:<13}  {text}" for name, text in facts if text)]
    if outcome["reason"] == "argument_missing":
        lines.append("  → give an argument of the call with --param key=json")
    return "\n".join(lines)
