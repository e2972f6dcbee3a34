"""The fixes of problems in jobs.toml: where the meaning is clear, they give the text to write."""

from __future__ import annotations

import pytest
from job_texts import load, load_one, the_problem

_STEP = '[[jobs.steps]]\ncallable = "app.work:run"\n'


@pytest.mark.parametrize(
    ("keys", "fix"),
    [
        ("timeout = 60", "did you mean 'timeout_seconds'?"),
        ('tz = "UTC"', "tags, timeout_seconds, timezone"),
        ('timezone = "UTC+2"', "write 'Etc/GMT-2', whose sign is reversed"),
        ('timezone = "gmt-05:00"', "write 'Etc/GMT+5', whose sign is reversed"),
    ],
)
def test_the_fix_says_what_to_write(keys: str, fix: str) -> None:
    """The fix gives the text to write, if that is clear."""
    assert fix in the_problem(load_one(f'[[jobs]]\nid = "x"\n{keys}\n{_STEP}')).fix


@pytest.mark.parametrize(
    ("key", "fix"),
    [
        ("job", "did you mean 'target_job_id'?"),
        ("kwargs", "did you mean 'op_kwargs'?"),
        ("resources.gpu", "did you mean 'gpus'?"),
    ],
)
def test_a_key_that_is_a_part_of_another(key: str, fix: str) -> None:
    """A key that lacks a part of the only one with its words means that one."""
    loaded = load_one(f'[[jobs]]\nid = "x"\n[[jobs.steps]]\ntype = "call_job"\n{key} = "y"\n')
    assert fix in [each.fix for each in loaded.problems]


def test_a_letter_that_is_missing_wins_over_a_part() -> None:
    """``[[jobs.step]]`` means the steps, which are missing, although ``step_defaults`` begins with it."""
    loaded = load_one('[[jobs]]\nid = "x"\n[[jobs.step]]\ncallable = "app.work:run"\n')
    assert "did you mean 'steps'?" in [each.fix for each in loaded.problems]


@pytest.mark.parametrize(
    ("step", "fix"), [("pyhton", "did you mean 'python'?"), ("bash", "call a function that does it")]
)
def test_an_unknown_type_of_step(step: str, fix: str) -> None:
    """A misspelt type gets the near one; a foreign one gets the way out."""
    problem = the_problem(load_one(f'[[jobs]]\nid = "x"\n[[jobs.steps]]\ntype = "{step}"\ncallable = "app.work:run"\n'))
    assert problem.fix.startswith(fix)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        (f'[[jobs]]\nid = "x"\n[[steps]]\n{_STEP}', "it is a key of a job: write [[jobs.steps]]"),
        (f'[retry]\nattempts = 3\n[[jobs]]\nid = "x"\n{_STEP}', "it is a key of a job: write [jobs.retry]"),
        (f'timezone = "UTC"\n[[jobs]]\nid = "x"\n{_STEP}', "it is a key of a job: write timezone below [[jobs]]"),
    ],
)
def test_a_key_of_a_job_outside_of_it(text: str, fix: str) -> None:
    """The fix names the place of the key in a job."""
    assert load(text).problems[0].fix == fix


@pytest.mark.parametrize(
    ("value", "got"),
    [("5", "5"), ('"a"', "'a'"), ('{ id = "a" }', "a single table")],
)
def test_jobs_that_are_no_tables(value: str, got: str) -> None:
    """The message names what the file has."""
    assert load(f"jobs = {value}\n").problems[0].message == f"expected [[jobs]] tables, got {got}"


def test_steps_in_single_brackets() -> None:
    """``[jobs.steps]`` is told in the form of the file; a table in place of a list of texts is no table of its own."""
    problem = the_problem(load_one('[[jobs]]\nid = "x"\n[jobs.steps]\ncallable = "app.work:run"\n'))
    assert (problem.message, problem.fix) == (
        "expected [[jobs.steps]] tables, got a single table",
        "write [[jobs.steps]]",
    )
    assert the_problem(load_one(f'[[jobs]]\nid = "x"\ntags = {{ a = 1 }}\n{_STEP}')).fix == ""
