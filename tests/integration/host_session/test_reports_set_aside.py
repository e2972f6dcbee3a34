"""Reports that the kernel fails on: they wait, and hold up no others."""

from __future__ import annotations

from typing import Any

import grpc
from session_steps import MakeGateway, MakeHost, running

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.sealing import open_reports

_FAILING = 20


async def test_attempts_that_the_kernel_fails_on_hold_up_no_others(gateway: MakeGateway, host: MakeHost) -> None:
    """Others arrive, however many are set aside; these follow once the kernel has been mended."""
    kernel = await gateway()
    mine = host()
    bad = [f"run_{number}/bad/1" for number in range(_FAILING)]
    for key in (*bad, "run_1/good/1"):
        await running(mine, kernel, key)

    async def fail(request: pb.StreamReportsRequest, context: Any) -> bytes | None:
        if any(b"poison" in event for each in open_reports(request.attempts) for event in each.events):
            await context.abort(grpc.StatusCode.INTERNAL, "an error of its own")
        return None

    kernel.on_report = fail
    for key in bad:
        mine.log(key, b"poison")
        mine.finish(key)
    mine.log("run_1/good/1", b"fine")
    mine.finish("run_1/good/1")
    await kernel.journal.until(lambda: kernel.journal.acked("run_1/good/1") == 3, 10)
    assert {kernel.journal.acked(key) for key in bad} == {1}
    kernel.on_report = None
    await kernel.journal.until(lambda: mine.outbox.empty, 30)
    assert {tuple(kernel.journal.kinds(key)) for key in bad} == {("started", "log", "finished")}
