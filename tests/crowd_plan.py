"""A crowd of host instances on paper: its hosts, their jobs, and the manifests that they bring."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import Any

__all__ = ["Code", "Codes", "Plan", "jobs_of"]

_TAKES_ALL: dict[str, Any] = {"kind": "async", "parameters": [], "catch_all": "kwargs", "error": None}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The crowd.

    :param addresses: of the kernels, separated by commas
    :param instances: of each host
    :param jobs: of each host
    :param slots: steps that an instance runs at once
    """

    addresses: str
    hosts: int
    instances: int
    jobs: int
    slots: int = 4
    name: str = "team"

    def host_names(self) -> list[str]:
        """Return the names of the hosts."""
        return [f"{self.name}{number:03d}" for number in range(self.hosts)]


def jobs_of(host: str, count: int) -> list[str]:
    """Return the ids of a host's jobs."""
    return [f"{host}-job-{number:04d}" for number in range(count)]


@dataclass(frozen=True, kw_only=True)
class Code:
    """A generation of a host's code: its manifest. Its schedules fire in the first days of a year."""

    digest: str
    packed: bytes

    @classmethod
    def of(cls, host: str, jobs: int, generation: int) -> Code:
        """Return a generation; each differs from the one before in its first job."""
        tables = [
            {
                "id": job_id,
                "overlap": "allow",
                "schedule": f"{number % 60} {number % 24} 1 1 *",
                "steps": [{"name": "one", "callable": "work:nothing"}],
            }
            for number, job_id in enumerate(jobs_of(host, jobs))
        ]
        tables[0]["description"] = f"generation {generation}"
        file = {"path": "jobs.toml", "tree": {"jobs": tables}, "error": None, "main": True}
        body = json.dumps({"host": host, "callables": {"work:nothing": _TAKES_ALL}, "job_files": [file]}).encode()
        return cls(digest="sha256:" + hashlib.sha256(body).hexdigest(), packed=zlib.compress(body))


class Codes:
    """The code of each host; its instances share it."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._of: dict[tuple[str, int], Code] = {}

    def of(self, host: str, generation: int) -> Code:
        """Return a generation of a host."""
        key = (host, generation)
        if key not in self._of:
            self._of[key] = Code.of(host, self._jobs, generation)
        return self._of[key]
