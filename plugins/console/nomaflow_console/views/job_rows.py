"""The rows of the table of jobs, and its filters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from nomaflow.client.values import FireView, JobPageView, JobView, RecentRunView, RunView
from nomaflow_console.views.needs_you import page_of_job
from nomaflow_console.views.sentences import Sentence, line, now_sentence, problem_place, run_sentence
from nomaflow_console.views.states import StateSign, run_sign, sign_of

PAGE = 50
"""Jobs on one page."""
_DISABLED = StateSign(sign="⚠", word="disabled", css="disabled")
_PAUSED = StateSign(sign="‖", word="paused", css="paused")
_OFF = StateSign(sign="○", word="switched off", css="off")
_NEVER = StateSign(sign="·", word="never run", css="off")
_CONDITIONS = {
    "failed": "FAILED", "running": "ACTIVE", "ok": "SUCCEEDED", "paused": "PAUSED", "disabled": "DISABLED",
    "never": "NEVER_RUN",
}  # fmt: skip
STATES = {
    "failed": "last run failed", "running": "running or waiting", "ok": "last run ok", "paused": "paused",
    "disabled": "disabled by a problem", "never": "never run",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class JobQuery:
    """The filters of the table of jobs.

    :param q: a part of the id or of the description
    :param state: a key of ``STATES``
    :param since: how far back *Needs you* and the tally look: ``night``, ``24h`` or ``7d``
    """

    q: str = ""
    tag: str = ""
    host: str = ""
    state: str = ""
    since: str = "night"
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> JobQuery:
        """Return the filters of an address; what is not understood counts as not given."""
        page = query.get("page", "")
        state, since = query.get("state", ""), query.get("since", "")
        return cls(
            q=query.get("q", "").strip(),
            tag=query.get("tag", ""),
            host=query.get("host", ""),
            state=state if state in STATES else "",
            since=since if since in ("24h", "7d") else "night",
            page=int(page) if page.isascii() and page.isdecimal() and 0 < len(page) < 6 else 1,
        )

    def address(self, **changes: Any) -> str:
        """Return the address with some filters changed, on the first page unless a page is named."""
        changed = replace(self, **{"page": 1, **changes})
        pairs = [
            (each.name, value) for each in fields(changed) if (value := getattr(changed, each.name)) != each.default
        ]
        return f"/?{urlencode(pairs)}" if pairs else "/"

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions of jobs that the state stands for, as the kernel calls them; empty for all."""
        return (_CONDITIONS[self.state],) if self.state else ()

    @property
    def wider(self) -> str:
        """The address with one filter less."""
        last = next((name for name in ("state", "tag", "host", "q") if getattr(self, name)), "")
        return self.address(**{last: ""}) if last else self.address()

    @property
    def filters(self) -> bool:
        """True if some jobs are left out."""
        return bool(self.q or self.tag or self.host or self.state)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRow:
    """One job in the table.

    :param now: what it does, or why it does nothing
    :param open_run: the run that it has now
    :param recent: its last runs, newest first
    """

    job: JobView
    href: str
    sign: StateSign
    last: RunView | None
    recent: tuple[RecentRunView, ...]
    next: FireView | None
    now: Sentence
    open_run: RunView | None
    open_count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class JobPage:
    """The jobs that a page shows.

    :param jobs: those of the page
    :param matching: the number of those that the filters keep
    :param tags: every tag with its number of jobs, as are ``hosts`` and ``states``
    """

    jobs: Sequence[JobView]
    matching: int
    all: int
    pages: int
    tags: Mapping[str, int]
    hosts: Mapping[str, int]
    states: Mapping[str, int]


def last_run(job: JobView, runs: Iterable[RunView]) -> RunView | None:
    """Return the last run of a job: as some runs, which say why they wait, have it, if it is among them."""
    last = job.last_run
    return next((run for run in runs if last is not None and run.run_id == last.run_id), last)


def job_sign(job: JobView, last: RunView | None) -> StateSign:
    """Return the sign at the head of a job's row: what keeps it from running, else how its last run is."""
    if not job.valid or (job.held and not job.removed):
        return _DISABLED
    if job.pause is not None:
        return _PAUSED
    if not job.enabled:
        return _OFF
    return run_sign(last) if last is not None else _NEVER


def fires_ahead(job: JobView) -> Sequence[FireView]:
    """Return the coming fires of a job that start a run: of a paused one, those after its pause."""
    if job.pause is None:
        return job.next_fires
    until = job.pause.until
    return [fire for fire in job.next_fires if until is not None and fire.at is not None and fire.at >= until]


def page_of_jobs(page: JobPageView, every: JobPageView) -> JobPage:
    """Return the jobs that a page shows, and what its filters may be set to.

    :param every: the counts of all jobs, which may be some seconds older
    """
    counts = every.counts
    states = {each.condition: each.jobs for each in counts if each.condition}
    return JobPage(
        jobs=page.jobs,
        matching=page.total,
        all=max(page.total, every.total),
        pages=max(1, -(-page.total // PAGE)),
        tags={each.tag: each.jobs for each in counts if each.tag},
        hosts={each.host: each.jobs for each in counts if each.host},
        states={state: states[condition] for state, condition in _CONDITIONS.items() if condition in states},
    )


def job_rows(jobs: Sequence[JobView], *, stats: Mapping[str, Any], open_runs: Sequence[RunView]) -> list[JobRow]:
    """Return the rows of jobs.

    :param stats: ``JobStatsView`` by job
    """
    by_job: dict[str, list[RunView]] = {}
    for run in open_runs:
        by_job.setdefault(run.job_id, []).append(run)
    return [_row(job, stats.get(job.job_id), by_job.get(job.job_id, [])) for job in jobs]


def _row(job: JobView, stats: Any, open_runs: Sequence[RunView]) -> JobRow:
    first = next((run for run in open_runs if run.state == "RUNNING"), open_runs[0] if open_runs else None)
    said = run_sentence(first) if first is not None else Sentence(text=now_sentence(job))
    broken = next((each for each in job.problems if each.severity == "error"), None)
    if first is None and broken is not None and (not job.valid or job.held):
        told = filter(None, (problem_place(broken, job.job_id), line(broken.message)))
        said = Sentence(text=": ".join(told), fix=line(broken.fix))
    last = last_run(job, open_runs)
    return JobRow(
        job=job,
        href=page_of_job(job),
        sign=job_sign(job, last),
        last=last,
        recent=tuple(stats.recent) if stats is not None else (),
        next=next(iter(fires_ahead(job)), None),
        now=said,
        open_run=first,
        open_count=len(open_runs),
    )


def tally(counts: Iterable[Any]) -> list[tuple[StateSign, str, int, int]]:
    """Return sign, state, number of runs and number of fires of each state that occurs, in the order of a tally."""
    by_state = {each.state: each for each in counts}
    order = ("SUCCEEDED", "FAILED", "CANCELED", "MISSED", "SKIPPED")
    return [
        (sign_of(state), state, by_state[state].runs, by_state[state].fires) for state in order if state in by_state
    ]
