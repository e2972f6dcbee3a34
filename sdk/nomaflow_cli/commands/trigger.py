"""``nomaflow run`` and ``replay``."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from nomaflow.client import (
    ClientError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Refused,
    ReplayOrder,
    TriggerOrder,
)
from nomaflow_cli import pages
from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.formatting import WITH_JSON, Excerpt, trouble_line
from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.kernel_access import client_failure, talk, telling_trouble
from nomaflow_cli.options import argument, flag, option, repeated
from nomaflow_cli.output import answer, console, print_warnings, say, tell
from nomaflow_cli.parsers import (
    hidden_value,
    level_number,
    parse_op_kwargs,
    parse_params,
    parse_switches,
)
from nomaflow_telemetry.visible_text import printable

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.values import Replayed, RunView, Triggered

    Started = Triggered | Replayed
    Start = Callable[[KernelClient], Awaitable[Started]]

_PARAMS = repeated("Override a param of the job, as key=json; repeatable.", "-p")
_OP_KWARGS = repeated("Override an op_kwarg of a step, as step.key=json; repeatable.")
_KEY = option("Idempotency key: repeating a request with the same key starts no second run.")
_WAIT = flag("Wait until the run ends, and exit with its exit code.", "-w")
_FOLLOW = flag("Show steps and log lines live until the run ends.", "-f")


class Overlap(enum.StrEnum):
    """An exception to the job's overlap policy."""

    ALLOW = "allow"


_STEPS = repeated("Switch a step on or off for this run, as name=on or name=off.")
_LOG_LEVEL = option("Log level of the run: DEBUG, INFO, WARNING, ERROR or CRITICAL.")
_OVERLAP_OPTION = option("allow: start the run in spite of the job's overlap policy.", default=None)
_VALIDATE = flag("Only check whether the run would be accepted; start nothing.")


@remote_command("run")
def run(
    *,
    invocation: Invocation,
    job: str = argument("The job's id; nomaflow jobs lists them."),
    param: list[str] = _PARAMS,
    op_kwarg: list[str] = _OP_KWARGS,
    secret: str = option("Give this param, one of the job's secret_params, from a hidden prompt or standard input."),
    step: list[str] = _STEPS,
    preset: str = option("Preset of the job to use."),
    log_level: str = _LOG_LEVEL,
    key: str = _KEY,
    overlap: Overlap | None = _OVERLAP_OPTION,
    wait: bool = _WAIT,
    follow: bool = _FOLLOW,
    validate: bool = _VALIDATE,
) -> ExitCode:
    """Start a run of a job."""
    if log_level:
        level_number(log_level)
    order = TriggerOrder(
        job_id=job,
        params={**parse_params(param), **({secret: hidden_value(secret)} if secret else {})},
        secret_keys=[secret] if secret else [],
        op_kwargs=parse_op_kwargs(op_kwarg),
        steps=parse_switches(step),
        preset=preset,
        log_level=log_level.upper(),
        request_id=key,
        kind="cli",
        overlap=overlap or "",
        validate_only=validate,
    )
    if validate:
        return _validate(invocation, lambda kernel: kernel.trigger(order), f"a run of job {printable(repr(job))}")
    return _run(invocation, lambda kernel: kernel.trigger(order), job, wait=wait, follow=follow)


def _validate(invocation: Invocation, start: Start, what: str) -> ExitCode:
    """Print whether a run would be accepted, and with which values; the exit code is 0 if it would, else 1."""

    async def ask(kernel: KernelClient) -> tuple[Started | None, ClientError | None]:
        try:
            return await start(kernel), None
        except (InvalidRequest, NotFound, PermissionDenied, Refused) as error:
            return None, error

    accepted, refusal = talk(invocation, ask)
    warnings = accepted.warnings if accepted is not None else ()
    given = {each.step: dict(each.op_kwargs) for each in accepted.steps} if accepted is not None else {}
    fields = (refusal.fields or {"": refusal.message}) if refusal is not None else {}
    shape = {
        "accepted": refusal is None,
        "reason": refusal.reason if refusal is not None else "",
        "problems": [{"field": field, "message": text} for field, text in fields.items()],
        "warnings": list(warnings),
        "steps": [{"step": name, "op_kwargs": values} for name, values in given.items()],
    }
    if not invocation.as_json:
        print_warnings(warnings, as_json=False)
    lines = [f"✘ {printable(text)}" for text in fields.values()]
    answer(invocation, shape, "\n".join(lines) or f"✔ {what} would be accepted")
    if given and not invocation.as_json:
        console().print(pages.attempts.values_table(given))
        if any(Excerpt.of(each).is_cut for each in given.values()):
            say(WITH_JSON)
    return ExitCode.of(refusal is None)


