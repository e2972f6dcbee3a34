"""The time that a client waits for an answer."""

from __future__ import annotations

from fake_kernel import FakeKernel, make_run
from nomaflow.client import KernelClient, TriggerOrder
from nomaflow_api.deadlines import answer_seconds
from nomaflow_api.v1 import kernel_service_pb2 as pb


async def test_a_client_does_not_give_up_a_change_before_the_kernel(kernel: FakeKernel, client: KernelClient) -> None:
    """Until its deadline the kernel can still say what became of it."""
    kernel.runs["run_1"] = make_run()
    kernel.replies["TriggerRuns"] = pb.TriggerRunsResponse(items=[pb.TriggerRunsItem(response={"run_id": "run_1"})])
    await client.trigger_many([TriggerOrder(job_id="nightly")])
    await client.cancel("run_1")
    left = kernel.seconds_left
    assert {method: left[method] > answer_seconds(method) for method in left} == {
        "TriggerRuns": True,
        "CancelRun": True,
    }
