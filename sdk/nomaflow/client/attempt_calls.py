"""The client's calls about what a host offers, what an attempt does now, and replays with all their options."""

from __future__ import annotations

from collections.abc import Iterable

from nomaflow.client import values
from nomaflow.client.connection import Connection
from nomaflow.client.requests import ReplayOrder, filled, trigger_span
from nomaflow_api.v1 import attempt_inspection_pb2, job_pb2
from nomaflow_api.v1.message_codec import decode

__all__ = ["AttemptCalls"]

_READ_SECONDS = 5.0
_WRITE_SECONDS = 10.0
_INSPECT_SECONDS = 10.0


class AttemptCalls:
    """Looks at callables and attempts, and replays runs."""

    _connection: Connection
    _by: str

    async def list_callables(self, host: str = "", *, references: Iterable[str] = ()) -> values.CallablesView:
        """Return what a host offers, asking for one page at a time.

        :param host: empty for the only one there is
        :param references: keeps these callables, at most 1,000, and leaves modules and step types out; empty for all
        """
        request = filled(job_pb2.ListCallablesRequest, host=host, references=references)
        whole = job_pb2.ListCallablesResponse()
        async for page in self._connection.pages("ListCallables", request, timeout=_READ_SECONDS):
            whole.MergeFrom(page)
        return decode(values.CallablesView, whole)

    async def inspect_attempt(self, run_id: str, *, step: str = "", attempt: int = 0) -> values.InspectionView:
        """Return what a running attempt does now: its processes, and the stacks of its Python code.

        :param step: empty for the step in progress
        :param attempt: the number of the try; 0 for the newest
        """
        request = filled(attempt_inspection_pb2.InspectAttemptRequest, run_id=run_id, step=step, attempt=attempt)
        reply = await self._connection.call("InspectAttempt", request, timeout=_INSPECT_SECONDS)
        return decode(values.InspectionView, reply)

    async def replay_run(self, order: ReplayOrder) -> values.Replayed:
        """Start a new run from a finished one, as an order says, or check whether that would be accepted."""
        request = order.to_request(default_by=self._by)
        with trigger_span(f"replay {order.run_id}") as traceparent:
            reply = await self._connection.call("ReplayRun", request, timeout=_WRITE_SECONDS, traceparent=traceparent)
        return decode(values.Replayed, reply)
