"""A launcher's process that runs an engine's command 300 times, while four callers keep gRPC at work."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc
from grpc import aio

from nomaflow.client import KernelPlace
from nomaflow_launchers import app
from nomaflow_launchers.__main__ import main
from nomaflow_launchers.engines.slurm import Slurm
from nomaflow_project.models.launcher_section import LauncherSection


async def serve(place: KernelPlace, section: LauncherSection, environ: dict[str, str]) -> None:
    """Stands in for a launcher's turns."""
    engine = Slurm(section, project=place.project or Path(), environ=environ)
    server = aio.server()
    server.add_generic_rpc_handlers((_Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        callers = [asyncio.create_task(_call(channel)) for _ in range(4)]
        for _ in range(300):
            assert [each.engine_id for each in await engine.listed("store")] == ["7"]
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
    await server.stop(None)


async def _call(channel: aio.Channel) -> None:
    echo = channel.unary_unary("/test/Echo")
    while True:
        assert await echo(b"x") == b"x"


class _Echo(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def echo(request: bytes, _context: object) -> bytes:
            return request

        return grpc.unary_unary_rpc_method_handler(echo)


if __name__ == "__main__":
    app.serve = serve
    sys.exit(main(["--project", sys.argv[1]]))
