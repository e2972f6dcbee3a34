"""The demo: a kernel and a host run real jobs, the kernel is killed meanwhile, and nothing is lost.

Run it with ``make demo``. It works in a temporary directory, takes half a minute, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from nomaflow.client import ClientError, TriggerOrder
from nomaflow.client.values import InstanceView, RunView
from nomaflow_api.time_spans import time_span
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.formatting import amount, count
from nomaflow_cli.invocation import missing_modules
from nomaflow_cli.live.following import follow_run
from nomaflow_cli.live.screens import Screen, choose_screen
from nomaflow_cli.output import console as make_console
from nomaflow_cli.pages.runs import runs_table, summary
from nomaflow_cli.up.kept_running import PartFailed, PartNotice
from nomaflow_cli.up.reporting import Reporter
from nomaflow_cli.up.supervising import ProjectSupervisor, Ready

if TYPE_CHECKING:
    from nomaflow.client import KernelClient

PROJECT = Path(__file__).parent
KILL_AT_BATCH = 8
BATCH = re.compile(r"batch (\d+) of (\d+) ·")
# Ten times what an idle machine needs.
SEARCH_SECONDS = 60.0
DEMO_SECONDS = 240.0
STOPPED = (ExitCode.CANCELED, ExitCode.INTERRUPTED)


class DemoFailed(Exception):
    """Raised when the demo sees a promise of the product broken."""


class DemoStopped(Exception):
    """Raised when the person who watches presses Ctrl-C while a run is followed."""


class Narrator(Reporter):
    """Prints the story. It is also the supervisor's reporter."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def chapter(self, title: str) -> None:
        """Start a chapter."""
        self.console.print()
        self.console.print(Rule(Text(title, style="bold"), align="left", style="dim"))

    def say(self, text: str, *, style: str = "dim") -> None:
        """Print a sentence."""
        self.console.print(Text(f"  {text}", style=style))

    def proof(self, text: str) -> None:
        """Print a fact that was checked."""
        self.console.print(Text.assemble(("  ✔ ", "green"), text))

    def ready(self, ready: Ready) -> None:
        """Print the running parts."""
        if ready.host is None:
            raise DemoFailed("the host did not attach; its log says why")
        self.proof(
            f"kernel, pid {ready.kernel.pid}, {ready.kernel.store}, answers after {time_span(ready.kernel_seconds)}"
        )
        found = f"{ready.host.job_count} jobs and {ready.host.callable_count} callables"
        pid = ready.host.instances[0].pid
        self.proof(f"host {ready.host.name!r}, pid {pid}, brought {found} after {time_span(ready.host_seconds)}")
        self.say(f"they talk gRPC over {ready.address}")

    shows_links = True

    def console_ready(self, pid: int, url: str, *, link: str, seconds: float) -> None:
        """Print the link of the web page."""
        self.proof(f"console, pid {pid}, shows all of it; this link logs in once")
        self.console.print(Text(f"\n  {link}\n", style="bold"), soft_wrap=True)
        self.say("Enter ends the demo")

    def part(self, notice: PartNotice, *, tail: Sequence[str]) -> None:
        """Print a change of a part."""
        again = f"; up starts it again in {notice.again_in:g} s" if notice.again_in else ""
        how = f": {notice.exit}" if notice.exit else ""
        self.say(f"{notice.name} {notice.state}, pid {notice.pid}{how}{again}", style="yellow" if again else "dim")


async def demo(project: Path, narrator: Narrator) -> None:
    """Start everything, tell the story, stop everything.

    :raises DemoFailed: if a promise does not hold
    :raises TimeoutError: if something hangs
    """
    looks = sys.stdin.isatty() and sys.stdout.isatty() and not missing_modules("console")
    supervisor = ProjectSupervisor(project=project, reporter=narrator, with_console=looks)
    narrator.chapter("nomaflow up: a kernel and a plugin host, two processes")
    try:
        async with asyncio.timeout(DEMO_SECONDS):
            ready = await supervisor.start()
            if ready is None:
                raise DemoStopped
            await story(supervisor, narrator)
        if looks:
            narrator.chapter("open this: the same on a web page")
            supervisor.start_beside()
            await enter_pressed()
        narrator.chapter("Ctrl-C: the host drains, then the kernel stops")
    except BaseException:
        for _ in range(2):  # a person who stops a demo does not want to wait for its steps
            supervisor.ask_to_stop()
        raise
    finally:
        await supervisor.stop()
    leftovers = [pid for pid in (ready.kernel.pid, *(one.pid for one in instances(ready))) if alive(pid)]
    if leftovers:
        raise DemoFailed(f"processes are left: {leftovers}")
    narrator.proof("nothing is left running")


async def story(supervisor: ProjectSupervisor, narrator: Narrator) -> None:
    """Run the jobs."""
    screen = choose_screen(as_json=False, console=narrator.console)
    async with supervisor.client(by="demo", on_connected=screen.connected) as client:
        await seed(client, narrator)
        await main_job(client, screen, supervisor, narrator)
        await empty_tenant(client, narrator)
        await heartbeat(client, narrator)
        await farewell(client, narrator)


async def seed(client: KernelClient, narrator: Narrator) -> None:
    """Fill the tables."""
    narrator.chapter("nomaflow run seed-data --wait: a few thousand sessions and invoices")
    run = await finished(client, "seed-data")
    narrator.console.print(summary(run))
    expect(run, "SUCCEEDED")


