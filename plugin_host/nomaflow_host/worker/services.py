"""The services that every attempt of a worker shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from nomaflow_host.channel.async_link import AsyncLink
    from nomaflow_host.channel.ring.page import RingPage
    from nomaflow_host.connectors.registry import HostConnectorRegistry
    from nomaflow_host.generation.generation import Generation
    from nomaflow_host.worker.emitter import Emitter
    from nomaflow_host.worker.streams import WorkerStreams


class WorkerServices(Struct, frozen=True, kw_only=True):
    """The collaborators of an attempt.

    :param link: the connection to the host's main process; only for the loop's thread
    :param restore: restores the streams and signal handlers that a step has changed
    :param exclusive: True if this worker runs one attempt at a time
    """

    loop: asyncio.AbstractEventLoop
    link: AsyncLink
    page: RingPage
    emitter: Emitter
    streams: WorkerStreams
    restore: Callable[[], None]
    generation: Generation
    connectors: HostConnectorRegistry
    environ: Mapping[str, str]
    exclusive: bool
