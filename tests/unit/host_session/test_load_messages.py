"""The messages about a load."""

from __future__ import annotations

from nomaflow_host.session.encoding import loaded_message
from nomaflow_host.supervisor.values import LoadOutcome


def test_a_load_names_fifty_jobs_of_each_kind_and_counts_all() -> None:
    """Whoever shows the message can say how many more there are."""
    names = {kind: tuple(f"{kind}-{number}" for number in range(60)) for kind in ("removed", "added", "stopped")}
    message = loaded_message(LoadOutcome(accepted=True, generation=2, digest="", **names))
    for listed, counted in (
        (message.removed_job_ids, message.removed_count),
        (message.added_job_ids, message.added_count),
        (message.stopped_schedules, message.stopped_count),
    ):
        assert (len(listed), counted) == (50, 60)
