"""A crowd of instances and a long queue on two kernels, of which the one that leads is gone.

The full size is ``make crowd``: 990 instances of 99 hosts, 100,000 jobs, 100,000 queued runs.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from crowded_pair import crowded_pair
from postgres_server import PostgresServer

pytestmark = [pytest.mark.e2e, pytest.mark.postgres]

HOSTS = int(os.environ.get("NOMAFLOW_CROWD_HOSTS", "10"))
INSTANCES = 10
JOBS = int(os.environ.get("NOMAFLOW_CROWD_JOBS", "20"))
QUEUED = int(os.environ.get("NOMAFLOW_CROWD_QUEUED", "1000"))
SECONDS = float(os.environ.get("NOMAFLOW_CROWD_SECONDS", "60"))
"""The most that a step of the test takes, on a machine that is busy with others."""
TAKEOVER_SECONDS = 25.0
"""20 are promised; the rest is for a busy machine."""


async def test_a_leader_is_gone_under_load(postgres_server: PostgresServer) -> None:
    """Its machine stops: the other leads in time with all that was queued; everybody is back, and each run is run once."""
    plan = {"hosts": HOSTS, "instances": INSTANCES, "jobs": JOBS}
    with (
        tempfile.TemporaryDirectory(prefix="nc-") as folder,
        crowded_pair(Path(folder), postgres_server, database="crowd", plan=plan) as pair,
    ):
        pair.crowd.until_attached(seconds=SECONDS)
        async with pair.client:
            await pair.queue(QUEUED)
            assert pair.rows("SELECT count(*) FROM runs WHERE state = 'QUEUED'")[0][0] > QUEUED / 2
            took = await pair.freeze_leader(seconds=SECONDS)
            print(took)
            assert max(took["leads"], took["fires"]) < TAKEOVER_SECONDS
            told = await pair.drain(QUEUED + 1, seconds=SECONDS)
        assert (told["accepted"], told["twice"], told["killed"], told["refused"]) == (QUEUED + 1, 0, 0, {})
        assert pair.rows("SELECT state, count(*) FROM runs GROUP BY state") == [("SUCCEEDED", QUEUED + 1)]
        assert pair.rows("SELECT max(attempt) FROM attempts") == [(1,)]
