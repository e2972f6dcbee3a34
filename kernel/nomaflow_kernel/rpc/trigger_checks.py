"""Checks of triggers in front of the engine: each waits for pending loads, and its host checks the values it gives."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1.letters import CheckedStep, ValueProblem
from nomaflow_api.v1.sealing import LetterError, open_problems, seal
from nomaflow_kernel.access.secret_params import SecretParamsUnreadable, secret_keys
from nomaflow_kernel.domain.errors import KernelError, ValuesRefused
from nomaflow_kernel.engine.commands import Draft, TriggerCommand
from nomaflow_kernel.engine.run_plan import PlannedStep
from nomaflow_kernel.hosts.errors import HostLoading
from nomaflow_kernel.rpc.attempt_messages import VALUES_BYTES
from nomaflow_kernel.rpc.parts import KernelParts
from nomaflow_kernel.rpc.pending_loads import PendingLoads, ask

_Given = tuple[PlannedStep, tuple[str, ...]]

Admitted = tuple[TriggerCommand, tuple[str, ...]]
"""A trigger for the engine, with its draft if it has one, and the warnings for its caller."""
_AT_THE_ATTEMPT = "each step checks its own values when it is reached"


class TriggerChecks:
    """Checks triggers in front of the engine. A check without an answer refuses nothing."""

    def __init__(self, parts: KernelParts) -> None:
        self._engine, self._sessions = parts.engine, parts.sessions
        self._loads = PendingLoads(parts)

    async def admit(self, commands: Sequence[TriggerCommand]) -> list[Admitted | KernelError]:
        """Return each trigger with its warnings, or the error that refuses it; pending loads are awaited once."""
        # Most triggers give no values, to hosts that neither watch nor load: these wait for nothing but the engine.
        if not any(map(self._concerns, commands)):
            return [(command, ()) for command in commands]
        jobs = list(dict.fromkeys(command.job_id for command in commands if not command.replay_of))
        settled = dict(zip(jobs, await asyncio.gather(*map(self._loads.settled, jobs)), strict=True))
        return await asyncio.gather(*(self._admitted(command, settled.get(command.job_id, ())) for command in commands))

    def concerns(self, *, gives_values: bool, replays: bool = False) -> bool:
        """Return whether a trigger needs a wait or a check before the engine sees it."""
        return gives_values or (self._sessions.restless and not replays)

    def _concerns(self, command: TriggerCommand) -> bool:
        given = command.request
        return self.concerns(gives_values=bool(given.params or given.op_kwargs), replays=bool(command.replay_of))

    async def _admitted(
        self, command: TriggerCommand, settled: tuple[str, ...] | HostLoading
    ) -> Admitted | KernelError:
        if isinstance(settled, HostLoading):
            return (command, ()) if await self._engine.is_repeat(command) else settled
        try:
            drafted = await self._engine.draft(command)
        except KernelError:
            return command, settled  # the engine refuses it itself, and knows repeats
        try:
            return drafted, (*settled, *await self._check(drafted))
        except ValuesRefused as error:
            return (drafted, settled) if await self._engine.is_repeat(command) else error

    async def validate(self, command: TriggerCommand) -> Admitted | KernelError:
        """Return a trigger that is only validated, with its draft and warnings, or the error that would refuse it."""
        settled = () if command.replay_of else await self._loads.settled(command.job_id)
        if isinstance(settled, HostLoading):
            return settled
        try:
            drafted = await self._engine.draft(command)
            checked = await self._check(drafted, says_absent=True)
            return drafted, (*settled, *self._engine.warnings_of(drafted), *checked)
        except KernelError as error:
            return error

    async def _check(self, command: TriggerCommand, *, says_absent: bool = False) -> tuple[str, ...]:
        """Have the job's host check the values that a drafted command gives; return warnings.

        :param says_absent: whether to warn if no instance is attached
        :raises ValuesRefused: if a step would refuse one
        """
        draft, given = command.draft, command.request
        steps = [] if draft is None else _given_steps(draft, given.params, given.op_kwargs)
        if draft is None or not steps:
            return ()
        try:
            checked = self._first(steps, draft.definition.secret_params)
        except SecretParamsUnreadable:
            return ()  # of a replay; its attempts say so
        loaded = [each for each in self._sessions.of_host(draft.host) if not each.loading]
        # One that was started for an attempt may leave at any moment.
        session = min(loaded, key=lambda each: bool(each.hello.for_attempt), default=None)
        if session is None:
            absent = (
                f"the values were not checked: no instance of host {draft.host!r} has code loaded; {_AT_THE_ATTEMPT}"
            )
            return (absent,) if says_absent else ()
        answer = await ask(session, gateway.CheckCommand(steps=seal(checked)))
        problems = None if answer is None or not answer.checked else _problems(answer.problems)
        if problems is None:
            return (f"the values were not checked: host {draft.host!r} did not answer in time; {_AT_THE_ATTEMPT}",)
        if problems:
            fields: dict[str, str] = {}
            for each in problems:
                fields.setdefault(_field(each, given.op_kwargs), each.message)
            raise ValuesRefused(fields)
        if len(checked) == len(steps):
            return ()
        some = f"the values of {len(checked)} of {len(steps)} steps were checked: together they are too large"
        return (f"{some}; {_AT_THE_ATTEMPT}",)

    def _first(self, steps: Sequence[_Given], secret_params: Sequence[str]) -> Sequence[CheckedStep]:
        """Return the first steps whose values are not too large together for one message; at least one.

        Every step gets all params, and gRPC would end the host's session for a message over its limit.
        """
        checked: list[CheckedStep] = []
        size = 0
        for step, given_keys in steps:
            text = step.kwargs_json
            values = self._engine.secrets.opened(text).encode("utf-8", "surrogatepass")
            size += len(values) + sum(map(len, given_keys))
            if checked and size > VALUES_BYTES:
                break
            checked.append(
                CheckedStep(
                    step=step.name,
                    callable=step.callable,
                    kwargs_json=values,
                    strict_keys=step.strict_keys,
                    given_keys=given_keys,
                    secret_keys=secret_keys(text, secret_params),
                )
            )
        return checked


def _given_steps(
    draft: Draft, params: Mapping[str, Any], op_kwargs: Mapping[str, Mapping[str, Any]]
) -> Sequence[_Given]:
    """Return the steps that will run in a host and get a value from the caller, each with the keys of those."""
    of_all = tuple(params)
    given = (
        (step, tuple(dict.fromkeys((*params, *op_kwargs[step.name]))) if op_kwargs.get(step.name) else of_all)
        for step in draft.plan.steps
        if step.runs and not step.calls_job
    )
    return [each for each in given if each[1]]


def _field(problem: ValueProblem, op_kwargs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the request field that a value came from."""
    if problem.key in op_kwargs.get(problem.step, ()):
        return f"step_values.{problem.step}.op_kwargs_json.{problem.key}"
    return f"params_json.{problem.key}"


def _problems(letter: bytes) -> Sequence[ValueProblem] | None:
    """Return the problems that a host found; None if they cannot be read."""
    try:
        return open_problems(letter) if letter else ()
    except LetterError:
        return None
