"""A kernel that does not trace itself passes the trace context of a trigger on to the host."""

from __future__ import annotations

from kernel_process import DEADLINE, KernelProcess, ScriptedHost

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from waiting import eventually

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"


async def triggered(process: KernelProcess, *, traceparent: str, request_id: str = "") -> str:
    """Trigger a run under a trace context and return its id."""
    request = kernel.TriggerRunRequest(job_id="one", request_id=request_id)
    metadata = (("traceparent", traceparent),) if traceparent else ()
    answer = await process.client().TriggerRun(request, metadata=metadata, timeout=DEADLINE)
    return str(answer.run_id)


async def test_the_context_of_a_trigger_reaches_the_host_also_after_a_restart(
    process: KernelProcess, host: ScriptedHost
) -> None:
    """A run that waited for its host while the kernel was killed still has its trace context."""
    await host.attach(process.channel())
    run_id = await triggered(process, traceparent=TRACEPARENT)
    first = await host.dispatched()
    assert (first.run_id, first.traceparent) == (run_id, TRACEPARENT)
    await host.leave()
    await eventually(lambda: "host team detached" in process.log)  # else the next run would be for it
    waiting = await triggered(process, traceparent=TRACEPARENT)
    await process.kill()
    await process.start()
    later = ScriptedHost(incarnation="another-instance")
    try:
        await later.attach(process.channel())
        dispatched = await later.dispatched()
        assert (dispatched.run_id, dispatched.traceparent) == (waiting, TRACEPARENT)
    finally:
        await later.leave()


async def test_what_is_no_context_is_not_passed_on(process: KernelProcess, host: ScriptedHost) -> None:
    """The run still starts if its trace context is malformed."""
    await host.attach(process.channel())
    for sent in ("", "nonsense", TRACEPARENT.upper(), TRACEPARENT + "-more"):
        run_id = await triggered(process, traceparent=sent)
        dispatched = await host.dispatched()
        assert (dispatched.run_id, dispatched.traceparent) == (run_id, ""), sent


async def test_a_repeat_under_another_context_is_the_same_request(process: KernelProcess, host: ScriptedHost) -> None:
    """A client that asks again has a new span; the request id still stands for one run."""
    await host.attach(process.channel())
    first = await triggered(process, traceparent=TRACEPARENT, request_id="r-1")
    assert await triggered(process, traceparent=OTHER, request_id="r-1") == first
