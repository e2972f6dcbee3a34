"""The client's calls about what a host offers, what an attempt does now, and replays with all their options."""

from __future__ import annotations

from collections.abc import Iterable

from nomaflow.client import values
from nomaflow.client.calls import Calls
from nomaflow.client.requests import ReplayOrder, trigger_span
from nomaflow_api.v1.message_codec import decode

__all__ = ["AttemptCalls"]


class AttemptCalls(Calls):
    """Looks at callables and attempts, and replays runs."""

    async def list_callables(self, host: str = "", *, references: Iterable[str] = ()) -> values.CallablesView:
        """Return what a host offers, asking for one page at a time.

        :param host: empty for the only one there is
        :param references: keeps these callables, at most 1,000, and leaves modules and step types out; empty for all
        """
        return decode(values.CallablesView, await self._whole("ListCallables", host=host, references=references))

    async def inspect_attempt(self, run_id: str, *, step: str = "", attempt: int = 0) -> values.InspectionView:
        """Return what a running attempt does now: its processes, and the stacks of its Python code.

        :param step: empty for the step in progress
        :param attempt: the number of the try; 0 for the newest
        """
        reply = await self._ask("InspectAttempt", run_id=run_id, step=step, attempt=attempt)
        return decode(values.InspectionView, reply)

    async def replay_run(self, order: ReplayOrder) -> values.Replayed:
        """Start a new run from a finished one, as an order says, or check whether that would be accepted."""
        request = order.to_request(default_by=self._by)
        with trigger_span(f"replay {order.run_id}") as traceparent:
            return decode(values.Replayed, await self._send("ReplayRun", request, traceparent))
