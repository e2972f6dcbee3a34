"""The peers: how each is installed, started and run, and what it can be asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FUNCTIONS", "HERE", "PEERS", "Peer", "versions"]

HERE = Path(__file__).parent

FUNCTIONS: Mapping[str, str] = {"M1": "batched", "M2": "one_at_a_time", "M3": "chain", "R": "real"}
"""The function of a peer's program by the name of the measure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """One other job runner.

    :param name: as its makers write it
    :param program: the file in ``programs``
    :param package: its name in requirements.txt or package.json
    :param service: the server that it keeps its state in; ``sqlite`` needs none
    :param worker: the command of its worker process, relative to the folder of executables; empty where the program
        itself runs the jobs
    :param setup: what runs its jobs, in words
    :param batches: how many runs are sent, in words
    :param history: what is left of a finished run, in words
    :param measures: those it has the means for
    """

    name: str
    program: str
    package: str
    service: str
    worker: tuple[str, ...] = ()
    setup: str
    batches: str
    history: str
    measures: frozenset[str]

    @property
    def language(self) -> str:
        """``python`` or ``node``."""
        return "node" if self.program.endswith(".cjs") else "python"

    @property
    def module(self) -> str:
        """The import name of a program in Python."""
        return f"bench.peers.programs.{self.program.removesuffix('.py')}"


PEERS = (
    Peer(
        name="BullMQ",
        program="bullmq.cjs",
        package="bullmq",
        service="redis",
        worker=("node", str(HERE / "programs" / "bullmq_worker.cjs")),
        setup="one worker process, 100 jobs at once",
        batches="`addBulk`",
        history="the job with its result",
        measures=frozenset({"M1", "M2", "M3"}),
    ),
    Peer(
        name="graphile-worker",
        program="graphile_worker.cjs",
        package="graphile-worker",
        service="postgresql",
        setup="in the calling process, 10 jobs at once, a local queue of 500, ends written together",
        batches="`addJobs`",
        history="none: the row is deleted",
        measures=frozenset({"M1", "M2"}),
    ),
    Peer(
        name="Huey",
        program="huey.py",
        package="huey",
        service="sqlite",
        worker=("huey_consumer", "bench.peers.programs.huey.huey", "-w", "2", "-d", "0.001", "-m", "0.01"),
        setup="`huey_consumer`, 2 threads, polling every 1 to 10 ms",
        batches="a call each",
        history="the result",
        measures=frozenset({"M1", "M2", "M3"}),
    ),
    Peer(
        name="DBOS",
        program="dbos.py",
        package="dbos",
        service="postgresql",
        setup="in the calling process, its own pool of threads",
        batches="a call each, from 16 threads",
        history="the workflow and its steps",
        measures=frozenset({"M1", "M2", "M3", "R"}),
    ),
    Peer(
        name="Procrastinate",
        program="procrastinate.py",
        package="procrastinate",
        service="postgresql",
        worker=("procrastinate", "--app", "bench.peers.programs.procrastinate.app", "worker", "--concurrency", "20"),
        setup="one worker, 20 jobs at once, woken by LISTEN",
        batches="`batch_defer`",
        history="the job and its events",
        measures=frozenset({"M1", "M2"}),
    ),
    Peer(
        name="Celery",
        program="celery.py",
        package="celery",
        service="redis",
        worker=("celery", "--app", "bench.peers.programs.celery", "worker", "-l", "INFO", "-c", "2"),
        setup="2 prefork workers, `acks_late`",
        batches="`group`",
        history="the result, for a day",
        measures=frozenset({"M1", "M2", "M3", "R"}),
    ),
)


def versions() -> dict[str, str]:
    """Return the pinned version of each package that peers are installed from."""
    lines = (HERE / "requirements.txt").read_text().split()
    python = {name.partition("[")[0]: version for name, _, version in (line.partition("==") for line in lines)}
    node: dict[str, str] = json.loads((HERE / "package.json").read_text())["dependencies"]
    return python | node
