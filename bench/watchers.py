"""Watchers of events, all in one process: ``python -m bench.watchers ADDRESS COUNT JOB``; no job means every event.

Each is a stream of its own on one connection. Their messages are received and not decoded, so that this process takes
little of the time of those that are measured.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from bench.growth import Row, measured
from bench.system import System
from nomaflow_api.v1 import kernel_service_pb2 as service

__all__ = ["ELSEWHERE", "EVERYTHING", "with_watchers_elsewhere", "with_watchers_of_everything"]

ELSEWHERE = (0, 10, 100, 1_000)
EVERYTHING = (1, 10, 100)
_METHOD = "/nomaflow_api.v1.KernelService/WatchEvents"


async def with_watchers_elsewhere(counts: Sequence[int] = ELSEWHERE) -> list[Row]:
    """Measure with so many watchers of a job that does not run."""
    return await _with_watchers(counts, job_id="log")


async def with_watchers_of_everything(counts: Sequence[int] = EVERYTHING) -> list[Row]:
    """Measure with so many watchers that get every event."""
    return await _with_watchers(counts, job_id="")


async def _with_watchers(counts: Sequence[int], *, job_id: str) -> list[Row]:
    rows = []
    with System() as system:
        system.start_kernel()
        system.start_host()
        async with system.client() as client:
            await system.until_attached(client)
            for count in counts:
                with _watching(system.address, count, job_id):
                    rows.append(await measured(system, client, count))
    return rows


@contextmanager
def _watching(address: str, count: int, job_id: str) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.watchers", address, str(count), job_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"watching\n"
        try:
            yield
        finally:
            process.terminate()


async def _watch(address: str, count: int, job_id: str) -> None:
    request = service.WatchEventsRequest(job_id=job_id).SerializeToString()
    async with grpc.aio.insecure_channel(address) as channel:
        watch: Any = channel.unary_stream(_METHOD)
        streams = [watch(request) for _ in range(count)]
        await asyncio.gather(*(stream.read() for stream in streams))  # the bookmark that each begins with
        print("watching", flush=True)
        await asyncio.gather(*map(_to_the_end, streams))


async def _to_the_end(stream: grpc.aio.UnaryStreamCall[bytes, bytes]) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


if __name__ == "__main__":
    asyncio.run(_watch(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
