"""Counts of runs by state, kept for slices of history: a tally of a day or a month reads little more than what is new.

A slice holds the runs whose ids begin alike, those of about 17 minutes. Its counts are good until a transaction changes
one of its runs. Each transaction notes its slices before it commits, under the number of transactions before it. A
reader first reads how many transactions its snapshot has. Counts that were kept are good for it if the last
transaction that noted the slice is in its snapshot, and in the one that they were counted in. So nothing depends on who
learns of a commit first, and a tally is that of one moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, groupby

from sqlalchemy import Connection, select

from nomaflow_kernel.history.ids import first_run_id
from nomaflow_kernel.history.lookups import RunCount
from nomaflow_kernel.history.states import RunState
from nomaflow_kernel.history.transitions import FinishRun, FoldRun, QueueRun, StartRun, Transition, run_of
from nomaflow_kernel.store.operations.run_lists import SLACK_MS
from nomaflow_kernel.store.operations.tallies import count_runs, count_slices
from nomaflow_kernel.store.schema import kernel

_BITS = 20
"""A slice spans this many bits of milliseconds: the last four characters of an id's time."""
_NAME = len("run_") + 6
"""The number of characters that the ids of a slice share."""
_MOST = 6_000
"""The most slices that are kept: those of ten weeks."""
_COUNTED = frozenset({QueueRun, StartRun, FinishRun, FoldRun})
"""The transitions that add a run, or change its state, its fold or its rows."""
_COMMITS = select(kernel.c.commits)


class SliceCounts:
    """The counts of one store, which this process alone writes. Its methods may be called in any thread."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, Sequence[RunCount]]] = {}
        self._changed: dict[str, int] = {}
        self._changed_before = -1

    def note(self, run_ids: Iterable[str], *, commits: int) -> None:
        """Note that a transaction changes runs; call it before the transaction commits.

        :param commits: number of transactions committed before it
        """
        for run_id in run_ids:
            self._changed[run_id[:_NAME]] = commits
        if len(self._changed) > _MOST:
            self._changed_before = commits  # first: a reader in between finds too little good, never too much
            self._changed = {}

    def count(self, connection: Connection, *, since_us: int, until_us: int) -> list[RunCount]:
        """Return the number of runs queued in a range, by state."""
        commits = connection.execute(_COMMITS).scalar_one()
        first = (since_us // 1000 + SLACK_MS >> _BITS) + 1
        end = until_us // 1000 - SLACK_MS >> _BITS
        if end <= first:
            return count_runs(connection, since_us=since_us, until_us=until_us)
        good = {number: self._good(number, commits) for number in range(first, end)}
        missing = [number for number, counts in good.items() if counts is None]
        for _, consecutive in groupby(enumerate(missing), key=lambda pair: pair[1] - pair[0]):
            numbers = [number for _, number in consecutive]
            counted = count_slices(connection, _first_id(numbers[0]), _first_id(numbers[-1] + 1), length=_NAME)
            for number in numbers:
                good[number] = kept = counted.get(_name(number), [])
                self._kept[_name(number)] = commits, kept
        if len(self._kept) > _MOST:
            self._kept = {}
        rest = count_runs(connection, since_us=since_us, until_us=until_us, without=(_first_id(first), _first_id(end)))
        return _summed(chain(rest, *(counts for counts in good.values() if counts)))

    def _good(self, number: int, commits: int) -> Sequence[RunCount] | None:
        """Return the counts of a slice; None if they are not known, or not good for a snapshot of so many commits."""
        counted_in, counts = self._kept.get(_name(number), (-1, None))
        return counts if self._changed.get(_name(number), self._changed_before) < min(counted_in, commits) else None


def counted_runs(transitions: Iterable[Transition]) -> Iterator[str]:
    """Yield the runs whose counts a batch of transitions changes."""
    for each in transitions:
        if type(each) in _COUNTED:
            yield run_of(each)
        if type(each) is FoldRun:
            yield each.otherwise.run.run_id


def _first_id(number: int) -> str:
    return first_run_id(number << _BITS)


@lru_cache(maxsize=_MOST)
def _name(number: int) -> str:
    return _first_id(number)[:_NAME]


def _summed(counts: Iterable[RunCount]) -> list[RunCount]:
    sums: dict[RunState, tuple[int, int, int]] = {}
    for each in counts:
        runs, fires, rows = sums.get(each.state, (0, 0, 0))
        sums[each.state] = runs + each.runs, fires + each.fires, rows + each.rows_affected
    return [RunCount(state=state, runs=s[0], fires=s[1], rows_affected=s[2]) for state, s in sums.items()]
