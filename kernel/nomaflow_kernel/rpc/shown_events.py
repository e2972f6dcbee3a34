"""The events that one caller may read, in the form that it may see."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from nomaflow_api.v1 import event_pb2
from nomaflow_kernel.access.grants import EVERYTHING, Target, Verb
from nomaflow_kernel.access.principals import Principal
from nomaflow_kernel.history.records import EventRecord
from nomaflow_kernel.rpc.guard import Guard
from nomaflow_kernel.rpc.hidden_values import event_without_values
from nomaflow_kernel.rpc.messages import event_message

_REMEMBERED = 10_000
_KEPT = 1000
_KEPT_BYTES = 4096
"""The largest message that is kept: most have a few hundred bytes."""


class EventMessages:
    """The messages of the newest events: each is made once, however many watchers get it. Nobody may change one."""

    def __init__(self) -> None:
        self._made: dict[int, event_pb2.Event] = {}

    def of(self, event: EventRecord) -> event_pb2.Event:
        """Return the message of a stored event."""
        made = self._made.get(event.seq)
        if made is None:
            made = event_message(event)
            if len(self._made) >= _KEPT:
                self._made.clear()
            if made.ByteSize() <= _KEPT_BYTES:
                self._made[event.seq] = made
        return made


class ShownEvents:
    """One watcher's filter. Whoever may see a run sees its events, even if the job has since moved to another host.

    :param message: returns the message of an event that the watcher sees whole
    """

    def __init__(
        self,
        *,
        guard: Guard,
        principal: Principal,
        message: Callable[[EventRecord], event_pb2.Event] = event_message,
    ) -> None:
        self._message = message
        self._guard = guard
        self._principal = principal
        self._sees_all = principal.may_all(Verb.READ) and principal.may_all(Verb.LOGS)
        self._asks_for_hosts = any(grant.scope.kind in ("host", "tag") for grant in principal.grants)
        self._runs: dict[str, Target] = {}

    async def shown(self, events: Sequence[EventRecord]) -> list[event_pb2.Event]:
        """Return the messages of the events that the caller may read."""
        if self._sees_all:
            return list(map(self._message, events))
        await self._look_up(events)
        found = []
        for event in events:
            target = self._target(event)
            if self._principal.may(Verb.READ, target):
                # Notices of hosts and of the kernel hold no values of runs, but a refused load quotes what it met.
                whole = self._principal.may(Verb.LOGS, target)
                found.append(self._message(event) if whole else event_without_values(event_message(event)))
        return found

    async def _look_up(self, events: Sequence[EventRecord]) -> None:
        """Look up the hosts of runs, if a grant depends on them: a job's tags are for the runs of its present host."""
        if not self._asks_for_hosts:
            return
        unknown = {event.run_id for event in events if event.run_id} - self._runs.keys()
        if not unknown:
            return
        if len(self._runs) > _REMEMBERED:
            self._runs.clear()
            unknown = {event.run_id for event in events if event.run_id}
        self._runs.update(await self._guard.targets_of_runs(sorted(unknown)))

    def _target(self, event: EventRecord) -> Target:
        if event.run_id:
            # A run that retention has removed meanwhile no longer has a host, and so no tags.
            return self._runs.get(event.run_id) or Target(job_id=event.job_id)
        if event.job_id:
            target = self._guard.target_of_job(event.job_id)
            if event.kind.startswith("pause.") or event.host == target.host:
                return target
            # The kernel's own file belongs to no host; the present host's tags do not count for what another host said
            # of the job.
            return replace(target, host=event.host, tags=() if event.host else target.tags)
        return Target(host=event.host) if event.host else EVERYTHING
