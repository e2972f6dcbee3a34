"""Lists: runs, jobs, hosts."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nomaflow.client.values import (
    CatalogueView,
    HostView,
    InstanceView,
    JobView,
    RefusedLoadView,
    ReloadView,
    RunView,
)
from nomaflow_cli.pages.cells import (
    FittingTable,
    grid,
    pause_text,
    problem_lines,
    reason_text,
    refused_text,
    run_state,
    since,
    state,
    took,
)
from nomaflow_cli.wording import age, amount, count, paragraph, printable

__all__ = ["hosts_page", "jobs_page", "no_such_jobs", "reload_page", "runs_table"]

_NAMES = 5


def runs_table(runs: Sequence[RunView]) -> RenderableType:
    """Return runs as a table."""
    return FittingTable(
        headers=("run", "job", "state", "started by", "took", "rows", "why"),
        rows=tuple(_run_row(run) for run in runs),
        spare={"rows": 90, "took": 90, "started by": 70, "why": 110},
        right=("took", "rows"),
        loose=("why",),
    )


def _run_row(run: RunView) -> tuple[RenderableType, ...]:
    count = f" ×{run.fold.count}" if run.fold and run.fold.count > 1 else ""
    return (
        Text(run.run_id, no_wrap=True),
        Text(printable(run.job_id)),
        run_state(run) + Text(count, style="dim"),
        since(run),
        took(run),
        amount(run.rows_affected),
        reason_text(run.reason, run.error),
    )


def jobs_page(catalogue: CatalogueView, refused: Mapping[str, RefusedLoadView]) -> RenderableType:
    """Return the jobs as a table, with their problems below it.

    :param refused: by host, the newest refused load: the jobs shown are those of the load before
    """
    if not catalogue.jobs and not catalogue.problems:
        return "no jobs yet: no host has sent any; nomaflow hosts lists the hosts"
    shape = FittingTable(
        headers=("job", "host", "schedule", "next", "last run", "now"),
        rows=tuple(_job_row(job) for job in catalogue.jobs),
        spare={"host": 90, "schedule": 70, "last run": 56},
        loose=("now",),
    )
    found = [problem for job in catalogue.jobs for problem in job.problems] + list(catalogue.problems)
    problems = dict.fromkeys(found)  # a file's problem is listed with each of its jobs
    stale = [_stale_jobs(host, load) for host, load in refused.items()]
    return Group(*stale, shape, *[Padding(problem_lines(problem), (0, 0, 1, 0)) for problem in problems])


def _stale_jobs(host: str, refused: RefusedLoadView) -> RenderableType:
    text = Text(f"✘ {printable(host)} {refused_text(refused)}", style="red")
    return Padding(text.append("\n  its last good jobs and code stay in use", style="dim"), (0, 0, 1, 0))


def no_such_jobs(whole: CatalogueView, *, host: str, tag: str) -> str:
    """Return why a filtered list is empty although there are jobs.

    :param whole: the list without the filters host and tag
    """
    of_host = [job for job in whole.jobs if host in ("", job.host)]
    if not of_host:
        return f"no job belongs to host {printable(host)!r}; {_near(host, {job.host for job in whole.jobs})}"
    of = f" of host {printable(host)!r}" if host else ""
    tags = {each for job in of_host for each in job.tags}
    return f"no job{of} has the tag {printable(tag)!r}; {_near(tag, tags)}"


def _near(asked: str, known: Collection[str]) -> str:
    names = sorted(difflib.get_close_matches(asked, known) or known)
    if not names:
        return "there are none"
    return f"there {'is' if len(names) == 1 else 'are'} {', '.join(printable(each) for each in names[:_NAMES])}"


def _job_row(job: JobView) -> tuple[RenderableType, ...]:
    return (
        Text(printable(job.job_id), style="" if job.valid and job.enabled else "dim"),
        Text(job.host),
        _schedule(job),
        Text(_next(job), no_wrap=True),
        _last_run(job),
        _now(job),
    )


def _schedule(job: JobView) -> Text:
    if not job.schedule:
        return Text("–", style="dim")
    zone = "" if job.timezone in ("", "UTC") else f" {job.timezone}"
    return Text.assemble(job.schedule, (zone, "dim"))


def _next(job: JobView) -> str:
    if not job.next_fires:
        return "–"
    fire = job.next_fires[0]
    return f"{age(fire.at)}" + (f" ({fire.preset})" if fire.preset else "")


def _last_run(job: JobView) -> Text:
    run = job.last_run
    if run is None:
        return Text("–", style="dim")
    since = age(run.finished_at or run.started_at or run.queued_at)
    return run_state(run) + Text(f"  {since}", style="dim")


def _now(job: JobView) -> Text:
    if job.removed:
        return Text("removed from its host's files", style="dim")
    if not job.valid:
        return Text("✘ disabled by a problem, see below", style="red")
    if job.held:
        return Text("✘ cannot run, see below", style="red")
    if job.kept:
        return Text.assemble(("✘ last good definition, see below", "red"), *_after_kept(job))
    if job.pause is not None:
        return Text(pause_text(job.pause), style="yellow")
    if not job.enabled:
        return Text("disabled", style="dim")
    return Text(printable(job.why_not_running), style="dim")


def _after_kept(job: JobView) -> tuple[Text, ...]:
    rest = _now(replace(job, kept=False))
    return (Text("; "), rest) if rest.plain else ()


def hosts_page(hosts: Sequence[HostView]) -> RenderableType:
    """Return each host with its instances, their loaded code, and their problems."""
    parts: list[RenderableType] = []
    for host in hosts:
        offers = f"{count(host.job_count, 'job')}, {count(host.callable_count, 'callable')}"
        waiting = f"  {count(host.queued, 'run')} waiting" if host.queued else ""
        parts.append(Text.assemble(state(host.state), "  ", (host.name, "bold"), f"  {offers}", (waiting, "yellow")))
        parts += [Padding(_instance(instance), (0, 0, 0, 4)) for instance in host.instances]
        if host.pause is not None:
            parts.append(Text(f"    {pause_text(host.pause)}", style="yellow"))
        parts += [Padding(problem_lines(problem), (0, 0, 0, 4)) for problem in host.problems]
    return Group(*parts)


def _instance(instance: InstanceView) -> Table:
    shape = grid()
    exclusive = sum(worker.kind == "exclusive" for worker in instance.workers)
    workers = f"{len(instance.workers) - exclusive} shared, {exclusive} exclusive"
    mechanism = f", limits by {instance.isolation_mechanism}" if instance.isolation_mechanism else ""
    loaded = f", loaded {age(instance.loaded_at)}" if instance.loaded_at else ""
    refused = instance.refused_load
    newer = ("  newer on disk: nomaflow reload", "yellow") if instance.code_newer and refused is None else ("", "")
    spilled = f", {amount(instance.spilled_bytes)} bytes of reports waiting" if instance.spilled_bytes else ""
    heard = f"heard {age(instance.last_heartbeat_at)}" if instance.last_heartbeat_at else "not heard yet"
    process = f"pid {instance.pid} on {printable(instance.machine)}, {instance.state.lower()}, {heard}"
    shape.add_row("instance", Text.assemble(process, (_why_idle(instance), "yellow")))
    shape.add_row("code", Text.assemble(f"generation {instance.generation} {_digest(instance)}{loaded}", newer))
    if refused is not None:
        shape.add_row("", Text(refused_text(refused), style="red"))
    shape.add_row("running", f"{instance.running} of {instance.max_async} async and {instance.max_sync} sync{spilled}")
    shape.add_row("workers", workers + mechanism)
    return shape


def _why_idle(instance: InstanceView) -> str:
    """Return why the instance takes no work although it is attached, empty if it does."""
    if not instance.generation:
        return "  takes no new work: no code is loaded" + ("" if instance.refused_load else "; see its log")
    return "  takes no new work: its spill file is full" if instance.saturated else ""


def _digest(instance: InstanceView) -> str:
    return instance.manifest_digest.rpartition(":")[2][:8]


def reload_page(outcomes: Sequence[ReloadView]) -> RenderableType:
    """Return the outcome of each instance."""
    if not outcomes:
        return "no instance is attached; nothing was reloaded"
    lines: list[RenderableType] = []
    for outcome in outcomes:
        if not outcome.incarnation:  # the kernel's own jobs file
            sign = ("✔ ", "green") if outcome.accepted else ("✘ ", "red")
            lines.append(Text.assemble(sign, printable(outcome.message)))
            lines += [problem_lines(problem) for problem in outcome.problems]
            continue
        who = printable(outcome.host) + (f", instance {outcome.incarnation[:8]}" if len(outcomes) > 1 else "")
        lines += _reloaded(who, outcome) if outcome.accepted else _refused(who, outcome)
    return Group(*lines)


def _reloaded(who: str, outcome: ReloadView) -> list[RenderableType]:
    offers = f"{count(outcome.jobs, 'job')}, {count(outcome.callables, 'callable')}"
    lines: list[RenderableType] = [
        Text.assemble(("✔ ", "green"), f"reloaded {who}: {offers} (generation {outcome.generation})")
    ]
    changes = (
        ("removed", outcome.removed_job_ids),
        ("added", outcome.added_job_ids),
        ("no longer scheduled", outcome.stopped_schedules),
    )
    for name, job_ids in changes:
        if job_ids:
            lines.append(Text(f"  {name}: {', '.join(map(printable, job_ids))}"))
    return lines + [Padding(problem_lines(problem), (0, 0, 0, 2)) for problem in outcome.problems]


def _refused(who: str, outcome: ReloadView) -> list[RenderableType]:
    in_use = f"the last good code stays in use (generation {outcome.generation})"
    serves = in_use if outcome.generation else "there is no code to run until a load succeeds"
    lines: list[RenderableType] = [Text.assemble(("✘ ", "red"), f"{who} refused the load: {serves}")]
    lines += [Padding(problem_lines(problem), (0, 0, 0, 2)) for problem in outcome.problems]
    told = outcome.problems and all(problem.code != "load_failed" for problem in outcome.problems)
    if outcome.message and not told:
        lines.append(Text(f"  {paragraph(outcome.message, indent=2)}"))
    if outcome.generation:
        force = f"to use it anyway: nomaflow reload {printable(outcome.host)} --force"
        kept = "a broken job then keeps its last good definition"
        lines.append(Padding(Text(f"{force}\n{kept}", style="dim"), (0, 0, 0, 2)))
    return lines
