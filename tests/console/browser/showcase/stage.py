"""Starts the showcase: a kernel with history, three hosts of which one is silent, and a console."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from console_system import ConsoleSystem

from nomaflow.client import TriggerOrder
from real_system import System, eventually

from .history import forget_hours, write_history
from .jobs import JOBS, jobs_toml

__all__ = ["running_showcase"]

_HERE = Path(__file__).parent
_PATIENCE = 120.0
_CLOCKS = ("--heartbeat-seconds", "0.5", "--lease-seconds", "4", "--lost-after-seconds", "600")


@contextlib.contextmanager
def running_showcase(folder: Path, *flags: str) -> Iterator[ConsoleSystem]:
    """Run the showcase; stop it at the end.

    :param folder: where everything is kept
    :param flags: options of the console
    """
    for name in ("team", "sales", "ops"):
        shutil.copytree(_HERE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    (folder / "team" / "jobs.toml").write_text(jobs_toml())
    system = System(root=folder, kernel_project=folder / "team", kernel_flags=_CLOCKS)
    made = ConsoleSystem(system=system, flags=flags)
    try:
        _make_history(system)
        _set_the_stage(system)
        made.start()
        yield made
    finally:
        if made.console is not None:
            made.console.stop()
        if "sales" in system.parts:
            os.kill(system.parts["sales"].pid, signal.SIGCONT)
        system.close()


def _attach(system: System, name: str, *, pace: str = "1") -> None:
    flags = () if name == "team" else ("--kernel", system.kernel_address)
    system.launch_host(name, system.root / name, *flags, environ={"SHOWCASE_PACE": pace})
    eventually(lambda: system.instance(name), seconds=_PATIENCE)


def _make_history(system: System) -> None:
    """Run each job once or twice in a moment, then spread copies of these runs over the past weeks."""
    system.start_kernel()
    _attach(system, "team", pace="0.01")
    for job in JOBS:
        fails = job.fails and any("score" in step for step in job.steps)
        for tenant in (7, 10) if fails else (7,):
            scored = {name: {"tenant": tenant} for name, function, _ in job.steps if function == "score"}
            system.end(system.api.trigger(TriggerOrder(job_id=job.id, op_kwargs=scored)).run_id)
    system.stop("team")
    system.stop("kernel")
    for client in system.clients:
        client.close()
    system.clients.clear()
    now = datetime.now(UTC)
    database = system.kernel_project / ".nomaflow" / "kernel.db"
    write_history(database, now=now)
    forget_hours(database, "hourly-export", hours=2, now=now)


def _set_the_stage(system: System) -> None:
    """Bring about what a morning has: a failure, a wait, a cancel, a pause, newer code, a silent host."""
    system.start_kernel()
    _attach(system, "team")
    _attach(system, "ops")
    _attach(system, "sales")
    ann, bob = system.api, system.client(by="bob")
    failing = ann.trigger("month-end").run_id
    loading = ann.trigger("invoice-load").run_id
    wrong = bob.trigger(TriggerOrder(job_id="sales-copy", by="bob")).run_id
    eventually(lambda: system.run(wrong).state == "RUNNING")
    bob.cancel(wrong, why="wrong tenant")
    bob.reload_host("team")
    ann.pause(job_id="legacy-export", why="vendor freeze", until=datetime.now(UTC) + timedelta(days=3))
    system.launch_host("old-etl", _old(system), "--kernel", system.kernel_address)
    eventually(lambda: system.instance("old-etl"))
    system.stop("old-etl")
    long = ann.trigger(TriggerOrder(job_id="nightly-sync", op_kwargs={"sync": {"seconds": 3600}})).run_id
    eventually(lambda: system.run(long).steps[0].last.state == "RUNNING")
    os.kill(system.parts["sales"].pid, signal.SIGSTOP)
    eventually(lambda: (host := system.host_view("sales")) is not None and host.state == "UNREACHABLE", seconds=60)
    ann.trigger(TriggerOrder(job_id="nightly-sync", overlap="allow"))
    mail = system.root / "ops" / "plugins" / "ops" / "disks.py"
    mail.write_text(mail.read_text() + "\n# a newer line\n")
    system.end(failing)
    system.end(wrong)
    eventually(lambda: system.run(loading).state == "RUNNING")


def _old(system: System) -> Path:
    """Make a host that leaves again, and owns a job."""
    folder = system.root / "old-etl"
    shutil.copytree(_HERE / "sales", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "nomaflow.toml").write_text('[host]\nname = "old-etl"\ndrain_seconds = 1\n')
    jobs = (folder / "jobs.toml").read_text()
    (folder / "jobs.toml").write_text(jobs.replace('"nightly-sync"', '"weekly-etl"'))
    return folder
