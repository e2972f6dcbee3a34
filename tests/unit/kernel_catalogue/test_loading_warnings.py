"""jobs.toml that loads, and would do something else than its author may expect."""

from __future__ import annotations

import pytest
from job_texts import load_one, the_problem


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ('misfire = "all"\nschedule = "*/20 * * * *"', True),
        ('misfire = "all"\nschedule = "0 2,3 * * *"\nmisfire_window_seconds = 3601', True),
        ('misfire = "all"\npresets = [{name = "p", schedule = "0 * 31 * 5"}]\nmisfire_window_seconds = 9000', True),
        ('misfire = "all"\nschedule = "0 2,3 * * *"', False),
        ('misfire = "all"\noverlap = "queue"\nschedule = "*/20 * * * *"', False),
        ('schedule = "*/20 * * * *"', False),
        ('misfire = "all"', False),
    ],
)
def test_late_fires_that_would_be_skipped_are_pointed_out(keys: str, told: bool) -> None:
    """All late fires start at once, and overlap = "skip" is the default: only the first of them would run."""
    job = load_one(f'[[jobs]]\nid = "x"\n{keys}\nsteps = [{{callable = "m:f"}}]\n')
    assert job.valid
    assert [problem.code for problem in job.problems] == (["late_fires_skipped"] if told else [])


def test_a_preset_that_fires_though_its_job_is_disabled_is_pointed_out() -> None:
    """The flags are independent, which an author may not expect."""
    job = load_one(
        '[[jobs]]\nid = "x"\nenabled = false\npresets = [{name = "p", schedule = "@daily"}]\n'
        'steps = [{callable = "m:f"}]\n'
    )
    assert job.valid
    assert the_problem(job).code == "preset_still_fires"
    assert job.definition is not None
    assert [schedule.preset for schedule in job.definition.schedules()] == ["p"]


@pytest.mark.parametrize(
    ("keys", "steps", "told"),
    [
        ('schedule = "@daily"', ("false",), True),
        ('schedule = "@daily"', ("false", "false"), True),
        ('schedule = "@daily"', ("false", "true"), False),
        ('schedule = "@daily"\nenabled = false', ("false",), False),
        ("", ("false",), False),
    ],
)
def test_a_schedule_that_starts_nothing_is_pointed_out(keys: str, steps: tuple[str, ...], told: bool) -> None:
    """``enabled = false`` below a step switches the step off, and its job runs each night and does nothing."""
    tables = "".join(f'[[jobs.steps]]\ncallable = "m:f{at}"\nenabled = {on}\n' for at, on in enumerate(steps))
    job = load_one(f'[[jobs]]\nid = "x"\n{keys}\n{tables}')
    assert job.valid
    assert [problem.code for problem in job.problems] == (["no_step_enabled"] if told else [])


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ("0 0 3 * * *", "write '0 3 * * * 0' if '0' is to be the seconds"),
        ("*/5 * * * * *", "write '* * * * * */5' if '*/5' is to be the seconds"),
        ("*/5 * * * * */1", ""),
        ("* * * * * *", ""),
        ("0 3 * * * 0", ""),
        ("0 3 * * *", ""),
        ("@daily", ""),
    ],
)
@pytest.mark.parametrize("keys", ["schedule = {!r}", "presets = [{{name = 'p', schedule = {!r}}}]"])
def test_a_schedule_with_its_seconds_at_the_front_is_pointed_out(keys: str, schedule: str, told: str) -> None:
    """Here they come last; an expression that has them first would fire each second of a minute."""
    job = load_one(f'[[jobs]]\nid = "x"\n{keys.format(schedule)}\nsteps = [{{callable = "m:f"}}]\n')
    assert job.valid
    assert [problem.code for problem in job.problems] == (["fires_each_second"] if told else [])
    assert all(told in problem.fix for problem in job.problems)
