"""Lists of runs: the messages of runs that were listed before are kept, and made anew when a run has changed."""

from __future__ import annotations

from rpc_histories import begin, finish
from rpc_world import World

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import run_pb2


async def test_a_list_shows_each_run_as_it_is_now(world: World) -> None:
    """A list that is asked for again is equal, and another one once a run has changed."""
    await begin(world)
    first, again = [await _listed(world) for _ in range(2)]
    assert first == again
    await world.apply(finish())
    (ended,) = (await _listed(world)).runs
    assert (first.runs[0].state, ended.state) == (run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_SUCCEEDED)


async def _listed(world: World) -> kernel.ListRunsResponse:
    return await world.client.ListRuns(kernel.ListRunsRequest(), timeout=20)
