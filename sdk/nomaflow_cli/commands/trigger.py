"""``nomaflow run`` and ``replay``."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nomaflow_cli.errors import RUN_EXIT_CODES, CliError, ExitCode
from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.kernel_access import talk
from nomaflow_cli.output import console, print_json, print_warnings
from nomaflow_cli.values import level_number, parse_op_kwargs, parse_params, parse_switches
from nomaflow_cli.wording import printable

if TYPE_CHECKING:
    from nomaflow.client import KernelClient, TriggerOrder
    from nomaflow.client.values import RunView, Triggered

__all__ = ["register"]

_Params = Annotated[
    list[str] | None, typer.Option("--param", "-p", help="Override a param of the job, as key=json; repeatable.")
]
_OpKwargs = Annotated[
    list[str] | None, typer.Option("--op-kwarg", help="Override an op_kwarg of a step, as step.key=json; repeatable.")
]
_Key = Annotated[
    str, typer.Option("--key", help="Idempotency key: repeating a request with the same key starts no second run.")
]
_Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait until the run ends, and exit with its exit code.")]
_Follow = Annotated[bool, typer.Option("--follow", "-f", help="Show steps and log lines live until the run ends.")]


class Overlap(enum.StrEnum):
    """An exception to the job's overlap policy."""

    ALLOW = "allow"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Started:
    """A started run, with the kernel's warnings."""

    run_id: str
    warnings: tuple[str, ...] = ()


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("run")(remote_command(run))
    app.command("replay")(remote_command(replay))


def run(
    *,
    invocation: Invocation,
    job: Annotated[str, typer.Argument(help="The job's id; nomaflow jobs lists them.")],
    param: _Params = None,
    op_kwarg: _OpKwargs = None,
    step: Annotated[
        list[str] | None, typer.Option("--step", help="Switch a step on or off for this run, as name=on or name=off.")
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="Preset of the job to use.")] = "",
    log_level: Annotated[
        str, typer.Option("--log-level", help="Log level of the run: DEBUG, INFO, WARNING, ERROR or CRITICAL.")
    ] = "",
    key: _Key = "",
    overlap: Annotated[
        Overlap | None, typer.Option("--overlap", help="allow: start the run in spite of the job's overlap policy.")
    ] = None,
    wait: _Wait = False,
    follow: _Follow = False,
    validate: Annotated[
        bool, typer.Option("--validate", help="Only check whether the run would be accepted; start nothing.")
    ] = False,
) -> None:
    """Start a run of a job."""
    from nomaflow.client import TriggerOrder

    if log_level:
        level_number(log_level)
    order = TriggerOrder(
        job_id=job,
        params=parse_params(param or []),
        op_kwargs=parse_op_kwargs(op_kwarg or []),
        steps=parse_switches(step or []),
        preset=preset,
        log_level=log_level.upper(),
        request_id=key,
        kind="cli",
        allow_overlap=overlap is Overlap.ALLOW,
        validate_only=validate,
    )
    if validate:
        _validate(invocation, order)

    async def start(kernel: KernelClient) -> _Started:
        return await _trigger(kernel, order)

    _run(invocation, start, wait=wait, follow=follow)


def _validate(invocation: Invocation, order: TriggerOrder) -> None:
    """Say what would become of a run; the exit code is 0 where it would be accepted, else 1."""
    from nomaflow.client import ClientError, InvalidRequest, NotFound, Refused

    async def ask(kernel: KernelClient) -> Triggered | ClientError:
        try:
            return await kernel.trigger(order)
        except (InvalidRequest, NotFound, Refused) as error:
            return error

    answer = talk(invocation, ask)
    refusal = answer if isinstance(answer, ClientError) else None
    warnings = () if isinstance(answer, ClientError) else answer.warnings
    fields = refusal.fields if isinstance(refusal, InvalidRequest) else {}
    if invocation.as_json:
        problems = [{"field": field, "message": text} for field, text in fields.items()]
        if refusal is not None and not problems:
            problems = [{"field": "", "message": refusal.message}]
        reason = refusal.reason if refusal is not None else ""
        shape = {"accepted": refusal is None, "reason": reason, "problems": problems, "warnings": list(warnings)}
        print_json(shape)
    else:
        print_warnings(warnings, as_json=False)
        lines = [] if refusal is None else list(fields.values()) or [refusal.message]
        for line in lines or [f"a run of job {order.job_id!r} would be accepted"]:
            print(f"{'✘' if refusal else '✔'} {printable(line)}")
    raise typer.Exit(ExitCode.SUCCEEDED if refusal is None else ExitCode.FAILED)


