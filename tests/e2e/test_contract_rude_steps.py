"""Steps that damage their process: they end as documented, and no other step notices."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract_stage import Stage

from real_system import eventually

pytestmark = pytest.mark.e2e


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


def test_all_tasks_are_those_of_the_step(stage: Stage, tmp_path: Path) -> None:
    """A step that cancels ``asyncio.all_tasks()`` finds only its own; its neighbours in the worker continue."""
    gate = tmp_path / "gate"
    neighbours = [stage.start("rude.at_work:neighbour_async", {"gate": str(gate)}) for _ in range(4)]
    for run_id in neighbours:
        eventually(lambda run_id=run_id: "well" in [line.message for line in stage.client.read_logs(run_id)])
    for _ in range(4):
        assert stage.run("rude.at_work:winds_down").extras == {"others": 0}
    gate.touch()
    assert [stage.ended(run_id).state for run_id in neighbours] == ["SUCCEEDED"] * 4


def test_a_line_without_an_end(stage: Stage) -> None:
    """20 MB printed without a line feed is kept in marked pieces as it comes, and does not pile up in memory."""
    ran = stage.run("rude.at_work:prints_without_end")
    assert ran.state == "SUCCEEDED"
    printed = [line for line in ran.lines if line.logger == "stdout"]
    assert "".join(line.message for line in printed) == "x" * 20_000_000
    assert [line.continued for line in printed] == [True] * (len(printed) - 1) + [False]
    assert ran.it.peak_rss_bytes < stage.run("rude.at_work:neighbour").it.peak_rss_bytes + 15_000_000
    well(stage)


def test_odd_reports_reach_the_record(stage: Stage) -> None:
    """Progress that is not a number, and texts with lone surrogates, do not harm what a step reports afterwards."""
    progress = stage.run("rude.at_work:odd_progress").it.progress
    assert progress is not None
    assert (progress.done, progress.total, progress.message) == (3, 4, "end")
    messages = stage.run("rude.at_work:odd_records").messages
    assert [each for each in messages if "nomaflow.hooks: " not in each] == [
        "odd name", "long name", "high level", "made by hand", "after",
    ]  # fmt: skip
