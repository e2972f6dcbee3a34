"""A kernel and a host for each team's project; the operating system is asked what still runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli_command import Answer
from nomaflow.client import TriggerOrder
from nomaflow.client.values import RunView, Triggered
from nomaflow.client.values.runs import AttemptView
from real_system import Running, System, eventually

__all__ = ["HOSTILE", "NOTING_STEPS", "Ledger", "TeamSystem", "reason_of"]

HOSTILE = Path(__file__).parent / "hostile"

NOTING_STEPS = """
import asyncio, json, os, subprocess, time
from pathlib import Path

def note(ledger, what, **more):
    fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, json.dumps({"what": what, "pid": os.getpid(), **more}).encode() + b"\\n")
    os.close(fd)

"""
"""The beginning of a plugin whose steps write a ledger."""


def reason_of(of: RunView | AttemptView) -> str:
    """Return the code of the reason of a run or an attempt, empty for none."""
    return of.reason.code if of.reason else ""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The entries that steps write about themselves, one JSON object a line, by O_APPEND; the product writes none."""

    file: Path

    def entries(self, what: str = "") -> list[dict[str, Any]]:
        """Return the entries of a kind, in the order in which they were written."""
        if not self.file.exists():
            return []
        found = [json.loads(line) for line in self.file.read_text().splitlines()]
        return [entry for entry in found if what in ("", entry["what"])]

    def wait_for(self, what: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are as many entries of a kind, and return them."""
        eventually(lambda: len(self.entries(what)) >= count)
        return self.entries(what)

    def pid(self, what: str = "start") -> int:
        """Wait for an entry of a kind and return its process id."""
        return int(self.wait_for(what)[0]["pid"])


@dataclass(kw_only=True)
class TeamSystem(System):
    """A kernel with a folder of its own, and hosts on the projects of their names; no busy machine ends a session."""

    kernel_flags: Sequence[str] = ("--heartbeat-seconds", "0.3", "--lease-seconds", "20")
    _number: int = 0

    def project(self, name: str, files: Mapping[str, str] | None = None) -> Path:
        """Make a host's project: a copy of the hostile one, or of *files* given."""
        folder = self.root / name
        if files is None:
            shutil.copytree(HOSTILE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        for path, text in (files or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return folder

    def start_host(
        self,
        name: str,
        *flags: str,
        settings: Sequence[str] = (),
        serves: bool = True,
        dials: bool = True,
        **options: Any,
    ) -> Running:
        """Start a host on the project of its name, and wait until the kernel knows its jobs.

        :param serves: False if it cannot load its code; then it is not waited for
        :param dials: False if its settings name the kernel
        :param settings: more lines for its ``[host]``
        :param options: see :func:`real_system.launch`
        """
        project = self.root / name
        defaults = [] if any(line.startswith("drain_seconds") for line in settings) else ["drain_seconds = 2"]
        (project / "nomaflow.toml").write_text("\n".join(["[host]", *defaults, *settings, ""]))
        dial = ("--kernel", self.kernel_address) if dials else ()
        part = self.launch_host(name, project, "--name", name, *dial, *flags, **options)
        if serves:
            eventually(lambda: self.instance(name, pid=part.pid))
        return part

    def ledger(self) -> Ledger:
        """Return a new ledger for one run."""
        self._number += 1
        return Ledger(file=self.root / f"ledger-{self._number}")

    def start(self, job: str, ledger: Ledger | None = None, by: str = "", /, **params: Any) -> str:
        """Trigger a job and return the run's id."""
        given = {**({"ledger": str(ledger.file)} if ledger else {}), **params}
        triggered: Triggered = self.api.trigger(TriggerOrder(job_id=job, params=given, by=by))
        return triggered.run_id

    def run_log(self, run_id: str) -> str:
        """Return a run's log as text."""
        return "\n".join(line.message for line in self.api.read_logs(run_id))

    def command(self, *arguments: str) -> Answer:
        """Run the command line, whatever its exit code."""
        return self.cli(*arguments, code=None)
