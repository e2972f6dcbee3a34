"""Findings about the machine: Python, installed extras, /proc, cgroups, disk and clock."""

from __future__ import annotations

import os
import shutil
import sys
import time
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from nomaflow_cli.doctor.findings import Finding, fine, problem, warning
from nomaflow_cli.invocation import EXTRAS, missing_modules
from nomaflow_cli.versions import installed_version
from nomaflow_cli.wording import amount

__all__ = ["examine_machine"]

_OLDEST = (3, 11)
_LITTLE_BYTES, _FEW_BYTES = 100 << 20, 1 << 30
_LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)


def examine_machine(project: Path) -> Iterator[Finding]:
    """Yield the findings about the machine that runs the command."""
    yield _python()
    yield from _extras()
    yield _processes()
    yield _cgroup()
    yield _disk(project)
    yield _clock()


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    text = f"Python {found}, nomaflow {installed_version()}"
    if sys.version_info < _OLDEST:
        return problem("machine.python", text, "install Python 3.11 or later")
    return fine("machine.python", text)


def _extras() -> Iterator[Finding]:
    for name in EXTRAS:
        missing = missing_modules(name)
        if missing:
            yield warning(
                f"machine.{name}",
                f"the {name} cannot run here: {', '.join(missing)} cannot be imported",
                f"pip install 'nomaflow[{name}]'",
            )


def _processes() -> Finding:
    wanted = ("stat", "smaps_rollup", "task", "environ")
    missing = [name for name in wanted if not Path("/proc/self", name).exists()]
    if missing:
        return problem(
            "machine.proc",
            f"/proc has no {', '.join(missing)}; a host needs it to find and stop the processes of a step",
            "mount /proc, without hidepid for this user",
        )
    return fine("machine.proc", "/proc is readable: a host can find and stop the processes of a step")


def _cgroup() -> Finding:
    folder = _own_cgroup()
    if folder is not None and os.access(folder, os.W_OK) and os.access(folder / "cgroup.kill", os.W_OK):
        return fine("machine.cgroup", f"cgroup v2 {str(folder)!r} is delegated: limits and kills use it")
    return fine("machine.cgroup", "cgroup v2 is not delegated: limits are checked by polling")


def _own_cgroup() -> Path | None:
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    own = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    folder = Path("/sys/fs/cgroup", own[0]) if own else None
    return folder if folder is not None and (folder / "cgroup.controllers").exists() else None


def _disk(project: Path) -> Finding:
    free = shutil.disk_usage(project).free
    text = f"{amount(free >> 20)} MiB free on the project's disk"
    if free < _LITTLE_BYTES:
        return problem(
            "machine.disk",
            text,
            "free disk space: a kernel whose disk is full accepts no triggers until there is space",
        )
    if free < _FEW_BYTES:
        return warning("machine.disk", text, "free disk space, or keep less history: [meta.retention] of jobs.toml")
    return fine("machine.disk", text)


def _clock() -> Finding:
    now = datetime.now(UTC)
    shown = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if now < _LONG_AGO:
        return problem("machine.clock", f"the clock says {shown}", "set the clock: schedules depend on it")
    try:
        zoneinfo.ZoneInfo("Europe/Vienna")
    except zoneinfo.ZoneInfoNotFoundError:
        return problem("machine.clock", "time zone data is missing", "pip install tzdata")
    return fine("machine.clock", f"the clock says {shown}, local zone {time.tzname[0]}; time zone data is installed")
