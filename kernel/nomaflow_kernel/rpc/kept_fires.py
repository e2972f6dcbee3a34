"""Answers of ListFires that are kept until a fire is due, or something in them changes.

A page of the schedule asks for the same days again whenever a run begins or ends.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from msgspec import Struct

from nomaflow_api.bounds import LAST_MOMENT_US
from nomaflow_api.v1 import fire_pb2
from nomaflow_kernel.catalogue import Job
from nomaflow_kernel.engine.state import RecentlyUsed
from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.rpc.job_message_cache import same_jobs

_MOST, _MOST_FIRES = 8, 2_000


class Basis(Struct, frozen=True, kw_only=True):
    """The jobs, pauses and beginning that an answer is made from.

    :param begin_us: the first instant that it covers
    :param jobs: those that the caller may read and asks for
    """

    begin_us: int
    jobs: Sequence[Job]
    pauses: Sequence[PauseRecord]


class _Kept(Struct, frozen=True, kw_only=True):
    """One answer.

    :param before_us: it is right for every beginning before that instant, at which something fires
    :param until_us: until when it may be used
    """

    basis: Basis
    before_us: int
    until_us: int
    answer: fire_pb2.ListFiresResponse

    def answers(self, asked: Basis, now_us: int) -> bool:
        return (
            now_us < self.until_us
            and self.basis.begin_us <= asked.begin_us < self.before_us
            and same_jobs(self.basis.jobs, asked.jobs)
            and self.basis.pauses == asked.pauses
        )


class KeptFires:
    """The answers given last, by what was asked for."""

    def __init__(self) -> None:
        self._kept: RecentlyUsed[Hashable, _Kept] = RecentlyUsed(_MOST)

    def of(self, asked_for: Hashable, basis: Basis, *, now_us: int) -> fire_pb2.ListFiresResponse | None:
        """Return the answer if it is kept and still right; nobody may change it."""
        kept = self._kept.find(asked_for)
        return kept.answer if kept is not None and kept.answers(basis, now_us) else None

    def keep(self, asked_for: Hashable, basis: Basis, answer: fire_pb2.ListFiresResponse, *, until_us: int) -> None:
        """Keep an answer, at most until an instant: what is usual for a job does change, if slowly.

        :param asked_for: all but the beginning, which moves on with the clock
        """
        due = [*(fire.at for fire in answer.fires[:1]), *(each.next for each in answer.frequent)]
        before_us = min((moment.ToMicroseconds() for moment in due), default=LAST_MOMENT_US)
        if before_us <= basis.begin_us or len(answer.fires) > _MOST_FIRES:
            return
        self._kept.put(asked_for, _Kept(basis=basis, before_us=before_us, until_us=until_us, answer=answer))
