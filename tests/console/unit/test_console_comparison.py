"""Two runs side by side."""

from __future__ import annotations

import pytest

from nomaflow.client.values import RunView, TriggerView
from nomaflow_console.views.run_comparison import compare


@pytest.mark.parametrize(
    ("kind", "by", "told"),
    [("replay", "owner (for ann)", "replay ann"), ("manual", "bob", "manual bob"), ("cron", "", "cron")],
)
def test_the_person_is_named_as_on_other_pages(kind: str, by: str, told: str) -> None:
    """The principal is a matter of the kernel's history."""
    run = RunView(run_id="run_1", job_id="j", state="SUCCEEDED", trigger=TriggerView(kind=kind, by=by))
    (row,) = [row for row in compare(run, run) if row.name == "trigger"]
    assert (row.one, row.differs) == (told, False)
