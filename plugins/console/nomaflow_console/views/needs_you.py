"""Things that need a person: each in a sentence, with the way out and what can be done about it here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from nomaflow.client.values import HostView, JobView, ProblemView, RunView
from nomaflow_api.time_spans import rough_span
from nomaflow_console.views.durations import between, took
from nomaflow_console.views.run_filters import MOST, RunQuery
from nomaflow_console.views.sentences import (
    counted,
    line,
    named,
    pause_sentence,
    problem_place,
    reason_sentence,
    run_sentence,
)
from nomaflow_console.views.situation import Act, Need, Situation
from nomaflow_console.views.states import run_sign
from nomaflow_project.jobs.text_forms import is_job_id

LONG_WAIT = timedelta(minutes=5)
_LEAST_WAIT = timedelta(minutes=1)
"""A wait of less is never too long, however short it usually is."""
_OLD_PAUSE = timedelta(days=1)
_COMES_BACK = timedelta(seconds=20)
"""Seconds in which a host is back after a break of its connection or a restart of the kernel."""
_ENOUGH = 5
"""Runs that a percentile needs."""
_ALIKE = 5
"""Jobs of one host that failed for one reason, from which on they are one line."""


def usual_of(stats: Any) -> tuple[float | None, float | None]:
    """Return the median and the 95th percentile of a job's time; the latter only of enough runs."""
    if stats is None:
        return None, None
    enough = sum(run.state == "SUCCEEDED" for run in stats.recent) >= _ENOUGH
    return stats.median_seconds, stats.p95_seconds if enough else None


def needs_you(situation: Situation) -> list[Need]:
    """Return what needs a person, the most urgent first."""
    return [
        *_failures(situation),
        *_stuck(situation),
        *_hosts(situation),
        *_waits(situation),
        *_overdue(situation),
        *_missed(situation),
        *_broken(situation),
        *_pauses(situation),
    ]


def job_address(job_id: str) -> str:
    """Return the address of a job."""
    return f"/jobs/{quote(job_id, safe='')}"


def page_of_job(job: JobView) -> str:
    """Return the address that tells of a job: without a good id it has no page, and its host tells its problem."""
    if is_job_id(job.job_id):
        return job_address(job.job_id)
    return _host_address(job.host) if job.host else "/"


def _link(label: str, target: str, icon: str) -> Act:
    return Act(kind="link", label=label, target=target, icon=icon)


def _run_act(job_id: str) -> Act:
    target = f"{job_address(job_id)}/run"
    return Act(kind="link", label="Run…", target=target, icon="play", verb="trigger", job_id=job_id)


def _cancel_act(run: RunView) -> Act:
    return Act(
        kind="cancel", label="Cancel…", target=run.run_id, icon="x", verb="cancel", job_id=run.job_id, host=run.host
    )


def _replay_act(run: RunView) -> Act:
    target = f"/runs/{run.run_id}/replay"
    return Act(
        kind="link", label="Replay…", target=target, icon="rotate-ccw", verb="trigger", job_id=run.job_id, host=run.host
    )


def _grouped(runs: Iterable[RunView]) -> dict[str, list[RunView]]:
    found: dict[str, list[RunView]] = {}
    for run in runs:
        found.setdefault(run.job_id, []).append(run)
    return found


def _succeeded_after(run: RunView, situation: Situation) -> bool:
    """Return whether the job has succeeded since a run."""
    job = situation.jobs.get(run.job_id)
    later = [*situation.stats[run.job_id].recent] if run.job_id in situation.stats else []
    if job is not None and job.last_run is not None:
        later.append(job.last_run)
    start = run.queued_at
    return any(
        each.state == "SUCCEEDED" and start is not None and each.queued_at is not None and each.queued_at > start
        for each in later
    )


def _failures(situation: Situation) -> Iterator[Need]:
    """Yield the jobs that failed: those of one host with the same error are one, if they are many."""
    by_job = _grouped(run for run in situation.unhappy if run.state == "FAILED").values()
    failed = [runs for runs in by_job if not _succeeded_after(runs[0], situation)]
    alike: dict[tuple[str, str, str], list[RunView]] = {}
    for newest, *_ in failed:
        alike.setdefault(_cause(newest), []).append(newest)
    for runs in failed:
        same = alike[_cause(runs[0])]
        if len(same) < _ALIKE:
            yield _failure(runs, situation)
        elif runs[0] is same[0]:
            yield _failed_alike(same)