async def _trigger(kernel: KernelClient, order: TriggerOrder) -> _Started:
    answer: Triggered = await kernel.trigger(order)
    again = ("the key was used before; this is the run that it started",) if answer.deduplicated else ()
    return _Started(run_id=answer.run_id, warnings=(*answer.warnings, *again))


def replay(
    *,
    invocation: Invocation,
    run: Annotated[str, typer.Argument(help="The id of a finished run.")],
    from_step: Annotated[
        str, typer.Option("--from-step", help="Start at this step, and keep the outputs of the steps before it.")
    ] = "",
    from_failed: Annotated[bool, typer.Option("--from-failed", help="Start at the step that did not succeed.")] = False,
    param: _Params = None,
    op_kwarg: _OpKwargs = None,
    key: _Key = "",
    wait: _Wait = False,
    follow: _Follow = False,
) -> None:
    """Start a new run from the snapshot of a finished one."""
    if from_step and from_failed:
        raise CliError("--from-step and --from-failed cannot be used together", fix="give only one of them")
    params, op_kwargs = parse_params(param or []), parse_op_kwargs(op_kwarg or [])

    async def start(kernel: KernelClient) -> _Started:
        run_id = await kernel.replay(
            run,
            from_step=from_step,
            from_failed_step=from_failed,
            params=params,
            op_kwargs=op_kwargs,
            request_id=key,
        )
        return _Started(run_id=run_id)

    _run(invocation, start, wait=wait, follow=follow)


def _run(
    invocation: Invocation, start: Callable[[KernelClient], Awaitable[_Started]], *, wait: bool, follow: bool
) -> None:
    """Start a run, stay with it as long as asked, and end with the exit code of its state."""
    if follow:
        _follow(invocation, start)
        return

    waits_for: list[str] = []

    async def ask(kernel: KernelClient) -> tuple[_Started, RunView]:
        started = await start(kernel)
        found = await kernel.get_run(started.run_id)
        if wait and not found.terminal:
            waits_for.append(started.run_id)
            if not invocation.as_json:
                _print_waiting(found)
            found = await kernel.wait(started.run_id)
        return started, found

    try:
        started, found = talk(invocation, ask, retry_seconds=300 if wait else 10)
    except KeyboardInterrupt:
        for run_id in waits_for:
            hint = f"the run continues: nomaflow show {run_id}; to cancel it: nomaflow cancel {run_id}"
            console(stderr=True).print(hint, soft_wrap=True)
        raise
    print_warnings(started.warnings, as_json=invocation.as_json)
    if invocation.as_json:
        print_json(found.to_json())
    else:
        _print_started(found)
    # Nobody waited: that the run failed in the meantime is not this command's outcome. That it never starts is.
    settled = wait or found.state in ("SKIPPED", "MISSED")
    raise typer.Exit(RUN_EXIT_CODES.get(found.state, ExitCode.FAILED) if settled else 0)


def _follow(invocation: Invocation, start: Callable[[KernelClient], Awaitable[_Started]]) -> None:
    from nomaflow_cli.live import Connected, choose_screen, follow_run

    screen, connected = choose_screen(as_json=invocation.as_json), Connected()

    async def ask(kernel: KernelClient) -> ExitCode:
        started = await start(kernel)
        print_warnings(started.warnings, as_json=invocation.as_json)
        return await follow_run(kernel=kernel, run_id=started.run_id, screen=screen, connected=connected)

    raise typer.Exit(talk(invocation, ask, retry_seconds=300, on_connected=connected))


def _print_waiting(run: RunView) -> None:
    from nomaflow_cli.pages.run_page import started_line

    console(stderr=True).print(started_line(run))


def _print_started(run: RunView) -> None:
    from nomaflow_cli.pages.run_page import started_line, summary

    console().print(summary(run) if run.terminal else started_line(run))
    if run.terminal and run.log_lines:
        console().print(f"log: nomaflow logs {run.run_id}", style="dim")
