"""Steps that take liberties with their process: they end as said, and nobody else notices."""

from __future__ import annotations

import pytest
from contract_stage import Stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]


@pytest.fixture(autouse=True)
def neighbours_are_well(stage: Stage) -> None:
    """Run what comes next in the same workers."""


def well(stage: Stage) -> None:
    """Check that steps of both kinds run as ever."""
    for reference in ("rude.at_work:neighbour", "rude.at_work:neighbour_async"):
        ran = stage.run(reference)
        assert (ran.state, ran.it.rows_affected, "well" in ran.messages) == ("SUCCEEDED", 1, True), ran


ENDS = {
    "cancels_everything": ("CANCELED", "raised_by_code"),
    "cancels_itself": ("CANCELED", "raised_by_code"),
    "stops_the_loop": ("SUCCEEDED", ""),
    "tampers_with_the_loop": ("SUCCEEDED", ""),
    "closes_descriptors": ("FAILED", ""),
    "closes_standard_streams": ("SUCCEEDED", ""),
    "alarmed": ("FAILED", ""),
    "redirects": ("SUCCEEDED", ""),
    "prints_without_end": ("SUCCEEDED", ""),
    "odd_progress": ("SUCCEEDED", ""),
    "huge_progress": ("FAILED", "step_failed"),
    "odd_records": ("SUCCEEDED", ""),
    "odd_class": ("FAILED", "step_failed"),
    "long_class": ("FAILED", "step_failed"),
    "deep_class": ("FAILED", "step_failed"),
    "prints_odd_things": ("SUCCEEDED", ""),
    "closes_the_loop_of_others": ("SUCCEEDED", ""),
    "returns_a_liar": ("FAILED", "return_invalid"),
    "sync_returns_awaitable": ("FAILED", "return_invalid"),
}


@pytest.mark.parametrize("name", ENDS)
def test_it_ends_and_others_go_on(stage: Stage, name: str) -> None:
    """The step ends as its own doing says, and steps after it run as ever."""
    ran = stage.run(f"rude.at_work:{name}")
    state, reason = ENDS[name]
    assert ran.state == state, (ran.run.reason, ran.error)
    assert not reason or ran.reason == reason
    well(stage)
