"""Measures the store's runs per second, by batch: ``python tests/contract/store/store_rates.py [URL]`` prints JSON.

A run here is what a one-step job writes: queued, started and dispatched in one batch; started, reported and finished in
the next. Every batch is one durable commit.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence

from store_histories import T0, finish, finished, opened, queue, reported, start, started

from nomaflow_kernel.history.ids import RunIds
from nomaflow_kernel.history.transitions import Transition
from nomaflow_kernel.store.sql_store import Store, open_store

SIZES = {1: 1_000, 10: 4_000, 200: 20_000}


def _begin(run_ids: Sequence[str]) -> list[Transition]:
    return [
        t
        for i, r in enumerate(run_ids)
        for t in (queue(r, request_id=r, request_hash="h", definition_digest=f"d{i % 7}"), start(r), opened(r))
    ]


def _end(run_ids: Sequence[str]) -> list[Transition]:
    return [t for r in run_ids for t in (started(r), reported(r, 2), finished(r, rows_affected=1), finish(r))]


async def _rate(store: Store, *, ids: RunIds, size: int, total: int) -> float:
    batches = [[ids.new() for _ in range(size)] for _ in range(total // size)]
    work = [(_begin(run_ids), _end(run_ids)) for run_ids in batches]
    began = time.perf_counter()
    for begin, end in work:
        assert not (await store.apply(begin, at_us=T0)).lost
        assert not (await store.apply(end, at_us=T0)).lost
    return total / (time.perf_counter() - began)


async def measure(url: str) -> dict[str, float]:
    """Return runs a second by batch size."""
    store = open_store(url)
    await store.open()
    ids = RunIds(now_ms=lambda: time.time_ns() // 1_000_000)
    rates = {str(size): round(await _rate(store, ids=ids, size=size, total=n)) for size, n in SIZES.items()}
    await store.close()
    return rates


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        place = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/history.db"
        print(json.dumps({"runs_per_second_by_batch": asyncio.run(measure(place))}))
