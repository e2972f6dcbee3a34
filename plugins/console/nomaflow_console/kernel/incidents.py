"""Open incidents of the project's alerts, and their mutes, if a process of `nomaflow alerts serve` runs beside."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import Request

from nomaflow.client import ClientError, PermissionDenied
from nomaflow.client.alerts import AlertsClient
from nomaflow.client.values.alerts import IncidentView

_SECONDS = 1.0


def alerts_of(request: Request) -> AlertsClient:
    """Return a client of the alerts. They know all jobs, so they are for the owner alone.

    :raises PermissionDenied: if the session is that of a token
    """
    if request.state.session.token is not None:
        raise PermissionDenied("only the owner may see and mute the project's alerts")
    return AlertsClient(request.app.state.settings.project)


async def open_incidents(request: Request) -> Sequence[IncidentView]:
    """Return the open incidents; none where there are no alerts, or the session may not see them."""
    try:
        async with asyncio.timeout(_SECONDS), alerts_of(request) as client:
            return (await client.list_incidents()).incidents
    except (ClientError, TimeoutError):
        return ()
