"""Runs a callable in a test as a plugin host would: real injection, coercion and normalisation, and no server.

::

    from nomaflow.testing import run_callable

    async def test_purge():
        outcome = await run_callable(purge_old_sessions, op_kwargs={"apps_id": "10"})
        assert outcome.state == "SUCCEEDED"
        assert outcome.rows_affected == 3

It needs the host's machinery: ``pip install 'nomaflow[host]'``.
"""

from __future__ import annotations

from nomaflow.testing.connectors import FakeConnectors, connectors_from
from nomaflow.testing.running import CallableOutcome, run_callable, run_callable_sync

__all__ = ["CallableOutcome", "FakeConnectors", "connectors_from", "run_callable", "run_callable_sync"]
