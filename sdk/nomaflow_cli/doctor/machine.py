"""Findings about the machine: Python, installed extras, /proc, disk and clock."""

from __future__ import annotations

import shutil
import sys
import time
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from nomaflow_api.byte_sizes import byte_size
from nomaflow_api.version import VERSION
from nomaflow_cli.doctor.findings import Finding, fine, problem, warning
from nomaflow_cli.invocation import EXTRAS, missing_modules

_LITTLE_BYTES, _FEW_BYTES = 100 << 20, 1 << 30
_LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)


def examine_machine(project: Path) -> Iterator[Finding]:
    """Yield the findings about the machine that runs the command."""
    version = ".".join(map(str, sys.version_info[:3]))
    text = f"Python {version}, nomaflow {VERSION}"
    yield fine("machine.python", text)
    for name in EXTRAS:
        missing = ", ".join(missing_modules(name))
        if missing:
            text = f"the {name} cannot run here: {missing} cannot be imported"
            yield warning(f"machine.{name}", text, f"pip install 'nomaflow[{name}]'")
    yield _processes()
    yield free_space("machine.disk", project, "the project's disk")
    yield _clock()


def _processes() -> Finding:
    wanted = ("stat", "task", "environ")
    missing = [name for name in wanted if not Path("/proc/self", name).exists()]
    if missing:
        text = f"/proc has no {', '.join(missing)}; a host needs it to find and stop the processes of a step"
        return problem("machine.proc", text, "mount /proc, without hidepid for this user")
    return fine("machine.proc", "/proc is readable: a host can find and stop the processes of a step")


def free_space(check: str, folder: Path, disk: str) -> Finding:
    """Return the finding about the free space of the disk of a folder."""
    free = shutil.disk_usage(folder).free
    text = f"{byte_size(free)} free on {disk}"
    if free < _LITTLE_BYTES:
        fix = "free disk space: a kernel whose disk is full accepts no triggers until there is space"
        return problem(check, text, fix)
    if free < _FEW_BYTES:
        return warning(check, text, "free disk space, or keep less history: [kernel.retention] of nomaflow.toml")
    return fine(check, text)


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