@remote_command("replay")
def replay(
    *,
    invocation: Invocation,
    run: str = argument("The id of a finished run."),
    from_step: str = option("Start at this step, and keep the outputs of the steps before it."),
    from_failed: bool = flag("Start at the step that did not succeed."),
    param: list[str] = _PARAMS,
    op_kwarg: list[str] = _OP_KWARGS,
    step: list[str] = _STEPS,
    log_level: str = _LOG_LEVEL,
    today: bool = flag("Run the job as it is defined now, instead of as it was then."),
    key: str = _KEY,
    overlap: Overlap | None = _OVERLAP_OPTION,
    wait: bool = _WAIT,
    follow: bool = _FOLLOW,
    validate: bool = _VALIDATE,
) -> ExitCode:
    """Start a new run from a finished one.

    It has that run's values, and the job as it was then.
    """
    if from_step and from_failed:
        raise CliError("--from-step and --from-failed cannot be used together", fix="give only one of them")
    if log_level:
        level_number(log_level)
    order = ReplayOrder(
        run_id=run,
        from_step=from_step,
        from_failed_step=from_failed,
        params=parse_params(param),
        op_kwargs=parse_op_kwargs(op_kwarg),
        steps=parse_switches(step),
        log_level=log_level.upper(),
        request_id=key,
        overlap=overlap or "",
        current_definition=today,
        validate_only=validate,
    )

    def start(kernel: KernelClient) -> Awaitable[Replayed]:
        return kernel.replay(order)

    if validate:
        return _validate(invocation, start, f"a replay of {printable(run)}")
    return _run(invocation, start, "", wait=wait, follow=follow)


def _run(invocation: Invocation, start: Start, job_id: str, *, wait: bool, follow: bool) -> ExitCode:
    """Start a run, stay with it as long as asked, and return the exit code of its state.

    :param job_id: empty if it is not known
    """
    if follow:
        return _follow(invocation, start)
    waits_for = ""

    async def ask(kernel: KernelClient) -> tuple[Started, RunView]:
        nonlocal waits_for
        async with telling_trouble(kernel, lambda trouble: tell(trouble_line(trouble))):
            started = await start(kernel)
            with _named(started.run_id):
                try:
                    found = await kernel.get_run(started.run_id)
                except PermissionDenied:
                    if wait:
                        raise
                    return started, _unread(started, job_id)
                if wait and not found.terminal:
                    waits_for = started.run_id
                    if not invocation.as_json:
                        console(stderr=True).print(pages.runs.started_line(found))
                    found = await kernel.wait(started.run_id)
                return started, found

    try:
        started, found = talk(invocation, ask, retry_seconds=300 if wait else 10)
    except KeyboardInterrupt:
        if waits_for:
            hint = f"the run continues: nomaflow show {waits_for}; to cancel it: nomaflow cancel {waits_for}"
            console(stderr=True).print(hint, soft_wrap=True)
        raise
    _warn(invocation, started)
    answer(invocation, found.to_json(), lambda: pages.runs.started_page(found))
    # Nobody waited: that the run failed in the meantime is not this command's outcome. That it never starts is.
    settled = wait or found.state in ("SKIPPED", "MISSED")
    return ExitCode.of_run(found.state) if settled else ExitCode.SUCCEEDED


@contextlib.contextmanager
def _named(run_id: str) -> Iterator[None]:
    """Name the run in an error that occurs once it has been started: a repeat of the command would start another."""
    try:
        yield
    except ClientError as error:
        failure = client_failure(error)
        failure.message = f"run {run_id} was started, but nothing more is known of it: {failure.message}"
        raise failure from None


def _unread(started: Started, job_id: str) -> RunView:
    """Return what the answer to a trigger says of a run: a caller with the grant trigger alone may not read it."""
    from nomaflow.client.values import RunView, Triggered, TriggerView

    state, reason, kind = "QUEUED", None, "replay"
    if isinstance(started, Triggered):
        state, reason, kind = started.state, started.reason, "cli"
    return RunView(run_id=started.run_id, job_id=job_id, state=state, reason=reason, trigger=TriggerView(kind=kind))


def _follow(invocation: Invocation, start: Start) -> ExitCode:
    from nomaflow_cli.live.following import follow_run
    from nomaflow_cli.live.screens import choose_screen

    screen = choose_screen(as_json=invocation.as_json)

    async def ask(kernel: KernelClient) -> ExitCode:
        async with telling_trouble(kernel, screen.trouble):
            started = await start(kernel)
            _warn(invocation, started)
            with _named(started.run_id):
                return await follow_run(kernel=kernel, run_id=started.run_id, screen=screen)

    return talk(invocation, ask, retry_seconds=300, on_connected=screen.connected)


def _warn(invocation: Invocation, started: Started) -> None:
    again = ("the key was used before; this is the run that it started",) if started.deduplicated else ()
    print_warnings((*started.warnings, *again), as_json=invocation.as_json)