def _cause(run: RunView) -> tuple[str, str, str]:
    return run.host, run_sign(run).word, reason_sentence(run).text


def _failure(runs: Sequence[RunView], situation: Situation) -> Need:
    newest, job_id = runs[0], runs[0].job_id
    look, said = run_sign(newest), run_sentence(newest)
    more = f" (and {_least(situation, job_id)}{counted(len(runs) - 1, 'time')} before)" if len(runs) > 1 else ""
    again = any(each.job_id == job_id for each in situation.open)
    return Need(
        key=f"failed.{newest.run_id}", css=look.css, sign=look.sign, subject=job_id, href=f"/runs/{newest.run_id}",
        text=f"{look.word}{more}: {said.text}" + ("; it runs again now" if again else ""), fix=said.fix,
        at=newest.finished_at, timezone=_zone(situation, job_id),
        seconds=between(newest.started_at, newest.finished_at) if newest.finished_at else None,
        acts=(_link("Log", f"/runs/{newest.run_id}#log", "terminal"), _replay_act(newest)),
    )  # fmt: skip


def _failed_alike(runs: Sequence[RunView]) -> Need:
    """Return the failure of many jobs: the list of these runs offers to replay them all."""
    newest, look, said = runs[0], run_sign(runs[0]), reason_sentence(runs[0])
    names = named([line(run.job_id) for run in runs[:_ALIKE]], len(runs))
    address = RunQuery(runs=tuple(run.run_id for run in runs[:MOST]), since="ever").address()
    return Need(
        key=f"failed.{newest.run_id}", css=look.css, sign=look.sign, subject=counted(len(runs), "job"), href=address,
        text=f"{look.word}: {said.text} ({names})", fix=said.fix, at=newest.finished_at,
        jobs=tuple(run.job_id for run in runs), host=newest.host,
        acts=(_link("Log", f"/runs/{newest.run_id}#log", "terminal"), _link("Show", address, "search")),
    )  # fmt: skip


def _least(situation: Situation, job_id: str) -> str:
    return "at least " if job_id in situation.more_of else ""


def _zone(situation: Situation, job_id: str) -> str:
    job = situation.jobs.get(job_id)
    return job.timezone if job is not None else ""


def _stuck(situation: Situation) -> Iterator[Need]:
    """Yield the RUNNING runs whose host is silent, or is away while a step of theirs waits for it."""
    away = {each.name for each in situation.hosts if each.absent_since and not _may_come(each, situation.now)}
    for run in situation.open:
        code = run.reason.code if run.state == "RUNNING" and run.reason is not None else ""
        if code == "host_silent" or (code == "waiting_for_host" and run.host in away):
            said, silent = run_sentence(run), code == "host_silent"
            yield Need(
                key=f"stuck.{run.run_id}", css="stopping" if run.cancel else "waits", sign="?" if silent else "◔",
                subject=run.job_id, href=f"/runs/{run.run_id}", fix=said.fix, at=run.started_at, counts=True,
                text=said.text if silent else f"{line(run.current_step)} waits: {said.text}",
                acts=(_link("Host", _host_address(run.host), "server"),),
            )  # fmt: skip


def _host_address(name: str) -> str:
    return f"/hosts/{quote(name, safe='')}"


def _hosts(situation: Situation) -> Iterator[Need]:
    for host in situation.hosts:
        text, fix, at, reloads = _host_trouble(host, situation.now)
        if not text:
            continue
        look = _link("Host", _host_address(host.name), "server")
        reload = Act(kind="reload", label="Reload", target=host.name, icon="refresh-cw", verb="operate")
        yield Need(
            key=f"host.{host.name}", css="warning", sign="▲", subject=f"host {host.name}",
            href=_host_address(host.name), text=text, fix=fix, at=at, acts=(reload, look) if reloads else (look,),
        )  # fmt: skip


