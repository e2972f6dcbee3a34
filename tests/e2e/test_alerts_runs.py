"""Alerts of runs on real processes: failed, recovered, late, missed, never started, running for too long, odd rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alerts_system import SECRET, AlertsSystem, open_alerts
from standardwebhooks import Webhook

JOBS = """
[[jobs]]
id = "fine"
steps = [{ callable = "team.code:count" }]

[[jobs]]
id = "failing"
steps = [{ name = "one", callable = "team.code:fail" }]
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[AlertsSystem]:
    """Give a project without processes."""
    with open_alerts(tmp_path) as system:
        yield system


def test_a_failure_is_told_and_its_end(system: AlertsSystem) -> None:
    """One signed message when it fails, one when it succeeds again, with what a person needs."""
    system.settings()
    system.write(JOBS)
    system.start_kernel()
    system.start_host()
    system.start_alerts()
    run = system.ask("run", "failing", "--wait", code=1)["run_id"]
    [told] = system.received(1)
    assert (told["type"], told["subject"], told["total"]) == ("incidents.opened", "failing failed", 1)
    for text in ("try 1", "host team, step one", f"nomaflow show {run}", f"nomaflow replay {run} --from-failed"):
        assert text in told["text"]
    post = system.web.taken()[0]
    assert Webhook(SECRET).verify(post.body, dict(post.headers))["id"] == told["id"]
