"""A fixed set of simulated schedules, and proof that a seed is all there is to one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

# Seconds of work; a busy machine may take minutes for them.
pytestmark = pytest.mark.timeout(400)

_RUN = Path(__file__).parent / "run.py"


def _simulate(*arguments: str) -> str:
    command = [sys.executable, str(_RUN), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_schedules_of_fixed_seeds_keep_every_promise() -> None:
    """No fault between engine, store, gateway and hosts breaks a promise, in the orders of fixed seeds."""
    said = _simulate("--seed", "1", "--schedules", "30")
    assert "30 schedules from seed 1" in said
    assert "0 failed" in said


def test_the_schedules_decide_ahead_of_commits_that_fail() -> None:
    """Decisions ahead that are taken back occur often; otherwise no test would notice if they were kept, or lost."""
    taken_back = re.search(r"(\d+) turns taken back", _simulate("--seed", "11", "--schedules", "15"))
    assert taken_back is not None
    assert int(taken_back[1]) >= 5


def test_a_seed_says_everything() -> None:
    """The same seed gives the same timeline in another process, so what failed can be looked at again."""
    one, two = (_simulate("--seed", "7", "--schedules", "2", "--digest").splitlines()[:2] for _ in range(2))
    assert one == two
    assert len({line.split()[1] for line in one}) == 2
