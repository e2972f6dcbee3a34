"""A fixed set of simulated schedules, and proof that a seed is all there is to one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Seconds of work; a busy machine may take minutes for them.
pytestmark = pytest.mark.timeout(400)

_RUN = Path(__file__).parent / "run.py"


def _simulate(*arguments: str) -> list[str]:
    command = [sys.executable, str(_RUN), *arguments, "--digest"]
    environ = {**os.environ, "PYTHONHASHSEED": "0"}  # otherwise it begins anew with this
    done = subprocess.run(command, capture_output=True, text=True, timeout=380, check=False, env=environ)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def said() -> list[str]:
    """Return what thirty schedules say: a digest of each timeline, and a summary."""
    return _simulate("--seed", "1", "--schedules", "30")


def test_schedules_of_fixed_seeds_keep_every_promise(said: list[str]) -> None:
    """No fault between engine, store, gateway and hosts breaks a promise, in the orders of fixed seeds."""
    assert said[-1].startswith("30 schedules from seed 1,")
    assert ", 0 failed," in said[-1]


def test_the_schedules_decide_ahead_of_commits_that_fail(said: list[str]) -> None:
    """Decisions ahead that are taken back occur often; otherwise no test would notice if they were kept, or lost."""
    taken_back = re.search(r"(\d+) turns taken back", said[-1])
    assert taken_back is not None
    assert int(taken_back[1]) >= 10


def test_a_seed_says_everything(said: list[str]) -> None:
    """The same seed gives the same timeline in another process, so what failed can be looked at again."""
    assert _simulate("--seed", "7", "--schedules", "2")[:2] == said[6:8]
    assert len({line.split()[1] for line in said[:30]}) == 30
