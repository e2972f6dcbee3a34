"""The state of a host as one JSON-ready object: counts, and the first few entries of each list."""

from __future__ import annotations

import os
from itertools import islice
from typing import Any

from msgspec import to_builtins

from nomaflow_host.session.reconnecting import HostSession
from nomaflow_host.supervisor.supervisor import Supervisor
from nomaflow_telemetry.stacks import process_stacks

_SHOWN = 200
_OF_GENERATION = ("number", "digest", "loaded_at_us", "forkable", "unforkable_reason")


def host_state(supervisor: Supervisor, session: HostSession) -> dict[str, Any]:
    """Return the state of a host."""
    generation, outbox = supervisor.loader.serving, session.outbox
    workers, attempts = supervisor.pool.statuses(), supervisor.attempts.statuses()
    return {
        "part": "host",
        "pid": os.getpid(),
        "incarnation": session.identity.incarnation,
        "session": {
            "attached": session.attached.is_set(),
            "kernel": session.address,
            "epoch": session.epoch_seen,
            "trouble": session.trouble,
        },
        "generation": None if generation is None else {name: getattr(generation, name) for name in _OF_GENERATION},
        "reaper_pid": supervisor.reaper_identity.pid,
        "isolation_mechanism": supervisor.mechanism,
        "workers": {"count": len(workers), "first": [to_builtins(each) for each in islice(workers, _SHOWN)]},
        "attempts": {"count": len(attempts), "first": attempts[:_SHOWN]},
        "outbox": {
            "attempts": outbox.attempts,
            "memory_bytes": outbox.memory_bytes,
            "spilled_bytes": outbox.spilled_bytes,
            "saturated": outbox.saturated,
        },
        **process_stacks(),
    }
