"""The ceiling that the product is compared with: its messages and durable commits, and none of its code.

A kernel that commits a run as QUEUED before it acknowledges the trigger, as DISPATCHED before it sends it, and as
SUCCEEDED before it acknowledges the report, each by compare-and-set with an outcome of its own and an event beside it;
one thread that commits all that waits as one transaction; a host that does nothing for each dispatch and reports it;
gRPC between them. It has no workers, jobs, steps, logs or checks.
"""

from __future__ import annotations

from bench.bare.system import BareSystem

__all__ = ["BareSystem"]
