"""The messages of listed jobs, kept until something in them changes.

A page of the console asks for all jobs again whenever something happens to one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_

from msgspec import Struct

from nomaflow_api.v1 import job_pb2
from nomaflow_kernel.catalogue import Job
from nomaflow_kernel.engine.state import RecentlyUsed
from nomaflow_kernel.history.records import PauseRecord, RunRecord
from nomaflow_kernel.rpc.messages import job_message

_FIRES = 1
_MOST = 20_000


def same_jobs(one: Sequence[Job], other: Sequence[Job]) -> bool:
    """Return whether two lists have the very same jobs; comparing thousands that are merely equal would take long."""
    return len(one) == len(other) and all(map(is_, one, other))


class _Kept(Struct, frozen=True, kw_only=True):
    """A message, and what it was made from; it is right until the fire that it shows."""

    entry: Job
    pause: PauseRecord | None
    why: str
    last_run: RunRecord | None
    until_us: int | None
    message: job_pb2.Job

    def tells(self, entry: Job, pause: PauseRecord | None, why: str, last_run: RunRecord | None, now_us: int) -> bool:
        return (
            self.entry is entry
            and (self.until_us is None or now_us < self.until_us)
            and self.why == why
            and self.last_run == last_run
            and self.pause == pause
        )


class JobMessageCache:
    """Makes the messages of jobs in lists: with the next fire only, and without the definition."""

    def __init__(self) -> None:
        self._kept: RecentlyUsed[tuple[str, str], _Kept] = RecentlyUsed(_MOST)

    def message(
        self, entry: Job, *, now_us: int, pause: PauseRecord | None, why_not_running: str, last_run: RunRecord | None
    ) -> job_pb2.Job:
        """Return the message of a job, which is the caller's to change."""
        kept = self._kept.find(entry.key)
        if kept is None or not kept.tells(entry, pause, why_not_running, last_run, now_us):
            made = job_message(
                entry, now_us=now_us, fires=_FIRES, pause=pause, why_not_running=why_not_running, last_run=last_run
            )
            until_us = made.next_fires[0].at.ToMicroseconds() if made.next_fires else None
            kept = _Kept(
                entry=entry, pause=pause, why=why_not_running, last_run=last_run, until_us=until_us, message=made
            )
            self._kept.put(entry.key, kept)
        message = job_pb2.Job()
        message.CopyFrom(kept.message)
        return message