async def main_job(client: KernelClient, screen: Screen, supervisor: ProjectSupervisor, narrator: Narrator) -> None:
    """Follow the main job live, and kill the kernel in the middle of it."""
    narrator.chapter("nomaflow run month-end --follow: live, while the kernel is killed")
    started = await client.trigger(TriggerOrder(job_id="month-end", kind="cli"))
    killer = asyncio.create_task(kill_kernel_during(client, started.run_id, supervisor, narrator))
    try:
        code = await follow_run(kernel=client, run_id=started.run_id, screen=screen)
        if code in STOPPED:
            raise DemoStopped
        worker = await killer
    finally:
        killer.cancel()
    run = await client.get_run(started.run_id)
    expect(run, "SUCCEEDED")
    step = next(step for step in run.steps if step.name == "score")
    if code != 0 or len(step.attempts) != 1 or step.last.worker_pid != worker:
        raise DemoFailed(f"step {step.name!r} ran {len(step.attempts)} times, at last in pid {step.last.worker_pid}")
    narrator.console.print()
    narrator.proof(f"the step was running in pid {worker} before the kill, and went on there: one attempt")
    await check_log(client, run, narrator)


async def kill_kernel_during(
    client: KernelClient, run_id: str, supervisor: ProjectSupervisor, narrator: Narrator
) -> int:
    """Kill the kernel once the step ``score`` is well under way; return the pid of the step's worker."""
    async for line in client.read_logs(run_id, follow=True, step="score"):
        found = BATCH.search(line.message)
        if found is not None and int(found[1]) >= KILL_AT_BATCH:
            break
    run = await client.get_run(run_id)
    worker = next(step.last.worker_pid for step in run.steps if step.name == "score")
    narrator.say(
        f"kill -9 {supervisor.kernel.pid}: the kernel is gone; the step runs on in pid {worker}", style="yellow"
    )
    supervisor.kernel.signal(signal.SIGKILL)
    return worker


async def check_log(client: KernelClient, run: RunView, narrator: Narrator) -> None:
    """Check that every line of the log is there exactly once."""
    lines = [line async for line in client.read_logs(run.run_id)]
    batches = [found for line in lines if (found := BATCH.search(line.message))]
    numbers = [int(found[1]) for found in batches]
    if [line.seq for line in lines] != list(range(1, len(lines) + 1)):
        raise DemoFailed("the log has a gap")
    if not batches or numbers != list(range(1, int(batches[0][2]) + 1)):
        raise DemoFailed(f"lines of the step are missing or doubled: {numbers}")
    narrator.proof(f"its log has every line once: {amount(len(lines))} lines, batches 1 to {numbers[-1]}")


async def empty_tenant(client: KernelClient, narrator: Narrator) -> None:
    """Show a step that fails with a clear reason."""
    narrator.chapter("nomaflow run empty-tenant --wait: a step that raises StepFailed")
    run = await finished(client, "empty-tenant")
    narrator.console.print(summary(run))
    expect(run, "FAILED")


async def heartbeat(client: KernelClient, narrator: Narrator) -> None:
    """Show runs that the schedule started."""
    narrator.chapter("heartbeat: fired every five seconds, also after the kernel was killed")
    async with asyncio.timeout(SEARCH_SECONDS):
        async for event in client.watch_events(from_start=True, kinds=["run"]):
            if event.job_id == "heartbeat" and event.run_state == "SUCCEEDED":
                break
    runs = [run async for run in client.list_runs(job_id="heartbeat", states=["SUCCEEDED"])]
    narrator.console.print(runs_table(runs[:4]))
    if not runs or any(run.trigger.kind != "cron" for run in runs):
        raise DemoFailed("the schedule fired nothing")


async def farewell(client: KernelClient, narrator: Narrator) -> None:
    """Show everything that ran."""
    narrator.chapter("nomaflow runs: everything that happened")
    runs = [run async for run in client.list_runs()]
    others = [run for run in runs if run.job_id != "heartbeat"]
    narrator.console.print(runs_table(others))
    beats = [run for run in runs if run.job_id == "heartbeat"]
    narrator.say(f"and {count(len(beats), 'run')} of heartbeat")
    narrator.console.print()


async def enter_pressed() -> None:
    """Wait until somebody presses Enter, or the terminal is gone."""
    loop, pressed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), pressed.set)
    try:
        await pressed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())


async def finished(client: KernelClient, job_id: str) -> RunView:
    """Start a run and return it once it is over."""
    started = await client.trigger(TriggerOrder(job_id=job_id, kind="cli"))
    return await client.wait(started.run_id)


def expect(run: RunView, state: str) -> None:
    """Check the final state of a run.

    :raises DemoFailed: if it is another one
    """
    if run.state != state:
        raise DemoFailed(f"job {run.job_id!r} should be {state} and is {run.state}: {run.error or run.reason}")


def instances(ready: Ready) -> list[InstanceView]:
    """Return the host's processes."""
    return list(ready.host.instances) if ready.host else []


def alive(pid: int) -> bool:
    """Return True if there is such a process."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def main() -> int:
    """Run the demo in a directory of its own and return the exit code."""
    narrator = Narrator(make_console())
    with tempfile.TemporaryDirectory(prefix="nomaflow-demo-") as folder:
        project = Path(folder) / "demo"
        shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns(".nomaflow", "demo.db*", "__pycache__"))
        try:
            asyncio.run(demo(project, narrator))
        except (DemoFailed, PartFailed, ClientError, TimeoutError) as error:
            narrator.console.print(Text(f"✘ {str(error) or 'something hangs, or the machine is busy'}", style="red"))
            for part in ("kernel", "host"):
                log = project / ".nomaflow" / f"{part}.log"
                if log.exists():
                    narrator.console.print(
                        Text(f"{part}: " + "\n".join(log.read_text().splitlines()[-15:]), style="dim")
                    )
            return 1
        except (DemoStopped, KeyboardInterrupt):
            return ExitCode.INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
