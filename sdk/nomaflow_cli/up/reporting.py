"""The output of ``nomaflow up``: a start screen, then a line for each event that matters to a person."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from rich.console import Console
from rich.text import Text

from nomaflow.client import ClientError
from nomaflow.client.values import RUN_TERMINAL, EventView, JobView, ProblemView
from nomaflow_api.time_spans import time_span
from nomaflow_api.version import VERSION
from nomaflow_cli.formatting import after_refusal, age, clock_time, count, offers, sign, trouble_line
from nomaflow_cli.output import print_json_line
from nomaflow_cli.pages.cells import problem_lines
from nomaflow_cli.pages.hosts import job_changes
from nomaflow_cli.project import with_lines_of_files
from nomaflow_cli.up.kept_running import PartFailed, PartNotice, PartState
from nomaflow_cli.up.supervising import Ready
from nomaflow_cli.wrapping import Hanging
from nomaflow_project.reading.problems import Problem
from nomaflow_telemetry.visible_text import first_line, printable

_REMEMBERED_RUNS = 1_000
_SHOWN_PROBLEMS = 5
_SHOWN_SOURCE = 200
_INDENT = 12


class Reporter:
    """Reports what the parts do, each time with a JSON object; this one prints none."""

    shows_links = False
    """True if a person, and nobody else, reads it: a login link is for one pair of eyes."""

    def _print(self, shape: dict[str, Any]) -> None:
        """Print an object; its ``type`` says what has happened."""

    def kernel_stands_by(self, pid: int, error: ClientError) -> None:
        """Report that everything else starts once the kernel leads."""
        self._print({"type": "stands_by", "kernel_pid": pid, "message": str(error)})

    def ready(self, ready: Ready) -> None:
        """Report that everything is up: addresses, pids and jobs."""
        shape = {
            "type": "ready",
            "project": str(ready.project),
            "address": ready.address,
            "kernel": ready.kernel.to_json(),
            "kernel_pid": ready.kernel_pid,
            "stands_by": ready.stands_by,
            "host": ready.host.to_json() if ready.host else None,
            "jobs": [job.job_id for job in ready.catalogue.jobs],
        }
        self._print(shape)

    def part(self, notice: PartNotice, *, tail: Sequence[str]) -> None:
        """Report a change of a part; ``tail`` holds its last lines after a crash."""
        self._print({"type": "part", **asdict(notice), "exit": notice.exit or None, "tail": list(tail)})

    def event(self, event: EventView) -> None:
        """Report an event of the kernel."""
        self._print({"type": "event", **event.to_json()})

    def disabled(self, event: EventView, jobs: Sequence[JobView]) -> None:
        """Report why jobs of a new manifest are disabled; ``jobs`` may hold others too. A program asks for them."""

    def warnings(self, event: EventView, jobs: Sequence[JobView]) -> None:
        """Report the warnings of jobs that a load has brought and the one before had not, likewise."""

    def events_withheld(self, error: ClientError) -> None:
        """Report that events cannot be shown for now; later they continue from the same point."""
        self._print({"type": "events_withheld", "reason": error.reason, "message": str(error)})

    def trouble(self, trouble: str) -> None:
        """Report what keeps the kernel from working; an empty text says that it works again."""
        self._print({"type": "trouble", "message": trouble})

    def console_ready(self, pid: int, url: str, *, link: str, seconds: float) -> None:
        """Report that the console listens.

        :param link: logs in once, within ten minutes; empty if nobody sees it
        """
        self._print({"type": "console", "url": url, "pid": pid})

    def alerts_ready(self, pid: int, *, seconds: float) -> None:
        """Report that the alerts are served."""
        self._print({"type": "alerts", "pid": pid})

    def part_failed(self, error: PartFailed) -> None:
        """Report that there is no console, or are no alerts, and that the others go on without."""
        self._print({"type": f"{error.name}_failed", "message": str(error), "tail": list(error.tail)})

    def stopping(self, *, hurried: bool) -> None:
        """Report that everything is being stopped, or that the stop is sped up."""
        self._print({"type": "stopping", "hurried": hurried})


class JsonReporter(Reporter):
    """One JSON object a line: ``{"type": "ready"|"part"|"event"|"stopping", …}``."""

    def _print(self, shape: dict[str, Any]) -> None:
        print_json_line(shape)


class TextReporter(Reporter):
    """Short lines for a person.

    :param drain_seconds: time that running steps have to finish when everything stops
    """

    def __init__(self, *, console: Console, drain_seconds: float = 30.0) -> None:
        self._console = console
        self._drain_seconds = drain_seconds
        self.shows_links = console.is_terminal  # a journal or a file keeps what it gets
        self._started: OrderedDict[str, datetime | None] = OrderedDict()
        self._said = ("", "")
        self._project: Path | None = None
        self._host = ""
        self._warned: dict[str, set[str]] = {}

    def kernel_stands_by(self, pid: int, error: ClientError) -> None:
        """Print the error."""
        self._line(("…", "yellow"), "kernel", f"pid {pid}; the host starts once this kernel leads; {error}")

    def ready(self, ready: Ready) -> None:
        """Print the start screen."""
        self._project, self._host = ready.project, ready.host.name if ready.host else ""
        name = ready.host.name if ready.host else ready.project.name
        out = self._console.print
        out(Text.assemble(("nomaflow", "bold"), f" {VERSION}", (f"  ·  {printable(name)}", "dim")))
        out()
        leads = f"  on standby, kernel pid {ready.kernel.pid} is the leader" if ready.stands_by else ""
        # Relative to the project, so that the line fits.
        address = ready.address.replace(f"unix:{ready.project}/", "unix:", 1)
        kernel = f"{address}  {ready.kernel.store}{leads}"
        out(_part_line("kernel", ready.kernel_pid, kernel, ready.kernel_seconds))
        if ready.host is not None and not ready.serves:
            out(Text(f"  ✘ host     pid {ready.host_pid}  has no code to run until a reload succeeds:", style="red"))
            self._tail(ready.host_tail)
        elif ready.host is not None:
            brought = f"{ready.host.name}: {offers(ready.host.job_count, ready.host.callable_count)}"
            out(_part_line("host", ready.host_pid, brought, ready.host_seconds))
        else:
            out(Text("  … host     has not attached yet; its log says why", style="yellow"))
        out()
        self._hints(ready)

    def _hints(self, ready: Ready) -> None:
        jobs = with_lines_of_files(ready.catalogue.jobs, ready.project)
        fires = sorted(
            (job.next_fires[0].at, job.job_id, job.pause is not None)
            for job in jobs
            if job.next_fires and job.next_fires[0].at
        )
        for job in jobs:
            self._warned.setdefault(job.host, set()).update(f"{job.job_id}: {each.message}" for each in _warnings(job))
        valid = [job.job_id for job in jobs if job.valid]
        hint = f"{fires[0][1]} {age(fires[0][0])}" if fires else "nothing is scheduled"
        if fires and fires[0][2]:
            hint += ", but it is paused: nomaflow resume"
        for title, text in (
            ("next", hint),
            ("try", f"nomaflow run {valid[0] if valid else 'JOB'} --follow   in another terminal"),
            ("logs", f"{ready.project}/.nomaflow/kernel.log and host.log"),
            ("stop", "Ctrl-C"),
        ):
            self._console.print(Text.assemble((f"  {title:<7}", "dim"), printable(text)), soft_wrap=True)
        problems = [problem for job in jobs for problem in job.problems] + list(ready.catalogue.problems)
        for problem in problems:
            self._console.print()
            self._console.print(Hanging(problem_lines(problem)))
        self._console.print()

    def part(self, notice: PartNotice, *, tail: Sequence[str]) -> None:
        """Print a change of a part."""
        match notice.state:
            case PartState.STARTED:
                self._line(("●", "cyan"), notice.name, f"restarted as pid {notice.pid}")
            case PartState.CRASHED:
                again = f"; restarting in {notice.again_in:g} s" if notice.again_in is not None else ""
                self._line(("✘", "red"), notice.name, f"pid {notice.pid} ended: {notice.exit}{again}")
                self._tail(tail if notice.exit != "killed by SIGKILL" else ())
            case PartState.KILLED:
                self._line(("✘", "yellow"), notice.name, "did not stop in time and was killed")
            case PartState.STOPPED:
                self._line(("✔", "dim"), notice.name, f"stopped, {notice.exit}")

    def event(self, event: EventView) -> None:
        """Print events of runs, failed attempts and hosts; ``nomaflow show`` has the rest."""
        if event.kind.startswith("run."):
            self._run(event)
        elif event.attempt_state in ("FAILED", "LOST"):
            why = event.reason.message if event.reason else event.attempt_state
            what = f"{event.job_id} › {event.step}"
            self._said = (event.run_id, why)
            self._line(sign(event.attempt_state), what, why, event.at)
        elif event.kind == "host.reload_refused":
            self._refused(event)
        elif event.kind == "host.reloaded":
            self._reloaded(event)
        elif event.kind == "host.manifest":
            self._disabled(event)
        elif event.kind.startswith("host."):
            self._line(("·", "dim"), f"host {event.host}", event.kind.removeprefix("host.").replace("_", " "), event.at)

    def _refused(self, event: EventView) -> None:
        """Print where a load is broken, with the line of source, and that nothing is lost."""
        problems = [Problem.from_json(each) for each in event.data.get("problems") or ()][:_SHOWN_PROBLEMS]
        by_kernel = any(problem.code == "manifest_refused" for problem in problems)
        then = after_refusal(int(event.data.get("generation", 0)), by_kernel=by_kernel)
        self._line(("✘", "red"), event.host, f"{'the kernel ' if by_kernel else ''}refused the load: {then}", event.at)
        for problem in problems:
            source = source_line(self._project, problem, event.at) if self._project and event.host == self._host else ""
            told = [
                (printable(problem.place), "bold"),
                (f"  {printable(source)}" if source else "", "dim"),
                (printable(problem.message), ""),
                (f"→ {printable(problem.fix)}" if problem.fix else "", ""),
            ]
            self._below(Text("\n").join(Text(text, style=style) for text, style in told if text))
        if not problems:
            self._below(Text(first_line(str(event.data.get("message", "")))))

    def _reloaded(self, event: EventView) -> None:
        """Print what a load brought, and what is wrong with it nevertheless."""
        data = event.data
        brought = offers(int(data.get("jobs", 0)), int(data.get("callables", 0)))
        text = f"reloaded: {brought} (generation {data.get('generation', 0)})"
        problems = [Problem.from_json(each) for each in data.get("problems") or ()]
        self._line(("!", "yellow") if problems else ("✔", "green"), event.host, text, event.at)
        for line in job_changes(data):
            self._below(line)
        for problem in problems[:_SHOWN_PROBLEMS]:
            self._below(problem_lines(problem))
        if (left := len(problems) - _SHOWN_PROBLEMS) > 0:
            self._below(Text(f"and {count(left, 'problem')} more: nomaflow reload shows all"))

    def _disabled(self, event: EventView) -> None:
        """Name the jobs of a load that cannot run, or go on only with their last good definition."""
        job_ids = event.data.get("disabled_job_ids") or ()
        if job_ids:
            what = f"{count(len(job_ids), 'job')} with a problem; nomaflow jobs shows it"
            self._line(("!", "yellow"), event.host, what, event.at)
            self._below(Text(f"affected: {', '.join(printable(str(each)) for each in job_ids)}"))

    def disabled(self, event: EventView, jobs: Sequence[JobView]) -> None:
        """Print the reason of each job that the event names, at most five."""
        named = [job for job in jobs if job.job_id in event.data["disabled_job_ids"] and job.problems]
        for job in with_lines_of_files(named[:_SHOWN_PROBLEMS], self._project if event.host == self._host else None):
            why = f"job {job.job_id!r} is disabled: {job.held or job.problems[0].message}"
            self._below(problem_lines(replace(job.problems[0], message=why)))

    def warnings(self, event: EventView, jobs: Sequence[JobView]) -> None:
        """Print at most five; those that stood before are not repeated."""
        named = with_lines_of_files(jobs, self._project if event.host == self._host else None)
        found = {f"{job.job_id}: {each.message}": each for job in named for each in _warnings(job)}
        fresh = [name for name in found if name not in self._warned.get(event.host, ())]
        self._warned[event.host] = set(found)
        for name in fresh[:_SHOWN_PROBLEMS]:
            self._below(problem_lines(replace(found[name], message=f"job {name}")))

    def _tail(self, lines: Sequence[str]) -> None:
        """Print the last lines of a part's log."""
        for line in lines[-5:]:
            self._console.print(Text(" " * _INDENT + printable(line), style="dim"), soft_wrap=True)

    def _below(self, text: Text) -> None:
        self._console.print(Hanging(text, indent=_INDENT))

    def events_withheld(self, error: ClientError) -> None:
        """Print the error."""
        self._line(("!", "yellow"), "up", f"cannot show events, trying again: {error}")

    def trouble(self, trouble: str) -> None:
        """Print it."""
        self._line(("!", "yellow") if trouble else ("✔", "green"), "up", trouble_line(trouble))

    def _run(self, event: EventView) -> None:
        if event.run_state in RUN_TERMINAL:
            started = self._started.pop(event.run_id, None)
            facts = [event.run_state]
            if started is not None and event.at is not None:
                facts[0] += f" in {time_span((event.at - started).total_seconds())}"
            rows = event.data.get("rows_affected")
            facts += [count(rows, "row")] if isinstance(rows, int) else []
            why = event.reason.message if event.reason else ""
            facts += [why] if why and self._said != (event.run_id, why) else []
            self._line(sign(event.run_state), event.job_id, " · ".join(facts), event.at)
        elif event.run_state == "RUNNING" and event.run_id not in self._started:
            self._started[event.run_id] = event.at
            if len(self._started) > _REMEMBERED_RUNS:
                self._started.popitem(last=False)
            self._line(sign("RUNNING"), event.job_id, f"started  {event.run_id}", event.at)

    def _line(self, signed: tuple[str, str], what: str, text: str, at: datetime | None = None) -> None:
        stamp = clock_time(at or datetime.now().astimezone())
        line = Text.assemble((stamp, "dim"), "  ", signed, f" {printable(what):<18} ", first_line(text))
        # Whole in a pipe or a file, and broken between words on a terminal.
        self._console.print(line, soft_wrap=not self._console.is_terminal)

    def console_ready(self, pid: int, url: str, *, link: str, seconds: float) -> None:
        """Print where it is."""
        self._console.print(_part_line("console", pid, "the web page" if link else url, seconds))
        if link:
            self._console.print(Text.assemble(("  open   ", "dim"), (link, "bold")), soft_wrap=True)
            self._console.print(Text("         logs in once, within 10 minutes; another: nomaflow console link", "dim"))
        self._console.print()

    def alerts_ready(self, pid: int, *, seconds: float) -> None:
        """Print it."""
        self._console.print(_part_line("alerts", pid, "see: nomaflow alerts open", seconds))
        self._console.print()

    def part_failed(self, error: PartFailed) -> None:
        """Print the error with its last lines."""
        self._line(("✘", "yellow"), error.name, f"{error}; kernel and host go on without it")
        self._tail(error.tail)

    def stopping(self, *, hurried: bool) -> None:
        """Print it, and how to speed it up."""
        if hurried:
            text = "stopping now, running steps included; press Ctrl-C again to kill everything"
        else:
            self._console.print()
            limit = time_span(self._drain_seconds)
            text = f"stopping: running steps have {limit} to finish; press Ctrl-C again to stop them now"
        self._line(("·", "yellow" if hurried else "dim"), "up", text)


def source_line(project: Path, problem: Problem, loaded: datetime | None) -> str:
    """Return the line of source with a problem, which never left this machine; empty if it is not available."""
    try:
        file = project / problem.file
        if not problem.line or (loaded is not None and file.stat().st_mtime > loaded.timestamp()):
            return ""  # saved again since: this is not the line that was loaded
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return lines[problem.line - 1].strip()[:_SHOWN_SOURCE] if problem.line <= len(lines) else ""


def _warnings(job: JobView) -> list[ProblemView]:
    return [problem for problem in job.problems if problem.severity == "warning"]


def _part_line(name: str, pid: int, text: str, seconds: float) -> Text:
    return Text.assemble(
        ("  ✔ ", "green"), f"{name:<8} ", (f"pid {pid:<8} ", "dim"), printable(text), (f"  {time_span(seconds)}", "dim")
    )
