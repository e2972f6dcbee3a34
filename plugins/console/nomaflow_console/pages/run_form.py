"""The form that runs a job, and what it shares with the one that replays a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from nomaflow.client import ClientError, InvalidRequest, KernelUnreachable, TriggerOrder
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


class ValueForm(ABC):
    """A form whose values start a run of a job.

    :param host: the one that runs it
    :cvar takes: what its address gives beside values, log level and overlap, each with what it may be; none for any
        text
    """

    takes: ClassVar[Mapping[str, Collection[str]]]

    def __init__(self, request: Request, *, job_id: str, host: str) -> None:
        self.request, self.kernel = request, kernel_of(request)
        self._job_id, self._host = job_id, host

    @abstractmethod
    def options(self, sent: Mapping[str, str]) -> Options:
        """Return the options of a form, or of an address."""

    @abstractmethod
    def layers(self, options: Options) -> Layers:
        """Return what the values of the run come from."""

    @abstractmethod
    def start(self, options: Options, asked: Mapping[str, Any]) -> Awaitable[Triggered | Replayed]:
        """Have the kernel start the run, or only check it.

        :param asked: what the orders of new runs and of replays have in common
        """

    @abstractmethod
    def page(self, state: FormState, *, status: int = 200) -> Response:
        """Return the page of the form."""

    async def show(self) -> Response:
        """Return the form; the address may fill it: ``?preset=full&p.tenant=12&s.score.batch=3&on.summary=off``."""
        given = self.request.query_params
        options = self.options(given)
        layers, signatures = await self._sources(options)
        known = {**self.takes, "log_level": (), "overlap": ("allow",)}
        reading = from_address(build_form(layers, signatures, Wanted()), given, options=known)
        form = build_form(layers, signatures, reading.base)
        state = FormState(form=form, reading=reading, options=options, request_id=new_request_id())
        return self.page(await self.checked(state, blames_empty=False))

    async def send(self) -> Response:
        """Start the run, or only check what the form asks for; show the form again where something is wrong."""
        sent = self.request.state.form
        options = self.options(sent)
        layers, signatures = await self._sources(options)
        # Twice: what the JSON adds has a field of its own from then on.
        reading = read_form(build_form(layers, signatures, base_of(sent)), sent)
        form = build_form(layers, signatures, reading.base)
        request_id = sent.get("request_id") or new_request_id()
        state = FormState(
            form=form, reading=reading, options=options, request_id=request_id, warnings=seen_warnings(sent)
        )  # fmt: skip
        checks = sent.get("do") == "check"
        if checks or not reading:
            return self.page(await self.checked(state), status=200 if checks else 400)
        return await self._started(state)

    async def checked(self, state: FormState, *, blames_empty: bool = True) -> FormState:
        """Have the kernel check the form."""
        return await checked(state, lambda: self._start(state, validate_only=True), blames_empty=blames_empty)

    async def _sources(self, options: Options) -> tuple[Layers, Mapping[str, CallableView]]:
        layers = self.layers(options)
        return layers, await signatures_of(self.kernel, self._host, layers.definition)

    def _start(self, state: FormState, *, validate_only: bool = False) -> Awaitable[Triggered | Replayed]:
        wanted, options = state.reading.wanted, state.options
        asked = {
            "params": wanted.params, "op_kwargs": wanted.op_kwargs, "steps": wanted.steps,
            "log_level": options.log_level, "overlap": "allow" if options.allow_overlap else "",
            "request_id": state.request_id, "validate_only": validate_only,
        }  # fmt: skip
        return self.start(options, asked)

    async def _started(self, state: FormState) -> Response:
        """Return the way to a run that is started; where there are warnings that nobody has seen, these first.

        The page of a run that the same form had started before says so.
        """
        try:
            started = await self._start(state)
        except KernelUnreachable as error:
            return self.page(with_refusal(state, error), status=503)
        except ClientError as error:
            again = replace(state, request_id=new_request_id())
            return self.page(with_refusal(again, error), status=400 if isinstance(error, InvalidRequest) else 409)
        target = f"/runs/{started.run_id}{'?same=1' if started.deduplicated else ''}"
        unseen = [each for each in started.warnings if each not in state.warnings]
        if not unseen:
            return RedirectResponse(target, status_code=303)
        return page(
            self.request, "started.html", title=f"{self._job_id} started", job_id=self._job_id, started=started,
            warnings=unseen, target=target,
        )  # fmt: skip


def form_routes(path: str, form: Callable[[Request], Awaitable[ValueForm]]) -> Sequence[Route]:
    """Return the routes of a form: to see it, and to send it."""

    async def show(request: Request) -> Response:
        return await (await form(request)).show()

    async def send(request: Request) -> Response:
        return await (await form(request)).send()

    return Route(path, show), Route(path, send, methods=["POST"])


def preset_of(definition: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a preset of a job's definition; an empty one if there is none of that name."""
    named: list[Mapping[str, Any]] = [each for each in definition.get("presets", ()) if each.get("name") == name]
    return next((each for each in named if each.get("schedule")), named[0] if named else {})


class _JobForm(ValueForm):
    """The form that runs a job."""

    takes: ClassVar = {"preset": ()}

    def __init__(self, request: Request, job: JobView) -> None:
        super().__init__(request, job_id=job.job_id, host=job.host)
        self._job = job

    def options(self, sent: Mapping[str, str]) -> Options:
        return Options.of(sent)

    def layers(self, options: Options) -> Layers:
        definition = self._job.definition or {}
        return Layers(definition=definition, preset=preset_of(definition, options.preset))

    def start(self, options: Options, asked: Mapping[str, Any]) -> Awaitable[Triggered]:
        return self.kernel.trigger(TriggerOrder(job_id=self._job.job_id, preset=options.preset, kind="manual", **asked))

    def page(self, state: FormState, *, status: int = 200) -> Response:
        job = self._job
        command = run_command(job.job_id, state.reading.wanted, state.options)
        return page(
            self.request, "run_form.html", status=status, title=f"▷ Run {job.job_id}", job=job, run=None,
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


async def _form(request: Request) -> _JobForm:
    return _JobForm(request, await kernel_of(request).get_job(request.path_params["job_id"]))


ROUTES = form_routes("/jobs/{job_id}/run", _form)
