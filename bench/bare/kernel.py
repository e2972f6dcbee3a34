"""The bare kernel: ``python -m bench.bare.kernel SOCKET DATABASE``."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

from bench.bare.store import Store
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1 import kernel_service_pb2 as service
from nomaflow_api.v1 import run_pb2
from nomaflow_api.v1.letters import AttemptAck, DispatchOrder
from nomaflow_api.v1.sealing import open_reports, seal

_RUN_ID = "run_{:026d}"


class Kernel:
    """Takes triggers and reports, sends dispatches; all of them in batches."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers = itertools.count()
        self._unsent: list[gateway.Command] = []
        self._some = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watcher: asyncio.Queue[str] | None = None

    async def trigger_runs(self, request: service.TriggerRunsRequest, context: Any) -> service.TriggerRunsResponse:
        """Insert the runs, acknowledge them, and continue with them."""
        rows = [(_RUN_ID.format(next(self._numbers)), one.request_id) for one in request.requests]
        await self._queue(rows)
        return service.TriggerRunsResponse(
            items=[service.TriggerRunsItem(response=_accepted(run_id)) for run_id, _ in rows]
        )

    async def trigger_run(self, request: service.TriggerRunRequest, context: Any) -> service.TriggerRunResponse:
        """Do the same with one run."""
        row = (_RUN_ID.format(next(self._numbers)), request.request_id)
        await self._queue([row])
        return _accepted(row[0])

    async def watch_events(self, request: Any, context: Any) -> AsyncIterator[service.WatchEventsResponse]:
        """Send the end of each run."""
        ended: asyncio.Queue[str] = asyncio.Queue()
        self._watcher = ended
        await context.send_initial_metadata(())
        while True:
            message = service.WatchEventsResponse()
            message.events.add().run_id = await ended.get()
            yield message

    async def attach(self, requests: Any, context: Any) -> AsyncIterator[gateway.AttachResponse]:
        """Send what has gathered while the last message was on its way."""
        while True:
            await self._some.wait()
            self._some.clear()
            unsent, self._unsent = self._unsent, []
            yield gateway.AttachResponse(commands=gateway.CommandBatch(commands=unsent))

    async def report(self, request: gateway.StreamReportsRequest, context: Any) -> gateway.ReportAnswer:
        """Finish the runs, then acknowledge."""
        reports = open_reports(request.attempts)
        run_ids = [one.attempt_key.partition("/")[0] for one in reports]
        await self._store.change(run_ids, expected="DISPATCHED", state="SUCCEEDED")
        if self._watcher is not None:
            for run_id in run_ids:
                self._watcher.put_nowait(run_id)
        return gateway.ReportAnswer(
            acks=seal([AttemptAck(attempt_key=one.attempt_key, acknowledged_seq=2) for one in reports])
        )

    async def _queue(self, rows: list[tuple[str, str]]) -> None:
        inserted = await self._store.insert(rows)
        run_ids = [run_id for (run_id, _), new in zip(rows, inserted, strict=True) if new]
        task = asyncio.create_task(self._dispatch(run_ids))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dispatch(self, run_ids: list[str]) -> None:
        applied = await self._store.change(run_ids, expected="QUEUED", state="DISPATCHED")
        self._unsent += [_dispatch(run_id) for run_id, ours in zip(run_ids, applied, strict=True) if ours]
        self._some.set()


def _accepted(run_id: str) -> service.TriggerRunResponse:
    return service.TriggerRunResponse(run_id=run_id, state=run_pb2.RUN_STATE_QUEUED)


def _dispatch(run_id: str) -> gateway.Command:
    order = DispatchOrder(attempt_key=f"{run_id}/nothing/1", epoch=1, callable="nothing")
    return gateway.Command(dispatch=seal(order))


def _handlers(kernel: Kernel) -> tuple[grpc.GenericRpcHandler, ...]:
    calls: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "TriggerRuns": grpc.unary_unary_rpc_method_handler(
            kernel.trigger_runs,
            service.TriggerRunsRequest.FromString,
            service.TriggerRunsResponse.SerializeToString,
        ),
        "TriggerRun": grpc.unary_unary_rpc_method_handler(
            kernel.trigger_run, service.TriggerRunRequest.FromString, service.TriggerRunResponse.SerializeToString
        ),
        "WatchEvents": grpc.unary_stream_rpc_method_handler(
            kernel.watch_events, service.WatchEventsRequest.FromString, service.WatchEventsResponse.SerializeToString
        ),
    }
    of_hosts: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Attach": grpc.stream_stream_rpc_method_handler(
            kernel.attach, gateway.AttachRequest.FromString, gateway.AttachResponse.SerializeToString
        ),
        "Report": grpc.unary_unary_rpc_method_handler(
            kernel.report, gateway.StreamReportsRequest.FromString, gateway.ReportAnswer.SerializeToString
        ),
    }
    return (
        grpc.method_handlers_generic_handler("nomaflow_api.v1.KernelService", calls),
        grpc.method_handlers_generic_handler("nomaflow_api.v1.HostGatewayService", of_hosts),
    )


async def main() -> None:
    """Serve until killed."""
    address, database = sys.argv[1:]
    kernel = Kernel(Store(database))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(_handlers(kernel))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
