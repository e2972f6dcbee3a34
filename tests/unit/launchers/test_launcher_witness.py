"""Evidence that an instance has ended: what counts on Slurm, and when the kernel is told."""

from __future__ import annotations

from typing import Any, cast

import pytest

from nomaflow.client import KernelClient
from nomaflow.client.values import DeclaredView, HostView, InstanceView, ResourcesView
from nomaflow_launchers.ended_instances import Witness
from nomaflow_launchers.engines.engine import Engine
from nomaflow_launchers.engines.slurm_witness import evidence_of_end, fields_of

CONFIG = "Configuration data as of 2026-11-26T20:00:00\nPriorityType            = priority/basic\nProctrackType = {0}\n"
JOB = (
    "JobId=12 JobName=nomaflow-team UserId=u(1) JobState={state} Reason=None Requeue=0 Restarts={restarts} "
    "BatchFlag=1 Reboot=0 ExitCode={exit} RunTime=00:00:04 NodeList=n1 BatchHost=n1 Comment={comment}"
)
NODE = "NodeName=n1 Arch=x86_64 CPUTot=8 State={state} ThreadsPerCore=1 Partitions=all Reason={reason} [root@2026]"


def _evidence(
    *, proctrack: str = "proctrack/cgroup", state: str = "TIMEOUT", restarts: int = 0, exit: str = "0:15",
    node: str = "IDLE", reason: str = "none", job_id: str = "12", comment: str = "nomaflow/s/team/d",
) -> str:  # fmt: skip
    return evidence_of_end(
        job_id,
        config=fields_of(CONFIG.format(proctrack)),
        job=fields_of(JOB.format(state=state, restarts=restarts, exit=exit, comment=comment)),
        node=fields_of(NODE.format(state=node, reason=reason)),
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "Slurm job 12 is TIMEOUT (by signal 15), its processes were in a cgroup, and machine n1 answers"),
        ({"state": "OUT_OF_MEMORY", "exit": "0:125"}, "job 12 is OUT_OF_MEMORY (by signal 125)"),
        ({"state": "COMPLETED", "exit": "0:0"}, "job 12 is COMPLETED (with exit code 0)"),
        ({"state": "FAILED", "exit": "78:0", "node": "MIXED+DRAIN"}, "job 12 is FAILED (with exit code 78)"),
        ({"state": "CANCELLED", "reason": "being repaired", "node": "IDLE+DRAIN"}, "job 12 is CANCELLED"),
    ],
)
def test_a_job_in_a_cgroup_that_has_ended_on_a_machine_that_answers_is_evidence(given: Any, words: str) -> None:
    """The words name the job, its end and why that is enough."""
    assert words in _evidence(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"proctrack": "proctrack/linuxproc"},
        {"proctrack": "proctrack/pgid"},
        {"state": "NODE_FAIL"},
        {"state": "COMPLETING"},
        {"state": "RUNNING"},
        {"state": "BOOT_FAIL"},
        {"restarts": 1},
        {"node": "IDLE*"},
        {"node": "DOWN*"},
        {"node": "DOWN+NOT_RESPONDING"},
        {"node": "IDLE+POWERED_DOWN"},
        {"node": "UNKNOWN"},
        {"node": "IDLE+DRAIN", "reason": "Kill task failed"},
        {"job_id": "13"},
        {"comment": "another program's"},
    ],
    ids=str,
)
def test_everything_else_is_none(given: Any) -> None:
    """A lost machine, one that Slurm has given up or could not clean up, a second start, processes not in a cgroup."""
    assert _evidence(**given) == ""


def test_what_slurm_has_forgotten_is_no_evidence() -> None:
    """An unknown job, or one whose machine Slurm does not know, gives no evidence."""
    config = fields_of(CONFIG.format("proctrack/cgroup"))
    assert evidence_of_end("12", config=config, job={}, node={}) == ""
    job = fields_of(JOB.format(state="FAILED", restarts=0, exit="1:0", comment="nomaflow/s/team/d"))
    assert evidence_of_end("12", config=config, job=job, node={}) == ""


