"""The client of a project's alerts: incidents, messages, mutes, tests.

.. code-block:: python

    async with AlertsClient(project) as alerts:
        for incident in (await alerts.list_incidents()).incidents:
            print(incident.title, incident.count)
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import grpc

from nomaflow.client.errors import ClientError, ClientUnusable, ReplyTimeout
from nomaflow.client.failed_calls import STATUS_ERRORS
from nomaflow.client.requests import filled
from nomaflow.client.values.alerts import (
    AlertMessageView,
    AlertsView,
    IncidentsView,
    MuteView,
    TestedChannelView,
)
from nomaflow_api.addresses import address_in
from nomaflow_api.v1 import alerts_service_pb2 as service
from nomaflow_api.v1.alerts_service_pb2_grpc import AlertsServiceStub
from nomaflow_api.v1.message_codec import decode

_ANSWER_BYTES = 64 * 1024 * 1024
"""A thousand messages of 8 KiB are more than gRPC's own limit of 4 MiB."""
_SECONDS = 5.0
_TEST_SECONDS = 120.0


class AlertsUnreachable(ClientError):
    """Raised when no process of ``nomaflow alerts serve`` answers for a project."""

    default_reason = "ALERTS_UNREACHABLE"


def alerts_address_file(project: Path) -> Path:
    """Return the file in which the process of a project writes its address."""
    return project / ".nomaflow" / "alerts.address"


class AlertsClient:
    """Asks the alerts' process of a project, on its Unix socket.

    Every method may raise `AlertsUnreachable`, at once if no process runs, and the errors of
    :mod:`nomaflow.client.errors`.
    """

    def __init__(self, project: Path) -> None:
        self._project = project
        self._channel: grpc.aio.Channel | None = None
        self._address = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection, and end calls under way. May be called twice; the next call opens another one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def get_alerts(self) -> AlertsView:
        """Return the state of the process."""
        return decode(AlertsView, await self._ask("GetAlerts"))

    async def list_incidents(
        self, *, job_id: str = "", host: str = "", include_closed: bool = False, limit: int = 0
    ) -> IncidentsView:
        """Return incidents, open ones first, then the newest first.

        :param host: keeps those of the host and of its jobs
        :param limit: at most 1,000; 0 means 200
        """
        reply = await self._ask("ListIncidents", job_id=job_id, host=host, include_closed=include_closed, limit=limit)
        return decode(IncidentsView, reply)

    async def list_messages(
        self, *, channel: str = "", state: str = "", limit: int = 0
    ) -> tuple[AlertMessageView, ...]:
        """Return outgoing messages, newest first.

        :param limit: at most 1,000; 0 means 50
        """
        reply = await self._ask("ListMessages", channel=channel, state=state, limit=limit)
        return tuple(decode(AlertMessageView, each) for each in reply.messages)

    async def mute(
        self, *, until: datetime, by: str, why: str, job_id: str | None = None, host: str | None = None
    ) -> MuteView:
        """Keep messages about a job, a host or (if both are None) everything back until an end."""
        reply = await self._ask("Mute", job_id=job_id, host=host, until=until, by=by, why=why)
        return decode(MuteView, reply.mute)

    async def unmute(self, *, job_id: str | None = None, host: str | None = None) -> bool:
        """End a mute; returns False if nothing was muted."""
        return bool((await self._ask("Unmute", job_id=job_id, host=host)).was_muted)

    async def test_channels(
        self, channels: Iterable[str] = (), *, job_id: str = "", condition: str = "", by: str = ""
    ) -> tuple[TestedChannelView, ...]:
        """Send a real message, marked as a test, and return what each channel answered.

        :param channels: empty for all, or for those of the job
        :param job_id: makes it the message of an incident of that job
        :param condition: that of the incident, such as ``late``; empty for ``failed``
        """
        reply = await self._ask("TestChannels", channels=channels, job_id=job_id, condition=condition, by=by)
        return tuple(decode(TestedChannelView, each) for each in reply.results)

    async def _ask(self, method: str, /, **fields: Any) -> Any:
        request = filled(getattr(service, f"{method}Request"), **fields)
        seconds = _TEST_SECONDS if method == "TestChannels" else _SECONDS
        try:
            return await getattr(AlertsServiceStub(await self._open()), method)(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise self._unreachable() from None
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise ReplyTimeout(
                    f"the alerts of {str(self._project)!r} have not answered within {seconds:g} s",
                    fix="look at their log, .nomaflow/alerts.log or that of their service",
                ) from None
            kind = STATUS_ERRORS.get(error.code(), ClientError)
            raise kind(error.details() or error.code().name.lower()) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise (ClientUnusable.closed() if self._channel is None else self._unreachable()) from None

    async def _open(self) -> grpc.aio.Channel:
        try:
            address = address_in(alerts_address_file(self._project))
        except (OSError, ValueError):
            raise self._unreachable() from None
        if self._channel is None or address != self._address:
            await self.close()
            options = [("grpc.max_receive_message_length", _ANSWER_BYTES)]
            self._channel, self._address = grpc.aio.insecure_channel(address, options), address
        return self._channel

    def _unreachable(self) -> AlertsUnreachable:
        return AlertsUnreachable(
            f"no alerts are served for {str(self._project)!r}",
            fix=f"start them with: nomaflow alerts serve {shlex.quote(str(self._project))}",
        )
