"""Lists: runs, jobs, hosts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nomaflow.cli.pages.cells import (
    FittingTable,
    grid,
    pause_text,
    problem_lines,
    reason_text,
    run_state,
    since,
    state,
    took,
)
from nomaflow.cli.wording import age, amount, count, paragraph, printable
from nomaflow.client.values import CatalogueView, HostView, InstanceView, JobView, ReloadView, RunView

__all__ = ["hosts_page", "jobs_page", "reload_page", "runs_table"]


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


def jobs_page(catalogue: CatalogueView) -> RenderableType:
    """Return the jobs as a table, with what is wrong below it."""
    if not catalogue.jobs and not catalogue.problems:
        return "no jobs yet: no host has brought any; nomaflow hosts shows who is there"
    shape = FittingTable(
        headers=("job", "host", "schedule", "next", "last run", "now"),
        rows=tuple(_job_row(job) for job in catalogue.jobs),
        spare={"host": 90, "schedule": 70, "last run": 56},
        loose=("now",),
    )
    found = [problem for job in catalogue.jobs for problem in job.problems] + list(catalogue.problems)
    problems = dict.fromkeys(found)  # one of a file is that of each of its jobs
    return Group(shape, *[Padding(problem_lines(problem), (0, 0, 1, 0)) for problem in problems])


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
        return Text(f"✘ cannot run: {printable(job.held)}", style="red")
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
    """Return each host with its instances, what they have loaded, and what is wrong."""
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
    newer = ("  newer on disk: nomaflow reload", "yellow") if instance.code_newer else ("", "")
    spilled = f", {amount(instance.spilled_bytes)} bytes of reports wait" if instance.spilled_bytes else ""
    heard = f"heard {age(instance.last_heartbeat_at)}" if instance.last_heartbeat_at else "not heard yet"
    process = f"pid {instance.pid} on {printable(instance.machine)}, {instance.state.lower()}, {heard}"
    shape.add_row("instance", Text.assemble(process, (_why_idle(instance), "yellow")))
    shape.add_row("code", Text.assemble(f"generation {instance.generation} {_digest(instance)}{loaded}", newer))
    shape.add_row("running", f"{instance.running} of {instance.max_async} async and {instance.max_sync} sync{spilled}")
    shape.add_row("workers", workers + mechanism)
    return shape


def _why_idle(instance: InstanceView) -> str:
    """Return why it takes no work although it is attached, empty where it does."""
    if not instance.generation:
        return "  takes nothing new: no code is loaded, its log says why"
    return "  takes nothing new: its spill file is at its cap" if instance.saturated else ""


def _digest(instance: InstanceView) -> str:
    return instance.manifest_digest.rpartition(":")[2][:8]


def reload_page(outcomes: Sequence[ReloadView]) -> RenderableType:
    """Return what each instance did."""
    if not outcomes:
        return "no instance is attached; nothing was reloaded"
    lines: list[RenderableType] = []
    for outcome in outcomes:
        sign = ("✔ ", "green") if outcome.accepted else ("✘ ", "red")
        if not outcome.incarnation:
            lines.append(Text.assemble(sign, printable(outcome.message)))
            lines += [problem_lines(problem) for problem in outcome.problems]
            continue
        who, generation = f"instance {outcome.incarnation[:8]}", f"generation {outcome.generation}"
        if outcome.accepted:
            lines.append(Text.assemble(sign, f"{who}: {printable(outcome.message) or f'{generation} serves'}"))
        else:
            text = f"{who} refused the new code and goes on with {generation}"
            why = f"\n  {paragraph(outcome.message, indent=2)}" if outcome.message else ""
            lines.append(Text.assemble(sign, text, why))
        lines += [problem_lines(problem) for problem in outcome.problems]
    return Group(*lines)
