"""The process that ``nomaflow call`` starts: the only part of the command line that imports plugin code.

Reads one JSON order on standard input and writes one JSON outcome to the file descriptor named by its argument.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nomaflow.errors import StepFailed
from nomaflow.settings import Settings
from nomaflow_api.v1.lossless_json import ValueCodecError, decode_tree
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.output import tell
from nomaflow_telemetry.process_log import set_up_logging
from nomaflow_telemetry.visible_text import paragraph

if TYPE_CHECKING:
    from nomaflow.testing import CallableOutcome

GRACE_SECONDS = 5.0
"""The time that a host gives by default to what a step has left behind: it may be about to end."""


def main() -> None:
    """Run the order and write the outcome."""
    # Ctrl-C during the start ends it without a traceback: the command has blocked the signal until here.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    from nomaflow.testing.host_machinery import host_machinery, process_trees

    process_trees().die_with_parent(signal.SIGINT)  # as at Ctrl-C
    order: dict[str, Any] = json.load(sys.stdin)
    set_up_logging(level=order["log_level"], form="text")
    project = Path(order["project"])
    sys.path.insert(0, str(project / "plugins"))
    with asyncio.Runner(loop_factory=host_machinery().WorkerLoop) as runner:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which the runner replaces by its own
        _wake_at_signals(runner.get_loop())
        try:
            outcome = runner.run(_run(order, project))
        except KeyboardInterrupt:  # a coroutine has ended by now; a thread would not, and Python would wait for it
            sys.stdout.flush()
            os._exit(ExitCode.INTERRUPTED)
    with os.fdopen(int(sys.argv[1]), "w", encoding="ascii") as answers:
        json.dump(outcome, answers)
    # Python waits for threads and processes that the callable has left; a host does not do so for long.
    patience = threading.Timer(GRACE_SECONDS, _leave)
    patience.daemon = True
    patience.start()


def _wake_at_signals(loop: asyncio.AbstractEventLoop) -> None:
    """Have each signal end a wait of the loop: Python handles one that comes just before it only after the wait."""
    waking, woken = socket.socketpair()
    waking.settimeout(0)
    loop.add_reader(woken, woken.recv, 1)
    signal.set_wakeup_fd(waking.detach(), warn_on_full_buffer=False)


def _leave() -> None:
    """End this process although threads of the callable run, and say so; its processes are the command's to end."""
    main_thread = threading.main_thread()
    left = [each.name for each in threading.enumerate() if each is not main_thread and not each.daemon]
    if left:
        tell(f"! ended threads that the callable had left behind, as a host does: {', '.join(left)}")
    os._exit(0)


async def _run(order: dict[str, Any], root: Path) -> dict[str, Any]:
    from nomaflow.testing import run_callable
    from nomaflow.testing.host_machinery import host_machinery, host_project
    from nomaflow.testing.running import TRIAL
    from nomaflow_project.reading.worker_environment import withheld_hint, worker_variables

    host = host_project()
    try:
        op_kwargs = {key: decode_tree(value, path=key) for key, value in order["op_kwargs"].items()}
    except ValueCodecError as error:
        return _failed(error, "value_invalid")
    try:
        project = host.Project.open(root, environ=os.environ)
    except host.ProjectError as error:
        return _failed(error, "project_unusable")
    known = worker_variables(
        os.environ,
        declared=project.variables,
        secret=project.connectors.variables,
        pass_env=project.settings.pass_env,
        wanted=project.wanted,
    )
    for name in known.withheld:
        del os.environ[name]
    os.environ.update(known.inherited)
    if (unusable := project.connectors.unusable.get("")) is not None:
        return _failed(unusable, "connectors_unusable")
    connectors = host_machinery().HostConnectorRegistry(project.connectors)
    try:
        outcome = await run_callable(
            order["reference"],
            op_kwargs=op_kwargs,
            ctx=replace(TRIAL, log_level=logging.getLevelName(order["log_level"])),
            connectors=connectors,
            settings=Settings(project.spec.settings),
            environ=replace(project.sources, environ=known.references, whole_files=False),
            plugins=host_machinery().import_plugins(str(root / "plugins")),
        )
    finally:
        await connectors.aclose()
    _print_traceback(outcome)
    said = outcome.error
    if said:  # the code's own error, or that of its import
        missed = (name for name in known.withheld if f"KeyError: {name!r}" in said)
        said += "".join(withheld_hint(KeyError(name), (name,)) for name in missed)
    return {
        "state": outcome.state,
        "rows_affected": outcome.rows_affected,
        "extras": dict(outcome.extras),
        "error": said or None,
        "reason": outcome.reason_code or None,
    }


def _failed(error: object, reason: str) -> dict[str, Any]:
    """Return the outcome of a call that cannot be made."""
    return {"state": "FAILED", "rows_affected": None, "extras": {}, "error": str(error), "reason": reason}


def _print_traceback(outcome: CallableOutcome) -> None:
    from nomaflow.testing.host_machinery import host_machinery

    error = outcome.exception
    if error is None or outcome.state != "FAILED" or isinstance(error, StepFailed):
        return  # A failure that the code raised on purpose needs no traceback.
    own = error.__traceback__.tb_next if error.__traceback__ is not None else None  # the first frame is ours
    tell(paragraph(host_machinery().author_traceback(error.with_traceback(own)), indent=0))


if __name__ == "__main__":
    main()