def _may_come(host: HostView, now: datetime) -> bool:
    """Return whether an instance of an absent host may be on its way.

    A launcher starts one when a step waits; or the host, or the kernel, was there again just now.
    """
    return host.launched or (host.absent_since is not None and now - host.absent_since < _COMES_BACK)


def _host_trouble(host: HostView, now: datetime) -> tuple[str, str, datetime | None, bool]:
    """Return what is wrong with a host, the way out, since when, and whether a reload may help."""
    seen = max((each.last_heartbeat_at for each in host.instances if each.last_heartbeat_at), default=None)
    if host.state == "UNREACHABLE":
        return "is silent: whether its steps still run is not known", "bring its machine or network back", seen, False
    if host.state == "DETACHED" and _may_come(host, now):
        return "", "", None, False
    if host.state == "DETACHED":
        work = f"; {counted(host.queued, 'run waits', 'runs wait')} for it" if host.queued else ""
        return (
            f"is not attached{work}",
            f"start it: nomaflow host DIR, or forget it: nomaflow hosts forget {host.name}",
            host.absent_since,
            False,
        )
    if host.state == "DRAINING":
        return "is stopping: it finishes what it has and takes nothing new", "", None, False
    if host.state == "LOADING":
        return "is loading its code for the first time", "", None, False
    refused = host.refused_load
    if refused is not None:
        by_kernel = refused.by_kernel
        return (
            f"{'brought what the kernel refused' if by_kernel else 'refused its newest code'}: {line(refused.summary)}",
            f"correct it and reload; {'its jobs stay as they were' if by_kernel else 'the code before goes on'}",
            refused.at,
            True,
        )
    if host.problems:
        return _problem(host.problems), line(host.problems[0].fix), host.introduced_at, True
    newer = next((each for each in host.instances if each.code_newer), None)
    if newer is not None:
        return f"code on disk is newer than generation {newer.generation}", "reload it", newer.loaded_at, True
    return "", "", None, False


def _problem(problems: Sequence[ProblemView], job_id: str = "") -> str:
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    place = problem_place(first, job_id)
    return f"{place}: {line(first.message)}{more}" if place else f"{line(first.message)}{more}"


def _waits(situation: Situation) -> Iterator[Need]:
    """Yield the runs that wait too long: those of one job that wait for the same are one, however many they are."""
    found: dict[tuple[str, str], list[RunView]] = {}
    for run in situation.open:
        if run.state == "QUEUED" and run.queued_at is not None and _waits_too_long(run, situation):
            found.setdefault((run.job_id, run.reason.code if run.reason is not None else ""), []).append(run)
    for runs in found.values():
        yield _wait(runs, situation)


def _waits_too_long(run: RunView, situation: Situation) -> bool:
    waited = _waited(run, situation)
    stats = situation.stats.get(run.job_id)
    usual = stats.median_wait_seconds if stats is not None else None
    too_long = usual is not None and waited > max(timedelta(seconds=2 * usual), _LEAST_WAIT)
    return waited >= LONG_WAIT or too_long


def _waited(run: RunView, situation: Situation) -> timedelta:
    return situation.now - (run.queued_at or situation.now)


def _wait(runs: Sequence[RunView], situation: Situation) -> Need:
    """Return the wait of runs of one job, with the cause that keeps the one that waits longest."""
    run = min(runs, key=lambda each: each.queued_at or situation.now)
    said, waited = run_sentence(run), rough_span(_waited(run, situation).total_seconds())
    look = [_link("Host", _host_address(run.host), "server")] if run.host else []
    only = Need(
        key=f"waits.{run.run_id}", css="waits", sign="◔", subject=run.job_id, href=f"/runs/{run.run_id}",
        text=f"waits {waited}: {said.text}", fix=said.fix, at=run.queued_at,
        timezone=_zone(situation, run.job_id),
        acts=(*look, _cancel_act(run)),
    )  # fmt: skip
    if len(runs) == 1:
        return only
    number = f"{_least(situation, run.job_id)}{counted(len(runs), 'run')}"
    address = f"/runs?state=QUEUED&job={quote(run.job_id)}&since=ever"
    acts = (*look, _link("Show", address, "search"))
    return replace(only, href=address, text=f"{number} wait, one for {waited}: {said.text}", acts=acts)


