"""The notes of ``check --from-original`` about a job."""

from __future__ import annotations

import tomllib

import pytest

from nomaflow_project.check.original import changed_meanings, translated_weekdays
from nomaflow_project.reading.files import JobFile


@pytest.mark.parametrize(
    ("field", "translated"),
    [
        ("*", None),
        ("mon-fri", None),
        ("0", "mon"),
        ("6", "sun"),
        ("0-4", "mon-fri"),
        ("1-5", "tue-sat"),
        ("0,2,4", "mon,wed,fri"),
        ("*/2", "mon,wed,fri,sun"),
        ("0-6", "*"),
        ("mon,5", "mon,sat"),
        ("4/1", "fri-sun"),
        ("7", None),
        ("5-1", None),
    ],
)
def test_weekdays(field: str, translated: str | None) -> None:
    """Monday is 0 there; what the original refuses, and names, stay."""
    assert translated_weekdays(field) == translated


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Paris")


def _told(text: str) -> dict[tuple[str, str], str]:
    changes = changed_meanings([JobFile(path="jobs.toml", tree=tomllib.loads(text))])
    return {(change.job_id, change.topic): change.line for change in changes}


def test_every_topic() -> None:
    """A job that relies on all defaults gets a note on each, with the lines to add."""
    text = """
    [[jobs]]
    id = "a"
    schedule = "0 6 1 * 0-4"
    timeout_seconds = 60
    steps = [{ callable = "m:f" }, { type = "call_job", target_job_id = "b", timeout_seconds = 5 }]
    [[jobs]]
    id = "b"
    steps = [{ callable = "m:f" }]
    step_defaults = { timeout_seconds = 5 }
    presets = [{ name = "p", schedule = "0 0 * * 6" }]
    """
    assert _told(text) == {
        ("a", "zone"): 'timezone = "Europe/Paris"',
        ("a", "weekdays"): 'schedule = "0 6 1 * mon-fri"',
        ("a", "days"): "",
        ("a", "missed_fires"): 'misfire = "skip"',
        ("a", "step_timeout"): "step_defaults = { timeout_seconds = 3600 }",
        ("a", "job_timeout"): "",
        ("b", "zone"): 'timezone = "Europe/Paris"',
        ("b", "weekdays"): 'schedule = "0 0 * * sun"',
        ("b", "missed_fires"): 'misfire = "skip"',
        ("b", "call_job"): 'overlap = "allow"',
        ("", "retention"): "[meta.retention]\ndays = 30\nkeep_last_per_job = 100",
    }


def test_a_file_that_says_all_of_it_is_told_nothing() -> None:
    """A file that says all of it, or has no jobs, gets no warning."""
    text = """
    [meta.retention]
    days = 30
    keep_last_per_job = 100
    [[jobs]]
    id = "a"
    schedule = "0 6 * * mon-fri"
    timezone = "UTC"
    misfire = "latest"
    step_defaults = { timeout_seconds = 3600 }
    steps = [{ callable = "m:f" }]
    """
    assert _told(text) == {}
    assert _told("jobs = []") == {}


def test_ids_of_the_wrong_type_are_passed_over() -> None:
    """The check of the jobs tells of them."""
    steps = 'steps = [{ type = "call_job", target_job_id = ["a"] }, { type = "call_job", target_job_id = {} }]'
    assert ("", "call_job") not in _told(f"[[jobs]]\nid = {{}}\n{steps}\n[[jobs]]\n{steps}\n")
