"""Runs that wait to start, by host, priority and job.

Within a host the higher priority goes first; within a priority the jobs take turns, so that a thousand runs of one job
do not hold up the single run of another; within a job the oldest goes first. Runs that start beside others of their
job, whatever its policy, have a line of their own: they do not wait behind one that has to.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from heapq import merge
from itertools import islice

from nomaflow_kernel.history.records import QueuedRun, TriggerKind

_Line = tuple[str, bool]
"""A job, and whether the runs start beside others of it."""

_Runs = OrderedDict[str, QueuedRun]
"""The runs of one line in one lane by their ids, oldest first."""

_Lane = OrderedDict[_Line, _Runs]
"""Line → its runs. The lines are in the order of their turns."""


class WaitingRuns:
    """The queue. Entries are small: the data that a run needs to start is loaded when its turn comes."""

    def __init__(self) -> None:
        self._entries: dict[str, QueuedRun] = {}
        self._hosts: dict[str, dict[int, _Lane]] = {}
        self._host_counts: Counter[str] = Counter()
        self._author_counts: Counter[str] = Counter()
        self._group_counts: Counter[tuple[str, str, TriggerKind]] = Counter()
        self._jobs: dict[str, dict[tuple[str, int, bool], _Runs]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._entries

    def get(self, run_id: str) -> QueuedRun | None:
        """Return the entry, or None."""
        return self._entries.get(run_id)

    def add(self, run: QueuedRun) -> None:
        """Put a run into the queue."""
        self._entries[run.run_id] = run
        lane = self._hosts.setdefault(run.host, {}).setdefault(run.priority, OrderedDict())
        line = _line(run)
        runs = lane.get(line)
        if runs is None:
            runs = lane[line] = OrderedDict()
            self._jobs.setdefault(run.job_id, {})[run.host, run.priority, run.allow_overlap] = runs
        runs[run.run_id] = run
        self._host_counts[run.host] += 1
        self._author_counts[run.author] += 1
        self._group_counts[_group(run)] += 1

    def remove(self, run_id: str) -> None:
        """Remove a run, if it is there."""
        run = self._entries.pop(run_id, None)
        if run is not None:
            self._leave_lane(run)
            self._host_counts[run.host] -= 1
            self._author_counts[run.author] -= 1
            group = _group(run)
            self._group_counts[group] -= 1
            if not self._group_counts[group]:
                del self._group_counts[group]

    def _leave_lane(self, run: QueuedRun) -> None:
        lanes = self._hosts[run.host]
        lane, of_job = lanes[run.priority], self._jobs[run.job_id]
        line = _line(run)
        runs = lane[line]
        del runs[run.run_id]
        if not runs:
            del lane[line], of_job[run.host, run.priority, run.allow_overlap]
        if not of_job:
            del self._jobs[run.job_id]
        if not lane:
            del lanes[run.priority]

    def of_job(self, job_id: str, limit: int | None = None, *, host: str | None = None) -> list[QueuedRun]:
        """Return the oldest waiting runs of a job, ``limit`` at most; None for all.

        :param host: the host in whose lanes they wait; None for any
        """
        return [self._entries[run_id] for run_id in islice(merge(*self._runs_of_job(job_id, host)), limit)]

    def oldest_of_job(self, job_id: str, *, host: str | None = None) -> QueuedRun | None:
        """Return the oldest waiting run of a job, or of those for one host; None if there is none."""
        return next(iter(self.of_job(job_id, 1, host=host)), None)

    def count_of_job(self, job_id: str, *, host: str | None = None) -> int:
        """Return how many runs of a job wait, or how many of those for one host."""
        return sum(map(len, self._runs_of_job(job_id, host)))

    def _runs_of_job(self, job_id: str, host: str | None) -> list[_Runs]:
        return [runs for (lane, *_), runs in self._jobs.get(job_id, {}).items() if host in (None, lane)]

    def lanes_of_job(self, job_id: str) -> set[str]:
        """Return the hosts in whose lanes runs of a job wait: those of a job that was moved may be in several."""
        return {host for host, *_ in self._jobs.get(job_id, ())}

    def count_of_host(self, host: str) -> int:
        """Return how many runs of a host wait."""
        return self._host_counts[host]

    def count_of_author(self, author: str) -> int:
        """Return how many runs of a user or service wait."""
        return self._author_counts[author]

    def counts(self) -> Mapping[tuple[str, str, TriggerKind], int]:
        """Return how many runs wait, by job, the job's host and the kind of their trigger."""
        return self._group_counts

    def hosts(self) -> list[str]:
        """Return the hosts that have waiting runs."""
        return [host for host, count in self._host_counts.items() if count]

    def jobs_of_host(self, host: str) -> list[str]:
        """Return the jobs that have waiting runs of a host."""
        return list(dict.fromkeys(job_id for lane in self._hosts.get(host, {}).values() for job_id, _ in lane))

    def coming(self, host: str, limit: int) -> list[QueuedRun]:
        """Return up to ``limit`` runs of a host whose turn comes soon, by priority; the jobs take turns."""
        lanes = self._hosts.get(host, {})
        in_order = (run for priority in sorted(lanes, reverse=True) for run in self._in_turn(lanes[priority]))
        return list(islice(in_order, limit))

    def _in_turn(self, lane: _Lane) -> Iterator[QueuedRun]:
        lines = deque(iter(runs.values()) for runs in lane.values())
        while lines:
            line = lines.popleft()
            if (run := next(line, None)) is not None:
                yield run
                lines.append(line)

    def next_of(self, host: str, may_start: Callable[[QueuedRun], bool]) -> QueuedRun | None:
        """Return the next run of a host, which keeps its place.

        :param may_start: called with the oldest run of each line in turn
        :returns: None if none may start
        """
        lanes = self._hosts.get(host, {})
        lines = (runs for priority in sorted(lanes, reverse=True) for runs in lanes[priority].values())
        return next(filter(may_start, (next(iter(runs.values())) for runs in lines)), None)

    def take(self, run: QueuedRun) -> None:
        """Take a run out of the queue; the next turn is that of another line."""
        lane, line = self._hosts[run.host][run.priority], _line(run)
        self.remove(run.run_id)
        if line in lane:
            lane.move_to_end(line)


def _line(run: QueuedRun) -> _Line:
    return run.job_id, run.allow_overlap


def _group(run: QueuedRun) -> tuple[str, str, TriggerKind]:
    return run.job_id, run.job_host, run.kind
