"""Replay: the layers of a new run from the snapshot of a finished one, whole, changed, or from a given step."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

from msgspec.structs import replace

from nomaflow_api.near_names import near_name
from nomaflow_kernel.access.secret_params import carries_sealed
from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.domain.errors import BadRequest, JobUnavailable, KernelError
from nomaflow_kernel.engine.commands import TriggerCommand
from nomaflow_kernel.history.lookups import RunDetail
from nomaflow_kernel.history.records import AttemptRecord, RunRecord, RunRequest, author_of
from nomaflow_kernel.history.states import RUN_TERMINAL, AttemptState
from nomaflow_project.jobs.definitions import JobDefinition

_SEARCHED = 200
"""The most names among which a near one is looked for: a thousand triggers of one call may each misspell a step."""
_LISTED = 20
_NOBODY = "(nobody)"
"""A name for the author of secrets that no principal gave, such as those of a called run. No principal has the name."""


def check_bringer(run: RunRecord, job: Job | None) -> None:
    """Check that the host that has a run's job today is the one that the run's definition came from.

    Otherwise that host would run the code and the values of another, and get its secret params.

    :param job: today's job; None if nobody has its id: then only a run of a host's own job may wait for that host
    :raises JobUnavailable: if it is another one
    """
    bringer = run.request.brought_by or run.host
    if job is None:
        same = bringer == run.host
    elif job.loaded.host:
        same = bringer == job.loaded.host
    else:
        # From the kernel's own file. A run without a host is from that file too; another may be, and stays where it
        # ran.
        same = bringer == run.host and run.host in ("", job.host)
    if not same:
        raise JobUnavailable(
            run.job_id,
            f"run {run.run_id} is from a time when the job belonged to another host, whose code and values are not "
            "taken over; trigger the job as it is now",
        )


def replay_layers(definition: JobDefinition, detail: RunDetail, command: TriggerCommand) -> RunRequest:
    """Return the layers of a replay: those of the replayed run, with the command's values on top.

    :param definition: the run's own, or today's
    :raises KernelError: if the run has not finished
    :raises BadRequest: if the run does not have the step to start from, no step of it failed, a step before that is
      switched on, or values are changed and secrets that somebody else gave would be carried over
    """
    if detail.run.state not in RUN_TERMINAL:
        what = f"run {detail.run.run_id} is {detail.run.state}; only a finished run can be replayed"
        raise KernelError(f"{what}; wait for it, or cancel it", reason="RUN_NOT_TERMINAL")
    old, new = detail.run.request, command.request
    op_kwargs = {step: dict(values) for step, values in old.op_kwargs.items()}
    for step, values in new.op_kwargs.items():
        op_kwargs.setdefault(step, {}).update(values)
    layers = replace(
        old,
        params={**old.params, **new.params},
        params_of_files=tuple(key for key in old.params_of_files if key not in new.params),
        op_kwargs=op_kwargs,
        switches={**old.switches, **new.switches},
        log_level=new.log_level or old.log_level,
        reuse=_reuse(definition, detail, command),
        allow_overlap=new.allow_overlap,
        traceparent=new.traceparent,
    )
    return replace(layers, sealed_by=_sealed_by(layers, detail.run, command))


def _sealed_by(layers: RunRequest, run: RunRecord, command: TriggerCommand) -> str:
    """Return who gave the secret params that a replay repeats; empty for its author.

    :raises BadRequest: if somebody other than the giver or the owner changes other values, which could send the secrets
      anywhere
    """
    if not carries_sealed(layers):
        return ""
    giver = run.request.sealed_by or author_of(run.trigger.kind, run.trigger.by) or _NOBODY
    if not command.request.params and not any(command.request.op_kwargs.values()):
        return giver
    if command.author and command.author != giver:
        raise BadRequest(
            f"run {run.run_id} has secret params that somebody else gave, which are not carried over with "
            "changed values; give them anew too, or replay the run without changes",
            field="params_json" if command.request.params else "step_values",
        )
    return ""


def _reuse(definition: JobDefinition, detail: RunDetail, command: TriggerCommand) -> Mapping[str, Mapping[str, Any]]:
    names = [step.name for step in definition.steps]
    first = command.from_step
    last_tries = {each.step: each for each in sorted(detail.attempts, key=lambda attempt: attempt.attempt)}
    if command.from_failed_step:
        first = next((name for name in names if _did_not_succeed(last_tries.get(name))), "")
        if not first:
            raise BadRequest(f"every step of run {detail.run.run_id} succeeded; name a step", field="from_failed_step")
    if not first:
        return {}
    if first not in names:
        owner = f"job {detail.run.job_id!r}" if command.current_definition else f"run {detail.run.run_id}"
        raise BadRequest(unknown_name(owner, "step", first, names), field="from_step")
    outputs: dict[str, Mapping[str, Any]] = {}
    for name in names[: names.index(first)]:
        if command.request.switches.get(name):
            raise BadRequest(
                f"step {name!r} is switched on, and the replay starts later, at {first!r}; start it at {name!r}, or "
                f"leave {name!r} as it was",
                field="step_switches",
            )
        outputs[name] = _output(detail.run, last_tries.get(name))
    return outputs


def _output(run: RunRecord, attempt: AttemptRecord | None) -> Mapping[str, Any]:
    if attempt is None or attempt.state is not AttemptState.SUCCEEDED:
        return {"run_id": run.run_id, "no_output": True}
    if (taken_over := run.request.reuse.get(attempt.step)) is not None:
        return taken_over
    extras = None if attempt.extras_json is None else attempt.extras_json.decode()
    return {"run_id": run.run_id, "rows_affected": attempt.rows_affected, "extras_json": extras}


def _did_not_succeed(attempt: AttemptRecord | None) -> bool:
    if attempt is None:
        return True
    disabled = attempt.reason is not None and attempt.reason.code == "disabled"
    return attempt.state is not AttemptState.SUCCEEDED and not disabled


def unknown_name(owner: str, noun: str, name: str, known: Collection[str], *, otherwise: str = "") -> str:
    """Return the sentence that refuses an unknown name of a step, preset or secret param of a job or run.

    :param otherwise: what to do if no known name is meant
    """
    near = near_name(name, islice(known, _SEARCHED))
    more = ", …" if len(known) > _LISTED else ""
    listed = ", ".join(map(repr, islice(known, _LISTED))) + more
    hint = f"did you mean {near!r}?" if near else "; ".join(filter(None, (f"it has {listed or 'none'}", otherwise)))
    return f"{owner} has no {noun} {name[:64]!r}; {hint}"
