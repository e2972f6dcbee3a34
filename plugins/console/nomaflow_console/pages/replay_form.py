"""The form that replays a run."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response

from nomaflow.client import NotFound, ReplayOrder
from nomaflow.client.values import JobView, Replayed, RunView, StepView
from nomaflow_console.forms.commands import replay_command
from nomaflow_console.forms.fields import Layers
from nomaflow_console.forms.merging import Wanted
from nomaflow_console.forms.sending import FormState, Options
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.pages.run_form import ValueForm, form_routes, preset_of
from nomaflow_console.rendering import page
from nomaflow_telemetry.process_log import LOG_LEVELS


class _ReplayForm(ValueForm):
    """The form that replays a run, filled with its values; the address may change them, as for a new run."""

    takes: ClassVar = {"from": (), "definition": ("now", "then")}

    def __init__(self, request: Request, run: RunView, job: JobView | None) -> None:
        super().__init__(request, job_id=run.job_id, host=run.host)
        self._run = run
        self._job = job
        self._broken = next((each for each in run.steps if each.last.state in ("FAILED", "LOST", "CANCELED")), None)
        # A canceled run that never reached its failed step has none, and is done again whole.
        self._default_start = "failed" if run.state != "SUCCEEDED" and self._broken is not None else ""

    def options(self, sent: Mapping[str, str]) -> Options:
        """Return the options, which may name the step that did not succeed."""
        found = replace(Options.of(sent, start=self._default_start), preset="")
        is_broken = self._broken is not None and found.start == self._broken.name
        return replace(found, start="failed") if is_broken else found

    def layers(self, options: Options) -> Layers:
        """Return what the replayed run's values came from, for the definition of then, or today's."""
        now = self._job.definition if self._job is not None else None
        then = self._run.definition
        definition = (now if options.current_definition else then) or now or then or {}
        return Layers(definition=definition, preset=preset_of(definition, self._run.preset), given=_given(self._run))

    def start(self, options: Options, asked: Mapping[str, Any]) -> Awaitable[Replayed]:
        failed = options.start == "failed"
        return self.kernel.replay(
            ReplayOrder(
                run_id=self._run.run_id,
                from_step="" if failed else options.start,
                from_failed_step=failed,
                current_definition=options.current_definition,
                **asked,
            )
        )

    async def checked(self, state: FormState, *, blames_empty: bool = True) -> FormState:
        """Have the kernel check the form of a run that can be replayed."""
        return state if _cannot(self._run) else await super().checked(state, blames_empty=blames_empty)

    def page(self, state: FormState, *, status: int = 200) -> Response:
        run, options = self._run, state.options
        command = replay_command(run.run_id, state.reading.wanted, options)
        return page(
            self.request, "run_form.html", status=status, title=f"↻ Replay {run.job_id}", job=self._job,
            run=run, state=state, command_line=command, action=f"/runs/{run.run_id}/replay", levels=LOG_LEVELS,
            back=f"/runs/{run.run_id}", starts=self._starts(), cannot=_cannot(run), kept=self._kept(options),
            outdated=self._outdated(),
        )  # fmt: skip

    def _starts(self) -> Sequence[tuple[str, str, StepView | None]]:
        """Return where the replay may begin: value, title and step."""
        found: list[tuple[str, str, StepView | None]] = [("", "the whole run", None)]
        if self._broken is not None:
            found.insert(0, ("failed", f"from {self._broken.name}, which did not succeed", self._broken))
        found += [(step.name, f"from {step.name}", step) for step in self._run.steps[1:] if step is not self._broken]
        return found

    def _kept(self, options: Options) -> frozenset[str]:
        """Return the steps whose outputs the replay keeps."""
        names = [step.name for step in self._run.steps]
        start = self._broken.name if options.start == "failed" and self._broken else options.start
        return frozenset(names[: names.index(start)]) if start in names else frozenset()

    def _outdated(self) -> bool:
        """Return whether the job is defined otherwise now."""
        then = self._run.definition_digest
        return bool(then and self._job is not None and self._job.digest and then != self._job.digest)


def _given(run: RunView) -> Wanted:
    request = run.request
    if request is None:
        return Wanted(params=run.params)
    return Wanted(
        params=request.params,
        op_kwargs={each.step: each.op_kwargs for each in request.step_values},
        steps={each.step: each.enabled for each in request.step_switches},
    )


def _cannot(run: RunView) -> str:
    if run.state in ("MISSED", "SKIPPED"):
        return "this run never started, so there is nothing to do again; run the job instead"
    return "" if run.terminal else "this run goes on; cancel it first, or wait for its end"


async def _form(request: Request) -> _ReplayForm:
    kernel = kernel_of(request)
    run = await kernel.get_run(request.path_params["run_id"])
    try:
        job = await kernel.get_job(run.job_id)
    except NotFound:
        job = None
    return _ReplayForm(request, run, job)


ROUTES = form_routes("/runs/{run_id}/replay", _form)
