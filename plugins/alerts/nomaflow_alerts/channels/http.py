"""Requests to web servers: webhooks, pings, the heartbeat. httpx is loaded with the first one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nomaflow_alerts.channels.channel import NotSent

if TYPE_CHECKING:
    import httpx

__all__ = ["Web"]

_USER_AGENT = "nomaflow-alerts"


class Web:
    """Sends requests that follow no redirect: a signature is for the receiver that was named."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float) -> None:
        """Send a body.

        :raises NotSent: if the answer is not 2xx, or does not come in time
        """
        import httpx

        try:
            if self._client is None:
                self._client = httpx.AsyncClient(
                    follow_redirects=False, headers={"user-agent": _USER_AGENT}, trust_env=True
                )
            async with self._client.stream("POST", url, content=body, headers=dict(headers), timeout=seconds) as reply:
                status = reply.status_code  # the answer's text is not read: it may be endless
        except httpx.TimeoutException:
            raise NotSent(f"no answer within {seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:  # OSError: of SSL_CERT_FILE
            raise NotSent(f"it cannot be reached: {type(error).__name__}") from None
        if 300 <= status < 400:
            raise NotSent(f"it answered {status}, a redirect, which is not followed; give the final URL")
        if not 200 <= status < 300:
            raise NotSent(f"it answered {status}")

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
