"""The gate on speed says what is slow, and the page of figures is what the kept figures make of it."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from bench.gate import FLOORS, judged
from bench.page import write_page
from bench.plot import drawn

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "bench" / "results" / "bench.json"


def test_one_ratio_under_its_floor_in_every_round_fails_the_gate_by_name() -> None:
    """A ratio is judged by its best round; the table marks the one that is under."""
    said: list[str] = []
    found = {"runs": [0.01, 0.02, 0.015], "steps": [0.1, 0.5, 0.2]}
    assert not judged(found, {"runs": 0.03, "steps": 0.4}, say=said.append)
    assert [line for line in said if "UNDER" in line] == [
        "runs          0.020    0.030   0.010 0.020 0.015   UNDER THE FLOOR"
    ]
    assert said[-1].startswith("slower than the recorded floor: runs;")


def test_ratios_at_their_floors_pass_the_gate() -> None:
    """A ratio at its floor passes, without a message."""
    said: list[str] = []
    assert judged({"runs": [0.03]}, {"runs": 0.03}, say=said.append)
    assert len(said) == 2


def test_every_ratio_of_the_gate_has_a_floor() -> None:
    """The recorded floors are numbers that a busy machine reaches, one for each ratio."""
    floors = tomllib.loads(FLOORS.read_text())
    assert set(floors) == {"runs", "sync_runs", "one_run", "steps", "log_lines"}
    assert all(0 < floor < 1 for floor in floors.values())


def test_the_page_holds_the_figures_that_are_kept(tmp_path: Path) -> None:
    """Writing the page again from the kept figures changes neither the page nor the plot."""
    shutil.copy(ROOT / "docs" / "performance.md", tmp_path)
    write_page(json.loads(RESULTS.read_text()), docs=tmp_path)
    for name in ("performance.md", "performance.svg"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text(), "run: python -m bench page"


def test_a_page_without_a_place_for_the_figures_is_refused(tmp_path: Path) -> None:
    """Text on the page is not overwritten if the marks are missing."""
    (tmp_path / "performance.md").write_text("nothing here\n")
    with pytest.raises(ValueError, match="<!-- generated: machine -->"):
        write_page(json.loads(RESULTS.read_text()), docs=tmp_path)
    assert (tmp_path / "performance.md").read_text() == "nothing here\n"


def test_the_plot_draws_what_was_measured() -> None:
    """Each curve has a point for each row, with its value beside it."""
    rows = [{"x": x, "runs_a_second": 2500.0, "p50_ms": 2.5, "p99_ms": 5.0, "kernel_mib": 90.0} for x in (0, 1000, 1e6)]
    picture = drawn({"history": rows})
    assert picture.count("<circle") == 6
    assert picture.count("<polyline") == 2
    assert all(f">{text}</text>" in picture for text in ("0", "1k", "1M", "2,500", "2.5"))
