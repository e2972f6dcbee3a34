"""The form that runs a job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from nomaflow.client import ClientError, InvalidRequest, KernelClient, KernelUnreachable, TriggerOrder
from nomaflow.client.requests import new_request_id
from nomaflow.client.values import CallableView, JobView, Replayed, Triggered
from nomaflow_console.forms.commands import run_command
from nomaflow_console.forms.fields import Layers, build_form
from nomaflow_console.forms.merging import Wanted
from nomaflow_console.forms.reading import base_of, from_address, read_form
from nomaflow_console.forms.sending import FormState, Options, checked, seen_warnings, with_refusal
from nomaflow_console.kernel.calls import kernel_of
from nomaflow_console.kernel.signatures import signatures_of
from nomaflow_console.rendering import page
from nomaflow_console.views.needs_you import job_address
from nomaflow_telemetry.process_log import LOG_LEVELS

Signatures: TypeAlias = Mapping[str, CallableView]


async def _job(request: Request) -> tuple[KernelClient, JobView, dict[str, Any]]:
    kernel = kernel_of(request)
    job = await kernel.get_job(request.path_params["job_id"])
    return kernel, job, dict(job.definition or {})


async def show(request: Request) -> Response:
    """Return the form; the address may fill it: ``?preset=full&p.tenant=12&s.score.batch=3&on.summary=off``."""
    kernel, job, definition = await _job(request)
    signatures = await signatures_of(kernel, job.host, definition)
    options = Options.of(request.query_params)
    state = new_state(request, _layers(definition, options), signatures, options, {"preset": ()})
    return _page(request, job, await _checked(kernel, job, state, blames_empty=False))


async def send(request: Request) -> Response:
    """Start the run, or only check what the form asks for; show the form again where something is wrong."""
    kernel, job, definition = await _job(request)
    signatures = await signatures_of(kernel, job.host, definition)
    options = Options.of(request.state.form)
    state = read_state(request, _layers(definition, options), signatures, options)
    checks = request.state.form.get("do") == "check"
    if checks or not state.reading:
        return _page(request, job, await _checked(kernel, job, state), status=200 if checks else 400)
    starting = kernel.trigger(_order(job, state))
    return await started_page(request, job.job_id, state, starting, partial(_page, request, job))


async def started_page(
    request: Request,
    job_id: str,
    state: FormState,
    starting: Awaitable[Triggered | Replayed],
    shown: Callable[..., Response],
) -> Response:
    """Return the way to a run that is started; where there are warnings that nobody has seen, these first.

    The page of a run that the same form had started before says so.

    :param shown: returns the page of a form, which is shown again with what the kernel says against it
    """
    try:
        started = await starting
    except KernelUnreachable as error:
        return shown(with_refusal(state, error), status=503)
    except ClientError as error:
        again = replace(state, request_id=new_request_id())
        return shown(with_refusal(again, error), status=400 if isinstance(error, InvalidRequest) else 409)
    target = f"/runs/{started.run_id}{'?same=1' if started.deduplicated else ''}"
    seen = seen_warnings(request.state.form)
    unseen = [each for each in started.warnings if each not in seen]
    if not unseen:
        return RedirectResponse(target, status_code=303)
    return page(
        request, "started.html", title=f"{job_id} started", job_id=job_id, started=started, warnings=unseen,
        target=target,
    )  # fmt: skip


def preset_of(definition: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a preset of a job's definition; an empty one if there is none of that name."""
    named: list[Mapping[str, Any]] = [each for each in definition.get("presets", ()) if each.get("name") == name]
    return next((each for each in named if each.get("schedule")), named[0] if named else {})


def _layers(definition: Mapping[str, Any], options: Options) -> Layers:
    return Layers(definition=definition, preset=preset_of(definition, options.preset))


def new_state(
    request: Request, layers: Layers, signatures: Signatures, options: Options, takes: Mapping[str, Collection[str]]
) -> FormState:
    """Return the state of a form that the address fills.

    :param takes: what it takes beside values, log level and overlap, each with what it may be; none for any text
    """
    begun = build_form(layers, signatures, Wanted())
    known = {**takes, "log_level": (), "overlap": ("allow",)}
    reading = from_address(begun, request.query_params, options=known)
    form = build_form(layers, signatures, reading.base)
    return FormState(form=form, reading=reading, options=options, request_id=new_request_id())


def read_state(request: Request, layers: Layers, signatures: Signatures, options: Options) -> FormState:
    """Return the state of a form that was sent."""
    sent = request.state.form
    # Twice: what the JSON adds has a field of its own from then on.
    reading = read_form(build_form(layers, signatures, base_of(sent)), sent)
    form = build_form(layers, signatures, reading.base)
    request_id = sent.get("request_id") or new_request_id()
    return FormState(
        form=form, reading=reading, options=options, request_id=request_id, warnings=seen_warnings(sent)
    )  # fmt: skip


def _order(job: JobView, state: FormState, *, validate_only: bool = False) -> TriggerOrder:
    wanted, options = state.reading.wanted, state.options
    return TriggerOrder(
        job_id=job.job_id,
        params=wanted.params,
        op_kwargs=wanted.op_kwargs,
        steps=wanted.steps,
        preset=options.preset,
        log_level=options.log_level,
        request_id=state.request_id,
        kind="manual",
        overlap="allow" if options.allow_overlap else "",
        validate_only=validate_only,
    )


async def _checked(kernel: KernelClient, job: JobView, state: FormState, *, blames_empty: bool = True) -> FormState:
    order = _order(job, state, validate_only=True)
    return await checked(state, lambda: kernel.trigger(order), blames_empty=blames_empty)


def _page(request: Request, job: JobView, state: FormState, *, status: int = 200) -> Response:
    command = run_command(job.job_id, state.reading.wanted, state.options)
    return page(
        request, "run_form.html", status=status, title=f"▷ Run {job.job_id}", job=job, run=None,
        state=state, command_line=command, action=f"{job_address(job.job_id)}/run", levels=LOG_LEVELS,
        back=job_address(job.job_id), starts=(), cannot=_cannot(job), kept=frozenset(), outdated=False,
    )  # fmt: skip


def _cannot(job: JobView) -> str:
    """Return why the job cannot run at all; empty if it can."""
    if job.removed:
        return "its host no longer brings this job"
    if not job.valid:
        return "the job is disabled by a problem in its file; its page shows the problem and the way out"
    return f"the job cannot run: {job.held}" if job.held else ""


ROUTES = [
    Route("/jobs/{job_id}/run", show),
    Route("/jobs/{job_id}/run", send, methods=["POST"]),
]
