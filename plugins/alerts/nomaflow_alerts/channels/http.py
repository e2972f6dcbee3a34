"""Requests to web servers: webhooks, pings, the heartbeat. By the standard library, in a thread."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cache
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from nomaflow_alerts.channels.channel import NotSent
from nomaflow_alerts.channels.threads import Threads

_USER_AGENT = "nomaflow-alerts"


class Web:
    """Sends the requests of one channel. Certificates and proxies are those of the system and of the environment."""

    def __init__(self) -> None:
        self._threads = Threads("web")

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float) -> None:
        """Send a body.

        :raises NotSent: if the answer is not 2xx, or does not come in time
        """
        await self._threads.run(lambda: _post(url, body, headers, seconds), seconds=seconds)


def _post(url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> None:
    try:
        request = Request(url, data=body, headers={"user-agent": _USER_AGENT, **headers}, method="POST")  # noqa: S310
        with _opener().open(request, timeout=seconds) as reply:
            status = reply.status  # the answer's text is not read: it may be endless
    except HTTPError as error:
        error.close()
        status = error.code
    except (OSError, HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, TimeoutError):
            raise NotSent(f"no answer within {seconds:g} s") from None
        # Other texts of errors may quote the URL, which is a credential.
        known = cause.strerror if isinstance(cause, OSError) else None
        raise NotSent(f"it cannot be reached: {known or type(cause).__name__}") from None
    if 300 <= status < 400:
        raise NotSent(f"it answered {status}, a redirect, which is not followed; give the final URL")
    if not 200 <= status < 300:
        raise NotSent(f"it answered {status}")


@cache
def _opener() -> OpenerDirector:
    """Return what opens http and https, and follows no redirect: a signature is for the receiver that was named."""
    opener = OpenerDirector()
    handlers = (ProxyHandler(), HTTPHandler(), HTTPSHandler(context=ssl.create_default_context()), UnknownHandler())
    for handler in (*handlers, HTTPDefaultErrorHandler(), HTTPErrorProcessor()):
        opener.add_handler(handler)
    return opener
