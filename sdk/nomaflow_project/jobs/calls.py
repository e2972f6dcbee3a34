"""Calls between jobs: checks for missing targets, and for circles."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from nomaflow_project.jobs.definitions import JobDefinition
from nomaflow_project.jobs.text_forms import is_job_id
from nomaflow_project.reading.problems import Place, Problem, did_you_mean
from nomaflow_project.reading.work_time import check_time

_SHOWN = 10
"""The most jobs that a message shows at either end of a chain."""


def check_calls(definitions: Mapping[str, JobDefinition], places: Mapping[str, Place]) -> Iterator[tuple[str, Problem]]:
    """Yield (job id, problem) for calls of unknown jobs, and for jobs that call themselves through a circle."""
    calls = {
        job_id: [step.target_job_id for step in definition.steps if step.calls_job and step.enabled]
        for job_id, definition in definitions.items()
    }
    for job_id, definition in definitions.items():
        for index, step in enumerate(definition.steps):
            if step.target_job_id and step.target_job_id not in places:
                at = places[job_id] / "steps" / index / "target_job_id"
                message = f"these files have no job {step.target_job_id!r}; without it, the step fails"
                others = (each for each in places if each != job_id and is_job_id(each))
                fix = did_you_mean(step.target_job_id, others, noun="job")
                yield job_id, at.warning("unknown_target", message, fix=fix)
    for job_id in _in_circles(calls):
        check_time()
        chain = _chain_back(job_id, calls)
        if chain:
            message = f"the job calls itself: {' → '.join(_shortened(chain))}"
            fix = "remove one of the calls"
            yield job_id, (places[job_id] / "steps").error("call_cycle", message, fix=fix)


def _shortened(chain: Sequence[str]) -> Sequence[str]:
    """Return a chain as a message shows it: a circle of a thousand jobs is reported for each of them."""
    return chain if len(chain) <= 2 * _SHOWN else [*chain[:_SHOWN], "…", *chain[-_SHOWN:]]


def _in_circles(calls: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the jobs that remain after repeatedly removing all jobs that call no other, or that no other calls."""
    left = {job_id: {target for target in targets if target in calls} for job_id, targets in calls.items() if targets}
    while True:
        check_time()
        called = {target for targets in left.values() for target in targets}
        remaining = {
            job_id: kept
            for job_id, targets in left.items()
            if job_id in called and (kept := {target for target in targets if target in left})
        }
        if remaining == left:
            return list(left)
        left = remaining


def _chain_back(start: str, calls: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the shortest chain of calls from a job to itself, or nothing."""
    came_from: dict[str, str] = {}
    waiting = deque([start])
    while waiting:
        caller = waiting.popleft()
        for target in calls.get(caller, ()):
            if target == start:
                chain = [start]
                while caller != start:
                    check_time()
                    chain.insert(0, caller)
                    caller = came_from[caller]
                return [start, *chain]
            if target not in came_from:
                came_from[target] = caller
                waiting.append(target)
    return []
