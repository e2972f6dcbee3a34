"""A host's main process with failpoints: ``python torture_host.py DIRECTORY [host's arguments]``.

It is the host as shipped, composed by its own `main`; only its link, its runner and its spill files are wrapped.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from failpoints import Failpoints

import nomaflow_host.app
import nomaflow_host.session.reconnecting
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.letters import CancelOrder, DispatchOrder, Finished
from nomaflow_host.__main__ import main as host_main
from nomaflow_host.outbox import event_storage as spill
from nomaflow_host.outbox.event_storage import SpillStore
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.process.runner import SupervisedRunner
from nomaflow_host.session.link import Link

_MEMORY_BYTES = 2048
"""What all attempts keep in memory before events go to files: little, so that the files are tortured too."""
_UNDER_WAY_SECONDS = 0.003


def make_link(points: Failpoints) -> type[Link]:
    """Return a link whose reports have failpoints."""

    class WatchedLink(Link):
        """A link with failpoints."""

        async def report(self, request: pb.StreamReportsRequest, *, deadline_s: float) -> bytes:
            """Deliver events."""
            points.hit("report.before")
            call = asyncio.ensure_future(super().report(request, deadline_s=deadline_s))
            if points.waiting("report.sent"):
                await asyncio.wait([call], timeout=_UNDER_WAY_SECONDS)
                points.hit("report.sent")
            response = await call
            points.hit("report.acked")
            return response

    return WatchedLink


def make_runner(points: Failpoints) -> type[SupervisedRunner]:
    """Return a runner whose orders have failpoints."""

    class WatchedRunner(SupervisedRunner):
        """A runner with failpoints."""

        def accept(self, order: DispatchOrder) -> None:
            """Start an attempt."""
            points.hit("accept.before")
            super().accept(order)
            points.hit("accept.after")

        def cancel(self, order: CancelOrder) -> None:
            """Stop an attempt."""
            points.hit("cancel.before")
            super().cancel(order)
            points.hit("cancel.after")

    return WatchedRunner


def make_outbox(points: Failpoints) -> type[Outbox]:
    """Return an outbox that has failpoints where an outcome becomes known."""

    class WatchedOutbox(Outbox):
        """An outbox with failpoints."""

        def finished(self, attempt_key: str, event: Finished) -> None:
            """Keep an outcome."""
            points.hit("finished.before")
            super().finished(attempt_key, event)
            points.hit("finished.after")

    return WatchedOutbox


def make_segment(points: Failpoints) -> type[spill.Segment]:
    """Return a spill file whose writes have failpoints."""

    class WatchedSegment(spill.Segment):
        """A spill file with failpoints."""

        def append(self, data: bytes, *, lines: int) -> None:
            """Write one event."""
            points.hit("spill.before")
            super().append(data, lines=lines)
            points.hit("spill.after")

    return WatchedSegment


def main(arguments: list[str]) -> int:
    """Run the host with failpoints."""
    points = Failpoints(directory=Path(arguments[0]))

    def small_spill_store(**kwargs: Any) -> SpillStore:
        return SpillStore(memory_cap_bytes=_MEMORY_BYTES, **kwargs)

    for module, name, replacement in (
        (nomaflow_host.app, "Outbox", make_outbox(points)),
        (nomaflow_host.app, "SpillStore", small_spill_store),
        (nomaflow_host.app, "SupervisedRunner", make_runner(points)),
        (nomaflow_host.session.reconnecting, "Link", make_link(points)),
        (spill, "Segment", make_segment(points)),
    ):
        assert hasattr(module, name), f"{module.__name__} has no {name!r} any more"
        setattr(module, name, replacement)
    return host_main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
