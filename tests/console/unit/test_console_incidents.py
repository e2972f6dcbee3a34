"""Open incidents of the alerts among what needs a person."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from nomaflow.client.values.alerts import IncidentView, MuteView
from nomaflow_console.views.incidents import with_incidents
from nomaflow_console.views.situation import Need

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
FAILED = Need(key="failed.r", css="failed", sign="✕", subject="nightly", href="/runs/r", text="failed")


def incident(condition: str, **more: object) -> IncidentView:
    """Return an open incident of the job ``nightly``."""
    given = {"incident_id": 7, "title": f"nightly {condition}", "opened_at": NOW, "job_id": "nightly", **more}
    return IncidentView(condition=condition, **given)  # type: ignore[arg-type]


def test_what_is_listed_anyway_can_be_muted_there() -> None:
    """A failed run is listed once, with one thing more to do."""
    [need] = with_incidents([FAILED], [incident("failed")])
    assert [act.target for act in need.acts] == ["/alerts/mute?job=nightly"]


def test_what_no_page_shows_is_listed() -> None:
    """A late job, a channel that nobody reaches."""
    found = with_incidents(
        [], [incident("late", title="nightly is late", why="due at 02:00"), incident("undeliverable", job_id="")]
    )
    assert [(each.subject, each.href) for each in found] == [("nightly", "/jobs/nightly"), ("the kernel", "/kernel")]
    assert found[0].text == "is late: due at 02:00"


def test_a_mute_is_shown_instead_of_offered() -> None:
    """With its end, which the page shows in its zone, its author and its reason."""
    mute = MuteView(job_id="nightly", by="ann", why="moving", until=NOW)
    for need in with_incidents([FAILED], [incident("failed", mute=mute), incident("late", mute=mute)]):
        assert need.mute == mute
        assert "muted" not in need.text
        assert need.acts == ()


def test_the_failure_of_many_jobs_can_be_muted_by_their_host() -> None:
    """Unless all of its incidents are muted already, which the line says then; without incidents it is as it was."""
    many = replace(FAILED, subject="5 jobs", jobs=("nightly", "hourly"), host="billing")
    mute = MuteView(host="billing", by="ann", why="moving", until=NOW)
    [need] = with_incidents([many], [incident("failed", mute=mute), incident("failed", job_id="hourly")])
    assert [act.target for act in need.acts] == ["/alerts/mute?host=billing"]
    [need] = with_incidents([many], [incident("failed", mute=mute), incident("failed", job_id="hourly", mute=mute)])
    assert need.mute == mute
    assert with_incidents([many], [incident("failed", job_id="other")]) == [many]
