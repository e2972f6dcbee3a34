"""Checks values in a worker, since annotations and validators are the authors' code and may hang or die."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from nomaflow_host.supervisor.values import Refused
from nomaflow_host.supervisor.worker_handle import WorkerHandle

if TYPE_CHECKING:
    from nomaflow_host.supervisor.pool import WorkerPool
    from nomaflow_host.supervisor.reload import GenerationLoader
    from nomaflow_host.supervisor.serving_generation import ServingGeneration


class ValueChecker:
    """Checks values in an exclusive worker that runs nothing else meanwhile, so that it can be killed."""

    def __init__(self, *, pool: WorkerPool, loader: GenerationLoader) -> None:
        self._pool = pool
        self._loader = loader
        self._worker: WorkerHandle | None = None
        self._number = 0

    async def check(self, steps: bytes, seconds: float) -> bytes | None:
        """Return the values that callables of the serving generation would refuse, as a sealed list of ValueProblem.

        The result is None, for unchecked, if nothing serves, no worker can be started for it, it takes longer than
        *seconds*, or its worker dies.

        :param steps: a sealed list of CheckedStep
        """
        generation = self._loader.serving
        if generation is None:
            return None
        try:
            worker = self._take(generation)
        except Refused:
            return None
        loop = asyncio.get_running_loop()
        self._number += 1
        number = self._number
        answer: asyncio.Future[bytes | None] = loop.create_future()
        worker.checks[number] = answer
        worker.link.send_soon({"is": "check", "number": number}, letter=steps)
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            self._worker = None  # later checks go to another worker
            return None
        finally:
            if number in worker.checks:
                loop.call_later(seconds, self._end_if_stuck, worker, number)
            else:
                self._release(worker)

    def _take(self, generation: ServingGeneration) -> WorkerHandle:
        """Return the worker that already checks, else an idle one, else a new one."""
        worker = self._worker
        if worker is None or not worker.checks or worker.closed or worker.generation is not generation:
            worker = self._worker = self._pool.take(generation, exclusive=True)
        return worker

    def _end_if_stuck(self, worker: WorkerHandle, number: int) -> None:
        """Kill a worker that has not finished a check yet. The pool takes care of one that is still starting."""
        if number not in worker.checks or not worker.ready:
            self._release(worker)
        elif worker.kill_note is None:
            worker.kill("a check of values did not end in it")

    def _release(self, worker: WorkerHandle) -> None:
        if self._pool.get(worker.number) is worker:
            worker.idle_since = time.monotonic()
            self._pool.released(worker)
