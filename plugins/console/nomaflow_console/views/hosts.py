"""Signs and words for hosts and their instances, and the sentences that say what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from markupsafe import Markup
from msgspec import convert

from nomaflow.client.values import EventView, HostView, InstanceView, JobView, ReloadView
from nomaflow_api.byte_sizes import byte_size
from nomaflow_console.views.sentences import counted, line, named
from nomaflow_console.views.states import StateSign

_SIGNS: Mapping[str, StateSign] = {
    "ATTACHED": StateSign(sign="✓", word="attached", css="ok"),
    "LOADING": StateSign(sign="◔", word="loading", css="waits"),
    "UNREACHABLE": StateSign(sign="◔", word="silent", css="waits"),
    "DRAINING": StateSign(sign="◑", word="draining", css="stopping"),
    "AWAITED": StateSign(sign="◔", word="awaited", css="waits"),
    "DETACHED": StateSign(sign="○", word="not attached", css="off"),
}
_AT_ZERO = StateSign(sign="○", word="at zero", css="ok")
_BROKEN = StateSign(sign="✕", word="problems", css="failed")
_OUTDATED = StateSign(sign="▲", word="outdated", css="warning")
_STATE_UNKNOWN = StateSign(sign="·", word="", css="unknown")


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Something about a host that a person should know.

    :param kind: empty for an error, else ``warning`` or ``note``
    :param fix: the way out; empty if none is needed
    """

    text: str
    kind: str = "warning"
    fix: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """A load of a host's code.

    :param outcome: what came of it
    :param at: when it was; None for one that was asked for just now
    :param by: who asked for it; empty for nobody
    """

    outcome: ReloadView
    at: datetime | None = None
    by: str = ""

    @property
    def changes(self) -> list[tuple[str, str]]:
        """The changes that it made to the jobs: a word for each kind, and the names with how many more there are."""
        told = self.outcome
        kinds = (
            ("new", told.added_job_ids, told.added_count),
            ("gone", told.removed_job_ids, told.removed_count),
            ("fire no more", told.stopped_schedules, told.stopped_count),
        )
        return [(word, named(names, number)) for word, names, number in kinds if names]

    @property
    def summary(self) -> str:
        """The message; empty if one of the problems says it too."""
        message = self.outcome.message
        return "" if any((problem.message or "\n") in message for problem in self.outcome.problems) else message


def short_id(incarnation: str) -> str:
    """Return the first characters of an instance's id, which tell instances apart."""
    return incarnation.removeprefix("inc_")[:6]


def instance_sign(instance: InstanceView) -> StateSign:
    """Return how an instance looks."""
    return _SIGNS.get(instance.state, _STATE_UNKNOWN)


def host_sign(host: HostView, jobs: Iterable[JobView] = ()) -> StateSign:
    """Return how a host looks: its state, or what is wrong with its code.

    :param jobs: those of its jobs that are in trouble
    """
    if host.state != "ATTACHED":
        return _AT_ZERO if is_at_zero(host) else _SIGNS.get(host.state, _STATE_UNKNOWN)
    broken = any(problem.severity == "error" for problem in host.problems) or any(map(_is_broken, jobs))
    if broken or host.refused_load is not None:
        return _BROKEN
    return _OUTDATED if any(instance.code_newer for instance in host.instances) else _SIGNS[host.state]


def is_at_zero(host: HostView) -> bool:
    """Return whether a host has no instance, and a launcher starts one when a step waits."""
    return host.launched and not host.instances


def _is_broken(job: JobView) -> bool:
    return not job.removed and (not job.valid or bool(job.held))


def host_notes(host: HostView, jobs: Sequence[JobView], ids: int) -> Iterator[Note]:
    """Yield what a person should know of a host as a whole.

    :param jobs: those of its jobs that are in trouble
    :param ids: number of job ids that belong to it
    """
    if is_at_zero(host):
        waits = f"{counted(host.queued, 'run waits', 'runs wait')} for one; " if host.queued else ""
        fix = "if none comes, see the launcher's log" if host.queued else ""
        yield Note(text=f"no instance now; {waits}its launcher starts one when a step waits", kind="note", fix=fix)
    elif host.queued and host.state != "ATTACHED":
        waits = counted(host.queued, "run waits", "runs wait")
        silent = host.state in ("AWAITED", "UNREACHABLE")
        fix = "bring its machine or network back" if silent else "start the host"
        yield Note(text=f"no instance is {'heard' if silent else 'attached'}, and {waits}", fix=fix)
    elif host.state == "DETACHED":
        yield Note(text=f"not attached; owns {counted(ids, 'job id')}", kind="note", fix="start it, or forget it")
    for job in filter(_is_broken, jobs):
        first = next((each for each in job.problems if each.severity == "error"), None)
        place = f"{first.place}: " if first is not None and first.place else ""
        why = line(first.message if first is not None else job.held or "")
        yield Note(text=f"job {job.job_id} cannot run: {place}{why}", kind="", fix=line(first.fix) if first else "")


def instance_notes(instance: InstanceView, told: Sequence[str] = ()) -> Iterator[Note]:
    """Yield what a person should know of an instance.

    :param told: messages of the refused loads that the page shows already
    """
    if (refused := instance.refused_load) is not None:
        text = "refused the load above" if refused.message in told else f"refused a load: {line(refused.summary)}"
        text = f"the kernel {text}" if refused.by_kernel else text
        yield Note(text=text, kind="", fix="mend the file, then reload")
    elif instance.code_newer:
        yield Note(text=f"code on disk is newer than generation {instance.generation}", fix="reload")
    if instance.saturated:
        full = f"takes no new work: its spill file is full ({byte_size(instance.spilled_bytes)})"
        yield Note(text=full, fix="it goes on when the kernel has taken its reports")
    elif instance.spilled_bytes:
        yield Note(text=f"{byte_size(instance.spilled_bytes)} of reports wait in its spill file", kind="note")


def exclusive_running(instance: InstanceView) -> int:
    """Return how many of an instance's attempts have a worker of their own."""
    return sum(worker.running for worker in instance.workers if worker.kind == "exclusive")


def load_of_event(event: EventView) -> Load:
    """Return the load that a ``host.reloaded`` or ``host.reload_refused`` event tells."""
    told = {"incarnation": "", **event.data, "accepted": event.kind == "host.reloaded"}
    return Load(outcome=convert(told, ReloadView), at=event.at, by=event.by)


def brought_by(jobs: Iterable[JobView], host: str) -> list[JobView]:
    """Return the jobs that a host brings: the owner of their ids, unless a job has the id of another host's job."""
    return [job for job in jobs if (job.host if _is_foreign(job) else job.owner) == host and not job.removed]


def _is_foreign(job: JobView) -> bool:
    return any(problem.code == "id_of_another_host" for problem in job.problems)


def share(start: datetime | None, end: datetime | None, now: datetime) -> float:
    """Return how much of a time span is over, from 0 to 1."""
    if start is None or end is None or end <= start:
        return 0.0
    return min(max((now - start) / (end - start), 0.0), 1.0)


def attempt_link(key: str) -> Markup:
    """Return a link to the attempt that a key names: ``run/step/attempt``."""
    run_id, _, rest = key.partition("/")
    step, _, attempt = rest.rpartition("/")
    target = f"/runs/{quote(run_id)}?step={quote(step)}&try={quote(attempt)}"
    return Markup('<a href="{}">{}, try {}</a> <span class="quiet">…{}</span>').format(
        target, step, attempt, run_id[-4:]
    )
