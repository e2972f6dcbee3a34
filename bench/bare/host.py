"""The bare host: ``python -m bench.bare.host ADDRESS``. It runs nothing and says that it is done."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import grpc

from nomaflow_api.bounds import REPORTED_ATTEMPTS
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import host_gateway_service_pb2_grpc
from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_api.v1.letters import AttemptReport, Finished, Started
from nomaflow_api.v1.sealing import open_dispatch, seal


class Host:
    """Reads dispatches, and reports with one call under way at a time: a method that the product does not have."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = host_gateway_service_pb2_grpc.HostGatewayServiceStub(channel)
        self._report = channel.unary_unary(
            "/nomaflow_api.v1.HostGatewayService/Report",
            request_serializer=gateway.StreamReportsRequest.SerializeToString,
            response_deserializer=gateway.ReportAnswer.FromString,
        )
        self._unsent: list[AttemptReport] = []
        self._some = asyncio.Event()

    async def read(self) -> None:
        """Run a task for each dispatch."""
        call = self._stub.Attach(iter(()))
        tasks: set[asyncio.Task[None]] = set()
        async for message in call:  # type: ignore[attr-defined]  # the stub is typed for synchronous channels
            for command in message.commands.commands:
                task = asyncio.create_task(self._run(open_dispatch(command.dispatch).attempt_key))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    async def report(self) -> None:
        """Report what has gathered while the last call was under way."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._unsent:
                sent, self._unsent = self._unsent[:REPORTED_ATTEMPTS], self._unsent[REPORTED_ATTEMPTS:]
                await self._report(gateway.StreamReportsRequest(incarnation="bare", epoch=1, attempts=seal(sent)))

    async def _run(self, key: str) -> None:
        started = Started(at_us=time.time_ns() // 1000, worker_pid=os.getpid(), generation=1)
        finished = Finished(at_us=time.time_ns() // 1000, state=FinishedState.SUCCEEDED)
        self._unsent.append(AttemptReport(attempt_key=key, first_seq=1, events=(seal(started), seal(finished))))
        self._some.set()


async def main() -> None:
    """Serve until the kernel is gone."""
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        host = Host(channel)
        await asyncio.gather(host.read(), host.report())


if __name__ == "__main__":
    asyncio.run(main())