def _overdue(situation: Situation) -> Iterator[Need]:
    for run in situation.open:
        if run.state != "RUNNING" or run.cancel is not None:
            continue
        median, p95 = usual_of(situation.stats.get(run.job_id))
        seconds = between(run.started_at, None, now=situation.now)
        if median is None or p95 is None or seconds is None or seconds <= max(p95, median + 10):
            continue
        yield Need(
            key=f"long.{run.run_id}", css="running", sign="▶", subject=run.job_id, href=f"/runs/{run.run_id}",
            text=f"longer than 19 of 20 runs of it, usually {took(median)}; now in {line(run.current_step) or '–'}",
            at=run.started_at, counts=True, timezone=_zone(situation, run.job_id),
            acts=(_link("Log", f"/runs/{run.run_id}#log", "terminal"), _cancel_act(run)),
        )  # fmt: skip


def _missed(situation: Situation) -> Iterator[Need]:
    missed = [run for run in situation.unhappy if run.state == "MISSED" and not _by_pause(run)]
    for job_id, runs in _grouped(missed).items():
        fires = sum(run.fold.count if run.fold is not None else 1 for run in runs)
        why = runs[0].reason.message if runs[0].reason is not None else ""
        yield Need(
            key=f"missed.{runs[0].run_id}", css="missed", sign="◌", subject=job_id, href=f"/runs/{runs[0].run_id}",
            text=f"{_least(situation, job_id)}{counted(fires, 'fire')} did not run: {line(why) or 'not known why'}",
            fix=line(getattr(runs[0].reason, "fix", "")), at=_last_fire(runs[0]), timezone=_zone(situation, job_id),
            acts=(_link("Show", f"/runs?state=MISSED&job={quote(job_id)}&since=7d", "search"), _run_act(job_id)),
        )  # fmt: skip


def _by_pause(run: RunView) -> bool:
    return run.reason is not None and run.reason.code == "paused"


def _last_fire(run: RunView) -> datetime | None:
    return run.fold.last if run.fold is not None else run.trigger.at or run.queued_at


def _broken(situation: Situation) -> Iterator[Need]:
    for problem in situation.problems:
        if problem.severity == "error":
            yield Need(
                key=f"file.{problem.place}.{problem.path}", css="disabled", sign="⚠",
                subject=line(problem.file) or "jobs", href="/kernel", text=_problem([problem]), fix=line(problem.fix),
            )  # fmt: skip
    for job in situation.jobs.values():
        errors = [each for each in job.problems if each.severity == "error"]
        if job.removed or not (not job.valid or job.kept or job.held):
            continue
        state = "goes on with its last good definition" if job.kept and not job.held else "disabled"
        yield Need(
            key=f"job.{job.job_id}", css="disabled", sign="⚠", subject=job.job_id, href=page_of_job(job),
            text=f"{state}: {_problem(errors, job.job_id) if errors else line(job.held or job.why_not_running)}",
            fix=line(errors[0].fix) if errors else "",
            acts=(_link("Show fix", f"{page_of_job(job)}#problems", "search"),),
        )  # fmt: skip
    if situation.more_troubled:
        yield Need(
            key="jobs.more", css="disabled", sign="⚠", subject=counted(situation.more_troubled, "more job"),
            href="/?state=disabled", text="also disabled, or on with their last good definition",
        )  # fmt: skip


def _pauses(situation: Situation) -> Iterator[Need]:
    jobs = [job.pause for job in situation.jobs.values() if job.pause is not None]
    hosts = [host.pause for host in situation.hosts if host.pause is not None]
    for pause in {(each.job_id, each.host): each for each in (*situation.pauses, *jobs, *hosts)}.values():
        if pause.since is None or situation.now - pause.since < _OLD_PAUSE:
            continue
        href = job_address(pause.job_id) if pause.job_id else _host_address(pause.host) if pause.host else "/pause"
        yield Need(
            key=f"pause.{pause.job_id}.{pause.host}", css="paused", sign="‖",
            subject=pause.job_id or (f"host {pause.host}" if pause.host else "everything"), href=href,
            text=f"{pause_sentence(pause)}; for {rough_span((situation.now - pause.since).total_seconds())} now",
            at=pause.since, acts=(_link("Show", href, "search"),),
        )  # fmt: skip
