"""The pool of workers: started ahead of need, kept while clean, replaced when old."""

from __future__ import annotations

import contextlib
import time
from itertools import islice
from typing import TYPE_CHECKING

from nomaflow_api.bounds import LISTED_WORKERS
from nomaflow_host.channel.ring.page import MAX_SLOTS
from nomaflow_host.reaper.proc import read_process
from nomaflow_host.supervisor.values import Refused, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nomaflow_host.supervisor.serving_generation import ServingGeneration
    from nomaflow_host.supervisor.settings import SupervisorSettings
    from nomaflow_host.supervisor.worker_handle import WorkerHandle

_IDLE_SECONDS = 30.0
_KEYS_OF_WORKER = 100
KEYS_IN_ALL = 1_000
"""Attempts that the statuses of all workers name: a kernel takes four times as many."""
_RSS_STEP = 4 << 20
"""Sizes are reported in steps of this size: a heartbeat leaves out workers if nothing about them has changed."""


class WorkerPool:
    """The workers of all generations.

    :param start: starts a worker of a generation; exclusive ones run one attempt at a time
    :param shut_down: ends an idle worker gracefully
    """

    def __init__(
        self,
        *,
        settings: SupervisorSettings,
        start: Callable[..., WorkerHandle],
        shut_down: Callable[[WorkerHandle], None],
    ) -> None:
        self._settings = settings
        self._start = start
        self._shut_down = shut_down
        self._workers: dict[int, WorkerHandle] = {}

    def __iter__(self) -> Iterator[WorkerHandle]:
        return iter(list(self._workers.values()))

    def get(self, number: int) -> WorkerHandle | None:
        """Return the worker of that number, None if it is gone."""
        return self._workers.get(number)

    def statuses(self) -> list[WorkerStatus]:
        """Return the status of each started worker."""
        found: list[WorkerStatus] = []
        keys_left = KEYS_IN_ALL
        for worker in self:
            if worker.pid:
                named = islice(worker.attempts.values(), min(_KEYS_OF_WORKER, keys_left))
                keys = tuple(attempt.order.attempt_key for attempt in named)
                keys_left -= len(keys)
                found.append(
                    WorkerStatus(
                        pid=worker.pid,
                        exclusive=worker.exclusive,
                        generation=worker.generation.number,
                        running=len(worker.attempts),
                        attempt_keys=keys,
                        rss_bytes=-(-_resident(worker.pid) // _RSS_STEP) * _RSS_STEP
                        if len(found) < LISTED_WORKERS
                        else 0,
                        started_at_us=worker.started_at_us,
                    )
                )
        return found

    def overdue(self, seconds: float) -> list[WorkerHandle]:
        """Return the workers that did not become ready within *seconds* and are not being killed yet."""
        now = time.monotonic()
        return [w for w in self if not w.ready and w.kill_note is None and now - w.made > seconds]

    def take(self, generation: ServingGeneration, *, exclusive: bool) -> WorkerHandle:
        """Return a worker for one more attempt, a new one if need be. It may still be starting: orders wait for it.

        :raises Refused: if no further one can be started
        """
        if exclusive:
            best = max(self._idle(generation), key=lambda worker: (worker.ready, worker.steps), default=None)
            return best or self._add(generation, exclusive=True)
        shared = [w for w in self._of(generation) if not w.exclusive]
        least = min(shared, key=lambda worker: len(worker.attempts), default=None)
        wanted = len(shared) < self._settings.shared_workers
        if least is None or (least.attempts and wanted) or len(least.attempts) == MAX_SLOTS:
            return self._add(generation, exclusive=False)
        return least

    def prepare(self, generation: ServingGeneration) -> None:
        """Start workers until enough are ready ahead of need, or no further one can be started."""
        if generation.retired:
            return
        has_async, has_sync = generation.has_kind
        with contextlib.suppress(Refused):
            if has_sync:
                wanted = min(self._settings.spare_exclusive, self._settings.max_sync)
                for _ in range(wanted - len(self._idle(generation))):
                    self._add(generation, exclusive=True)
            if has_async and not any(not w.exclusive for w in self._of(generation)):
                self._add(generation, exclusive=False)

    def released(self, worker: WorkerHandle) -> None:
        """Take a worker back after one of its attempts has ended: keep it, replace it, or end it."""
        if self._is_old(worker):
            worker.closed = True
        if worker.closed and not worker.attempts and not worker.checks and worker.kill_note is None:
            self._shut_down(worker)

    def retire(self, generation: ServingGeneration) -> None:
        """End a generation's idle workers; the others accept nothing new and end with their attempts."""
        generation.retired = True
        for worker in self._of(generation):
            worker.closed = True
            self.released(worker)

    def trim(self) -> None:
        """End exclusive workers that were idle for long."""
        now = time.monotonic()
        for generation in {id(w.generation): w.generation for w in self._workers.values()}.values():
            idle = sorted(self._idle(generation), key=lambda worker: worker.idle_since)
            for worker in idle[: max(0, len(idle) - self._settings.spare_exclusive)]:
                if now - worker.idle_since > _IDLE_SECONDS:
                    worker.closed = True
                    self.released(worker)

    def remove(self, worker: WorkerHandle) -> None:
        """Forget a worker that has ended."""
        self._workers.pop(worker.number, None)

    def _add(self, generation: ServingGeneration, *, exclusive: bool) -> WorkerHandle:
        worker = self._start(generation, exclusive=exclusive)
        self._workers[worker.number] = worker
        return worker

    def _of(self, generation: ServingGeneration) -> list[WorkerHandle]:
        return [w for w in self._workers.values() if w.generation is generation and not w.closed]

    def _idle(self, generation: ServingGeneration) -> list[WorkerHandle]:
        return [w for w in self._of(generation) if w.exclusive and not w.attempts and not w.checks]

    def _is_old(self, worker: WorkerHandle) -> bool:
        settings = self._settings
        if settings.recycle_after_steps is not None and worker.steps >= settings.recycle_after_steps:
            return True
        growth = settings.recycle_growth_mb
        return growth is not None and _resident(worker.pid) - worker.first_rss > growth << 20


def _resident(pid: int) -> int:
    info = read_process(pid)
    return 0 if info is None else info.rss_bytes