@pytest.mark.parametrize("text", ["", "\n", "No jobs in the system\n", "slurmctld: restarting\n"])
def test_an_answer_of_slurm_without_fields_is_no_evidence(text: str) -> None:
    """It ended the launcher's process."""
    assert fields_of(text) == {}


class _Parts:
    """A kernel and an engine that note what they are asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.evidence = "its job ended"

    async def witness(self, engine_id: str, _labels: Any) -> str:
        self.asked.append(engine_id)
        return self.evidence

    async def declare_ended(self, host: str, incarnation: str, *, evidence: str) -> DeclaredView:
        assert evidence == self.evidence
        self.told.append((host, incarnation))
        return DeclaredView(known=True, attempts=1)


def _host(state: str = "DETACHED", *, running: int = 1, name: str = "team", **labels: str) -> HostView:
    has = ResourcesView(labels={"launcher.job": "12", **labels})
    instance = InstanceView(incarnation="inc", state=state, running=running, has=has)
    return HostView(name=name, state=state, instances=(instance,))


@pytest.fixture
def parts() -> _Parts:
    """Return what the witness asks."""
    return _Parts()


@pytest.fixture
def now() -> list[float]:
    """Return the time, which a test sets."""
    return [0.0]


@pytest.fixture
def witness(parts: _Parts, now: list[float]) -> Witness:
    """Return a witness for the host ``team``."""
    return Witness(cast(KernelClient, parts), cast(Engine, parts), ("team",), clock=lambda: now[0])


async def test_the_kernel_is_told_of_instances_that_are_away_and_have_ended(witness: Witness, parts: _Parts) -> None:
    """As long as it lists them with attempts: a declaration may have crossed a session that was opening."""
    for _ in range(2):
        await witness.look([_host()], epoch=1, left=())
    await witness.look([_host("UNREACHABLE")], epoch=1, left=())
    assert parts.told == [("team", "inc")] * 3


async def test_one_that_is_away_is_asked_about_though_the_engine_lists_it(witness: Witness, parts: _Parts) -> None:
    """Its machine may be gone, and the engine still waits for it."""
    await witness.look([_host("UNREACHABLE")], epoch=1, left={"12"})
    assert parts.told == [("team", "inc")]


@pytest.mark.parametrize(
    ("host", "left"),
    [
        (_host("ATTACHED"), ()),
        (_host("DRAINING"), ()),
        (_host("UNREACHABLE", running=0), ()),
        (_host(name="other"), ()),
    ],
    ids=["it serves", "it drains", "it holds nothing", "it is not ours"],
)
async def test_nobody_is_asked_about_others(witness: Witness, parts: _Parts, host: HostView, left: Any) -> None:
    """The engine is not asked about an instance that serves, drains or holds nothing, or is not the launcher's."""
    await witness.look([host], epoch=1, left=left)
    assert (parts.asked, parts.told) == ([], [])


async def test_without_evidence_nothing_is_declared(witness: Witness, parts: _Parts) -> None:
    """The engine is asked again later: a job that ends takes a while."""
    parts.evidence = ""
    await witness.look([_host()], epoch=1, left=())
    await witness.look([_host()], epoch=1, left=())
    assert (parts.asked, parts.told) == (["12", "12"], [])


async def test_an_instance_that_a_new_kernel_only_awaits_is_remembered(witness: Witness, parts: _Parts) -> None:
    """A kernel that has just started lists only those that came back; one that lists it no more has forgotten it."""
    await witness.look([_host("ATTACHED")], epoch=1, left={"12"})
    await witness.look([], epoch=2, left={"12"})
    assert parts.asked == []
    for _ in range(2):
        await witness.look([], epoch=2, left=())
    assert parts.told == [("team", "inc")]
    await witness.look([_host("ATTACHED")], epoch=2, left={"12"})
    await witness.look([], epoch=2, left=())
    assert len(parts.asked) == 1


async def test_memory_has_an_end(witness: Witness, parts: _Parts, now: list[float]) -> None:
    """An instance of which nothing can be known is forgotten after an hour."""
    parts.evidence = ""
    await witness.look([_host("ATTACHED")], epoch=1, left={"12"})
    await witness.look([], epoch=2, left=())
    now[0] = 3601.0
    await witness.look([], epoch=2, left=())
    assert len(parts.asked) == 1
