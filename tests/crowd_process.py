"""The process that plays a crowd of host instances, and what it says of itself."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from crowd_plan import Plan, jobs_of

__all__ = ["CrowdProcess"]

_SCRIPT = Path(__file__).with_name("host_crowd.py")


class CrowdProcess:
    """A crowd of hosts; its instances begin to attach at once.

    :param folder: for its plan and its log
    """

    def __init__(self, plan: Plan, *, folder: Path) -> None:
        self.plan = plan
        file = folder / f"{plan.name}.json"
        file.write_text(json.dumps(dataclasses.asdict(plan)))
        with (folder / f"{plan.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(_SCRIPT), str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def count(self) -> int:
        """The number of instances."""
        return self.plan.hosts * self.plan.instances

    def job_ids(self) -> list[str]:
        """Return all jobs, a host's first one after another's."""
        of_hosts = [jobs_of(host, self.plan.jobs) for host in self.plan.host_names()]
        return [job_id for together in zip(*of_hosts, strict=True) for job_id in together]

    def ask(self, question: str = "state") -> dict[str, Any]:
        """Return the crowd's answer to a question, see ``host_crowd``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(question, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, f"the crowd ended with {self._process.wait()}"
        return dict(json.loads(answer))

    def until_attached(self, *, sessions: int = 0, seconds: float = 120.0) -> float:
        """Wait until all are attached, and have been welcomed so often in all; return the seconds that took."""
        began = time.monotonic()
        while (told := self.ask())["attached"] < self.count or told["sessions"] < sessions:
            assert time.monotonic() - began < seconds, f"not all of {self.count} attached: {told}"
            time.sleep(0.05)
        return time.monotonic() - began

    def leave(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.communicate("\n", timeout=240)
