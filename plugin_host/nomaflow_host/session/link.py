"""The connection to one kernel: a channel for the session, another for reports."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, cast

import grpc.aio

from nomaflow.client.channels import Pair, open_channel
from nomaflow.client.numbered_exchanges import is_broken_connection
from nomaflow_api.addresses import is_tcp
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceStub
from nomaflow_host.session.failures import SessionDropped
from nomaflow_host.session.report_streams import ReportStreams

if TYPE_CHECKING:
    from nomaflow_api.v1.host_gateway_service_pb2_grpc import HostGatewayServiceAsyncStub
    from nomaflow_host.identity.files import Identity, IdentityFile

AttachCall = grpc.aio.StreamStreamCall[pb.AttachRequest, pb.AttachResponse]

_OPTIONS = {
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.min_reconnect_backoff_ms": 1_000,
    "grpc.max_reconnect_backoff_ms": 5_000,
    # An order has the params twice, and the results of earlier steps: with all of them at their limits it is larger
    # than gRPC's own limit of 4 MiB, and each session would end with it.
    "grpc.max_receive_message_length": 16 * 1024 * 1024,
}


class Link:
    """Two channels to one address, so that reports never hold up heartbeats.

    On TCP both sides prove who they are: nothing is sent to a server that no authority of the identity vouches for.

    :param identity_file: read now
    :raises NotJoined: if the address is on TCP and there is no usable identity
    :ivar identity: what is shown; None on a Unix socket
    """

    def __init__(self, *, address: str, identity_file: IdentityFile) -> None:
        self.identity: Identity | None = None
        ca, pair = None, None
        if is_tcp(address):
            self.identity = identity_file.read()
            ca = self.identity.authorities.encode()
            pair = Pair(certificate=self.identity.certificate.encode(), key=self.identity.key.encode())
        self._channels = tuple(open_channel(address, ca=ca, pair=pair, options=_OPTIONS) for _ in range(2))
        self._control, self._bulk = map(_stub, self._channels)
        self.introduce = self._bulk.IntroduceManifest
        """Sends a generation's manifest."""
        self.renew = self._bulk.RenewCertificate
        """Asks for the next certificate."""
        self._reports = ReportStreams(self._bulk.StreamReports)

    def attach(self) -> AttachCall:
        """Open the session's stream."""
        return self._control.Attach()

    async def report(self, request: pb.StreamReportsRequest, *, deadline_s: float) -> bytes:
        """Deliver events and return the acks, once :meth:`take_answer` has got them from the session.

        :raises grpc.aio.AioRpcError: if they are not taken
        """
        return await self._reports.deliver(request, timeout=deadline_s)

    def take_answer(self, answer: pb.ReportAnswer) -> None:
        """Take the session's answer to a report."""
        self._reports.take_answer(answer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(channel.close(None) for channel in self._channels))


async def write(call: AttachCall, message: pb.AttachRequest) -> None:
    """Send a message of a session.

    :raises asyncio.InvalidStateError: if the stream has ended
    :raises SessionDropped: if it ends just now; gRPC then does not tell how the kernel has ended it
    """
    try:
        await call.write(message)
    except grpc.aio.AioRpcError as error:
        if not is_broken_connection(error):
            raise
        raise SessionDropped("the kernel has ended it, or the connection broke, as a message was sent") from None


def _stub(channel: grpc.aio.Channel) -> HostGatewayServiceAsyncStub:
    return cast("HostGatewayServiceAsyncStub", HostGatewayServiceStub(channel))
