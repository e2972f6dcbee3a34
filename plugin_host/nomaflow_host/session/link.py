"""The connection to one kernel: a channel for the session, another for reports."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import grpc.aio

from nomaflow.client.tls import open_channel
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_host.session.addresses import is_unix

if TYPE_CHECKING:
    from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceAsyncStub

__all__ = ["AttachCall", "Link"]

if TYPE_CHECKING:
    AttachCall = grpc.aio.StreamStreamCall[pb.AttachRequest, pb.AttachResponse]
else:
    AttachCall = grpc.aio.StreamStreamCall

_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_http_proxy", 0),
)


class Link:
    """Two channels to one address, so that reports never hold up heartbeats.

    :param token: sent on TCP; a Unix socket is protected by its directory
    :param ca: file of the authorities that the kernel's certificate must come from, read now; None for the system's
    :raises NotTrusted: if that file cannot be used
    """

    def __init__(self, *, address: str, token: str = "", ca: Path | None = None) -> None:
        self.address = address
        metadata = (("authorization", f"Bearer {token}"),) if token and not is_unix(address) else ()
        self._metadata = metadata
        self._channels = tuple(open_channel(address, ca=ca, options=_OPTIONS) for _ in range(2))
        self._control, self._bulk = map(_stub, self._channels)

    def attach(self) -> AttachCall:
        """Open the session's stream."""
        return self._control.Attach(metadata=self._metadata)

    async def report(self, request: pb.ReportRequest, *, deadline_s: float) -> pb.ReportResponse:
        """Deliver events.

        :raises grpc.aio.AioRpcError: if the call fails
        """
        return await self._bulk.Report(request, timeout=deadline_s, metadata=self._metadata)

    async def introduce(
        self, request: pb.IntroduceManifestRequest, *, deadline_s: float
    ) -> pb.IntroduceManifestResponse:
        """Send a generation's manifest.

        :raises grpc.aio.AioRpcError: if the call fails
        """
        return await self._bulk.IntroduceManifest(request, timeout=deadline_s, metadata=self._metadata)

    async def close(self) -> None:
        """Close both channels at once."""
        await asyncio.gather(*(channel.close(None) for channel in self._channels))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _stub(channel: grpc.aio.Channel) -> HostGatewayServiceAsyncStub:
    return cast("HostGatewayServiceAsyncStub", HostGatewayServiceStub(channel))
