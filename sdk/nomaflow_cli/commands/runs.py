"""``nomaflow runs``, ``show`` and ``cancel``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from nomaflow_api.log_levels import levels_from
from nomaflow_cli import pages
from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.invocation import Invocation, remote_command
from nomaflow_cli.kernel_access import first, similar_caller, talk, why_none
from nomaflow_cli.options import argument, flag, option, repeated
from nomaflow_cli.output import answer
from nomaflow_cli.parsers import level_number, parse_moment
from nomaflow_telemetry.visible_text import printable

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow.client.figure_reading import Grouping
    from nomaflow.client.run_filters import RunFilters
    from nomaflow.client.values import RunCountView, RunView

_GROUPS = ("state", "job", "host", "trigger", "tag")
_COUNTED = ("job_id", "host", "tag", "since", "until")
"""Filters that counts take too."""
_RUN = argument("The run's id.")


@remote_command("runs")
def runs(
    *,
    invocation: Invocation,
    job: str = argument("Show only runs of this job.", default=""),
    state: list[str] = repeated("Show only runs in this state; repeatable."),
    host: str = option("Show only runs of this host's jobs."),
    tag: str = option("Show only runs of jobs with this tag."),
    trigger: list[str] = repeated("Show only runs started so: cron, manual, api, cli, call_job, replay; repeatable."),
    by: str = option("Show only runs that this user or service started, or others for it."),
    reason: list[str] = repeated("Show only runs with this reason code; repeatable."),
    without: list[str] = repeated("Leave out the runs of this job; repeatable.", "--not"),
    level: str = option("Show only runs with a log line of this level or above."),
    replays_of: str = option("Show only replays of this run."),
    parent: str = option("Show only runs that a call_job step of this run started."),
    since: str = option("Show only runs queued since: a span such as 1h, or an ISO 8601 time."),
    until: str = option("Show only runs queued before: a span such as 1h, or an ISO 8601 time."),
    oldest_first: bool = flag("List the oldest runs first."),
    count: str = option("Count instead: by state, job, host, trigger or tag; without --since open runs only."),
    limit: int = option("Maximum number of runs.", "-n", default=20, min=1, max=10_000),
) -> None:
    """List runs, newest first, or count them."""
    filters: RunFilters = {
        "job_id": job,
        "states": state,
        "host": host,
        "tag": tag,
        "trigger_kinds": trigger,
        "triggered_by": by,
        "reason_codes": reason,
        "exclude_job_ids": without,
        "log_levels": levels_from(level_number(level)) if level else 0,
        "replay_of": replays_of,
        "parent_run_id": parent,
        "since": parse_moment(since, option="--since"),
        "until": parse_moment(until, option="--until"),
        "oldest_first": oldest_first,
    }
    if count:
        _count(invocation, count, filters)
    else:
        _list(invocation, filters, limit=limit)


def _list(invocation: Invocation, filters: RunFilters, *, limit: int) -> None:
    job = filters["job_id"]

    async def ask(kernel: KernelClient) -> tuple[list[RunView], str]:
        for job_id in filters["exclude_job_ids"]:
            if not await first(1, kernel.list_runs(job_id=job_id, page_size=1)):
                await kernel.check_names(job_id=job_id)
        found = await first(limit, kernel.list_runs(page_size=min(limit, 500), **filters))
        if found:
            return found, ""
        run_ids = filters["replay_of"], filters["parent_run_id"]
        await kernel.check_names(job_id=job, run_ids=run_ids, host=filters["host"], tag=filters["tag"])
        if any(value for name, value in filters.items() if name != "job_id"):
            return found, f"no runs match{await similar_caller(kernel, filters['triggered_by'])}"
        return found, await why_none(
            kernel, "runs", f"no runs yet; start one with: nomaflow run {job or 'JOB'} --follow"
        )

    found, nothing = talk(invocation, ask)
    shape = {"runs": [run.to_json() for run in found]}
    answer(invocation, shape, lambda: pages.runs.runs_table(found) if found else nothing)


def _count(invocation: Invocation, group_by: str, filters: RunFilters) -> None:
    if any(value for name, value in filters.items() if name not in _COUNTED):
        raise CliError(
            "--count cannot be used with these filters", fix="use it with JOB, --host, --tag, --since and --until only"
        )
    if group_by not in _GROUPS:
        raise CliError(f"--count {group_by!r} is not known", fix=f"use one of {', '.join(_GROUPS)}")
    grouping = cast("Grouping", group_by)

    async def ask(kernel: KernelClient) -> list[RunCountView]:
        job_id, host, tag = filters["job_id"], filters["host"], filters["tag"]
        found = await kernel.summarize_runs(
            since=filters["since"], until=filters["until"], group_by=grouping, job_id=job_id, host=host, tag=tag
        )
        if not found:
            await kernel.check_names(job_id=job_id, host=host, tag=tag)
        return found

    found = talk(invocation, ask)
    shape = {"counts": [each.to_json() for each in found]}
    nothing = "no runs match" if filters["since"] else "no open runs match; --since 1d counts those that have ended"
    answer(invocation, shape, lambda: pages.events.counts_table(found, group_by) if found else nothing)


@remote_command("show")
def show(*, invocation: Invocation, run: str = _RUN) -> None:
    """Show one run, and the reason for its state.

    Its steps with rows and extras, and all attempts.
    """
    found = talk(invocation, lambda kernel: kernel.get_run(run))
    answer(invocation, found.to_json(), lambda: pages.runs.run_page(found))


@remote_command("cancel")
def cancel(
    *,
    invocation: Invocation,
    run: str = _RUN,
    why: str = option("The reason; stored with the run."),
    wait: bool = flag("Wait until the run's code has stopped."),
) -> ExitCode:
    """Cancel a run.

    It becomes CANCELED once its code has stopped.
    """

    async def ask(kernel: KernelClient) -> RunView:
        canceled = await kernel.cancel(run, why=why)
        return await kernel.wait(run) if wait else canceled

    found = talk(invocation, ask, retry_seconds=300)
    run_id, now = printable(found.run_id), printable(found.state)
    text = f"requested a cancel of {run_id}; nomaflow show {run_id} shows when it has stopped"
    answer(invocation, found.to_json(), f"{run_id} is {now}" if found.terminal else text)
    return ExitCode.SUCCEEDED if not wait or found.state == "CANCELED" else ExitCode.of_run(found.state)
