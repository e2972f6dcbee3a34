"""Runs that wait to start, by host, priority and job.

Within a host the higher priority goes first; within a priority the jobs take turns, so that a thousand runs of one job
do not hold up the single run of another; within a job the oldest goes first.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from nomaflow_kernel.history.records import QueuedRun, TriggerKind

_Lane = OrderedDict[str, deque[QueuedRun]]


class WaitingRuns:
    """The queue. Entries are small: the data that a run needs to start is loaded when its turn comes."""

    def __init__(self) -> None:
        self._entries: dict[str, QueuedRun] = {}
        self._hosts: dict[str, dict[int, _Lane]] = {}
        self._host_counts: dict[str, int] = {}
        self._author_counts: Counter[str] = Counter()
        self._group_counts: Counter[tuple[str, str, TriggerKind]] = Counter()
        self._jobs: dict[str, OrderedDict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._entries

    def get(self, run_id: str) -> QueuedRun | None:
        """Return the entry, or None."""
        return self._entries.get(run_id)

    def add(self, run: QueuedRun, *, first: bool = False) -> None:
        """Put a run into the queue; ``first`` puts it back at the front."""
        self._entries[run.run_id] = run
        lane = self._hosts.setdefault(run.host, {}).setdefault(run.priority, OrderedDict())
        turns = lane.setdefault(run.job_id, deque())
        if first:
            turns.appendleft(run)
            lane.move_to_end(run.job_id, last=False)
        else:
            turns.append(run)
        self._host_counts[run.host] = self._host_counts.get(run.host, 0) + 1
        if run.author:
            self._author_counts[run.author] += 1
        self._group_counts[_group(run)] += 1
        self._jobs.setdefault(run.job_id, OrderedDict())[run.run_id] = None

    def remove(self, run_id: str) -> QueuedRun | None:
        """Remove a run; its place in the lane is skipped when its turn comes."""
        run = self._entries.pop(run_id, None)
        if run is not None:
            self._host_counts[run.host] -= 1
            if run.author:
                self._author_counts[run.author] -= 1
            group = _group(run)
            self._group_counts[group] -= 1
            if not self._group_counts[group]:
                del self._group_counts[group]
            ids = self._jobs[run.job_id]
            ids.pop(run_id, None)
            if not ids:
                del self._jobs[run.job_id]
        return run

    def of_job(self, job_id: str) -> list[str]:
        """Return the ids of the waiting runs of a job, oldest first."""
        return list(self._jobs.get(job_id, ()))

    def oldest_of_job(self, job_id: str) -> QueuedRun | None:
        """Return the oldest waiting run of a job, or None."""
        return self._entries.get(next(iter(self._jobs.get(job_id, ())), ""))

    def first_of_job(self, job_id: str, limit: int | None = None) -> list[QueuedRun]:
        """Return the oldest waiting runs of a job, ``limit`` at most; None for all."""
        return [self._entries[run_id] for run_id in islice(self._jobs.get(job_id, ()), limit)]

    def count_of_job(self, job_id: str) -> int:
        """Return how many runs of a job wait."""
        return len(self._jobs.get(job_id, ()))

    def count_of_host(self, host: str) -> int:
        """Return how many runs of a host wait."""
        return self._host_counts.get(host, 0)

    def count_of_author(self, author: str) -> int:
        """Return how many runs of a user or service wait."""
        return self._author_counts.get(author, 0)

    def counts(self) -> Mapping[tuple[str, str, TriggerKind], int]:
        """Return how many runs wait, by job, the job's host and the kind of their trigger."""
        return self._group_counts

    def hosts(self) -> list[str]:
        """Return the hosts that have waiting runs."""
        return [host for host, count in self._host_counts.items() if count]

    def jobs_of_host(self, host: str) -> list[str]:
        """Return the jobs that may have waiting runs of a host."""
        return list(dict.fromkeys(job_id for lane in self._hosts.get(host, {}).values() for job_id in lane))

    def next_ids(self, host: str, limit: int) -> list[str]:
        """Return up to ``limit`` ids of runs of a host whose turn comes soon, by priority; the jobs take turns."""
        lanes = self._hosts.get(host, {})
        in_order = (run_id for priority in sorted(lanes, reverse=True) for run_id in self._in_turn(lanes[priority]))
        return list(islice(in_order, limit))

    def _in_turn(self, lane: _Lane) -> Iterator[str]:
        lines = deque(iter(turns) for turns in lane.values())
        while lines:
            line = lines.popleft()
            run = next((each for each in line if self._entries.get(each.run_id) is each), None)
            if run is not None:
                yield run.run_id
                lines.append(line)

    def take(self, host: str, may_start: Callable[[QueuedRun], bool]) -> QueuedRun | None:
        """Take the next run of a host out of the queue.

        :param may_start: called with the oldest run of each job in turn
        :returns: None if none may start
        """
        lanes = self._hosts.get(host)
        if not lanes:
            return None
        for priority in sorted(lanes, reverse=True):
            found = self._take_from(lanes[priority], may_start)
            if found is not None:
                return found
            if not lanes[priority]:
                del lanes[priority]
        return None

    def _take_from(self, lane: _Lane, may_start: Callable[[QueuedRun], bool]) -> QueuedRun | None:
        for job_id in list(lane):
            turns = lane[job_id]
            while turns and self._entries.get(turns[0].run_id) is not turns[0]:
                turns.popleft()
            if not turns:
                del lane[job_id]
                continue
            run = turns[0]
            if may_start(run):
                turns.popleft()
                if turns:
                    lane.move_to_end(job_id)
                else:
                    del lane[job_id]
                self.remove(run.run_id)
                return run
        return None


def _group(run: QueuedRun) -> tuple[str, str, TriggerKind]:
    return run.job_id, run.job_host or run.host, run.kind
