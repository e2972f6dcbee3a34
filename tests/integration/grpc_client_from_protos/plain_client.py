"""A client written from the .proto files alone: plain grpc, stubs of its own, nothing of the product.

Usage: plain_client.py ADDRESS JOB PARAMS_JSON. Prints one JSON object: the run as it ended, its events, its log.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1 import kernel_service_pb2_grpc, run_pb2


def reason_of(error: Any) -> str:
    """Return the stable reason of an error, from the details that travel with it."""
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return f"{info.domain}/{info.reason}"
    return ""


def main(address: str, job_id: str, params: str) -> None:
    """Trigger a run, watch it to its end, read its log."""
    with grpc.insecure_channel(address) as channel:
        stub = kernel_service_pb2_grpc.KernelServiceStub(channel)
        try:
            stub.GetJob(kernel.GetJobRequest(job_id="no-such-job"), timeout=10)
            refusal = ""
        except grpc.RpcError as error:
            refusal = reason_of(error)
        request = kernel.TriggerRunRequest(job_id=job_id, params_json=params.encode(), request_id="from-protos")
        run_id = stub.TriggerRun(request, timeout=10).run_id
        again = stub.TriggerRun(request, timeout=10)
        print(run_id, file=sys.stderr, flush=True)
        kinds, last_seq = [], 0
        for message in stub.WatchRun(kernel.WatchRunRequest(run_id=run_id)):
            for event in message.events:
                kinds.append(event.kind)
                assert event.seq > last_seq
                last_seq = event.seq
        run = stub.GetRun(kernel.GetRunRequest(run_id=run_id), timeout=10).run
        lines = [
            line.message.decode()
            for block in stub.ReadLogs(kernel.ReadLogsRequest(run_id=run_id), timeout=10)
            for line in block.lines
        ]
    told = {
        "stubs": kernel.__file__,
        "loaded": sorted(name for name in sys.modules if name.partition(".")[0].startswith("nomaflow")),
        "refusal": refusal,
        "run_id": run_id,
        "deduplicated": again.deduplicated and again.run_id == run_id,
        "state": run_pb2.RunState.Name(run.state),
        "rows_affected": run.rows_affected,
        "params": json.loads(run.params_json),
        "kinds": kinds,
        "lines": lines,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
