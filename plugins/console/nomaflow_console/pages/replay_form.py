"""The form that replays a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomaflow.client import KernelClient, NotFound, ReplayOrder
from nomaflow.client.values import JobView, RunView, StepView
from nomaflow_console.forms.commands import replay_command
from nomaflow_console.forms.fields import Layers
from nomaflow_console.forms.merging import Wanted
from nomaflow_console.forms.sending import FormState, Options, checked
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.kernel.signatures import signatures_of
from nomaflow_console.pages.run_form import new_state, preset_of, read_state, started_page
from nomaflow_console.rendering import page
from nomaflow_telemetry.process_log import LOG_LEVELS


class _Replayed:
    """The run that is done again, with all that its form is made of."""

    def __init__(self, run: RunView, job: JobView | None) -> None:
        self.run = run
        self.job = job
        self.broken = next((each for each in run.steps if each.last.state in ("FAILED", "LOST", "CANCELED")), None)
        # A canceled run that never reached its failed step has none, and is done again whole.
        self.default_start = "failed" if run.state != "SUCCEEDED" and self.broken is not None else ""

    def options(self, sent: Mapping[str, str]) -> Options:
        """Return the options of a form, or of an address, which may name the step that did not succeed."""
        found = replace(Options.of(sent, start=self.default_start), preset="")
        is_broken = self.broken is not None and found.start == self.broken.name
        return replace(found, start="failed") if is_broken else found

    def definition(self, options: Options) -> Mapping[str, Any]:
        """Return the definition that the replay runs: that of then, or today's."""
        now = self.job.definition if self.job is not None else None
        then = self.run.definition
        return (now if options.current_definition else then) or now or then or {}

    def layers(self, options: Options) -> Layers:
        """Return what the replayed run's values came from."""
        definition = self.definition(options)
        return Layers(definition=definition, preset=preset_of(definition, self.run.preset), given=_given(self.run))


def _given(run: RunView) -> Wanted:
    request = run.request
    if request is None:
        return Wanted(params=run.params)
    return Wanted(
        params=request.params,
        op_kwargs={each.step: each.op_kwargs for each in request.step_values},
        steps={each.step: each.enabled for each in request.step_switches},
    )


async def _replayed(request: Request) -> tuple[KernelClient, _Replayed]:
    kernel = kernel_of(request)
    run = await kernel.get_run(request.path_params["run_id"])
    try:
        job = await kernel.get_job(run.job_id)
    except NotFound:
        job = None
    return kernel, _Replayed(run, job)


async def show(request: Request) -> Response:
    """Return the form, filled with the values of the run; the address may change them, as for a new run."""
    kernel, replayed = await _replayed(request)
    options = replayed.options(request.query_params)
    signatures = await signatures_of(kernel, replayed.run.host, replayed.definition(options))
    takes = {"from": (), "definition": ("now", "then")}
    state = new_state(request, replayed.layers(options), signatures, options, takes)
    return _page(request, replayed, await _checked(kernel, replayed, state, blames_empty=False))


async def send(request: Request) -> Response:
    """Start the replay, or only check it; show the form again where something is wrong."""
    kernel, replayed = await _replayed(request)
    sent = request.state.form
    options = replayed.options(sent)
    signatures = await signatures_of(kernel, replayed.run.host, replayed.definition(options))
    state = read_state(request, replayed.layers(options), signatures, options)
    checks = sent.get("do") == "check"
    if checks or not state.reading:
        return _page(request, replayed, await _checked(kernel, replayed, state), status=200 if checks else 400)
    starting = kernel.replay(_order(replayed, state))
    return await started_page(request, replayed.run.job_id, state, starting, partial(_page, request, replayed))


def _order(replayed: _Replayed, state: FormState, *, validate_only: bool = False) -> ReplayOrder:
    wanted, options = state.reading.wanted, state.options
    return ReplayOrder(
        run_id=replayed.run.run_id,
        from_step="" if options.start == "failed" else options.start,
        from_failed_step=options.start == "failed",
        params=wanted.params,
        op_kwargs=wanted.op_kwargs,
        steps=wanted.steps,
        log_level=options.log_level,
        request_id=state.request_id,
        overlap="allow" if options.allow_overlap else "",
        current_definition=options.current_definition,
        validate_only=validate_only,
    )


async def _checked(
    kernel: KernelClient, replayed: _Replayed, state: FormState, *, blames_empty: bool = True
) -> FormState:
    if _cannot(replayed.run):
        return state
    order = _order(replayed, state, validate_only=True)
    return await checked(state, lambda: kernel.replay(order), blames_empty=blames_empty)


def _starts(replayed: _Replayed) -> Sequence[tuple[str, str, StepView | None]]:
    """Return where the replay may begin: value, title and step."""
    found: list[tuple[str, str, StepView | None]] = [("", "the whole run", None)]
    if replayed.broken is not None:
        found.insert(0, ("failed", f"from {replayed.broken.name}, which did not succeed", replayed.broken))
    found += [(step.name, f"from {step.name}", step) for step in replayed.run.steps[1:] if step is not replayed.broken]
    return found


def _page(request: Request, replayed: _Replayed, state: FormState, *, status: int = 200) -> Response:
    run, options = replayed.run, state.options
    command = replay_command(run.run_id, state.reading.wanted, options)
    return page(
        request, "run_form.html", status=status, title=f"↻ Replay {run.job_id}", job=replayed.job,
        run=run, state=state, command_line=command, action=f"/runs/{run.run_id}/replay", levels=LOG_LEVELS,
        back=f"/runs/{run.run_id}", starts=_starts(replayed), cannot=_cannot(run), kept=_kept(replayed, options),
        outdated=_outdated(replayed),
    )  # fmt: skip


def _cannot(run: RunView) -> str:
    if run.state in ("MISSED", "SKIPPED"):
        return "this run never started, so there is nothing to do again; run the job instead"
    return "" if run.terminal else "this run goes on; cancel it first, or wait for its end"


def _kept(replayed: _Replayed, options: Options) -> frozenset[str]:
    """Return the steps whose outputs the replay keeps."""
    names = [step.name for step in replayed.run.steps]
    start = replayed.broken.name if options.start == "failed" and replayed.broken else options.start
    return frozenset(names[: names.index(start)]) if start in names else frozenset()


def _outdated(replayed: _Replayed) -> bool:
    """Return whether the job is defined otherwise now."""
    then = replayed.run.definition_digest
    return bool(then and replayed.job is not None and replayed.job.digest and then != replayed.job.digest)


ROUTES = [
    Route("/runs/{run_id}/replay", show),
    Route("/runs/{run_id}/replay", send, methods=["POST"]),
]
