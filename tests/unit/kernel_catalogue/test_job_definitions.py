"""Definitions as values: JSON there and back, digests, retries."""

from __future__ import annotations

import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow_project.jobs.alert_policy import AlertPolicy
from nomaflow_project.jobs.definitions import (
    IsolationChoice,
    JobDefinition,
    Misfire,
    Overlap,
    PresetDefinition,
    StepDefinition,
)
from nomaflow_project.jobs.retry_policy import Backoff, RetryPolicy

FULL = JobDefinition(
    id="x",
    host="team",
    schedule="@daily",
    tags=("a", "b"),
    params={"since": {"$date": "2026-01-31"}, "big": 10**40, "text": "ü"},
    retry=RetryPolicy(attempts=3, backoff=Backoff.EXPONENTIAL, retry_on=("OSError",)),
    alerts=AlertPolicy(recipients=("ops",)),
    overlap=Overlap.QUEUE,
    misfire=Misfire.ALL,
    isolation=IsolationChoice.SHARED,
    presets=(PresetDefinition(name="p", steps={"s": False}, op_kwargs={"s": {"a": [1, None]}}),),
    steps=(
        StepDefinition(name="s", callable="m:f", retry=RetryPolicy(), isolation=IsolationChoice.EXCLUSIVE),
        StepDefinition(name="c", type="call_job", target_job_id="y"),
    ),
)


@pytest.mark.parametrize("definition", [FULL, JobDefinition(id="x", steps=())])
@pytest.mark.parametrize("compact", [True, False])
def test_json_there_and_back(definition: JobDefinition, compact: bool) -> None:
    """A definition survives both forms through real JSON text without loss."""
    text = json.dumps(definition.to_json(compact=compact), allow_nan=False)
    assert JobDefinition.from_json(json.loads(text)) == definition


def test_what_a_newer_version_added_is_passed_over() -> None:
    """Unknown keys at any depth are no error; missing ones have their defaults."""
    data = FULL.to_json()
    data["brand_new"] = {"a": 1}
    data["steps"][0]["brand_new"] = 1
    data["retry"]["brand_new"] = 1
    assert JobDefinition.from_json(data) == FULL
    assert JobDefinition.from_json({"id": "x", "steps": []}) == JobDefinition(id="x", steps=())
    with pytest.raises(KeyError):
        JobDefinition.from_json({"host": "team", "steps": []})


def test_the_digest_names_the_content() -> None:
    """Equal definitions have equal digests, others have not; defaults do not enter, so a new field changes none."""
    empty = JobDefinition(id="x", steps=())
    assert empty.digest == JobDefinition.from_json(empty.to_json()).digest
    assert empty.digest != JobDefinition(id="y", steps=()).digest
    assert FULL.digest == JobDefinition.from_json(FULL.to_json()).digest
    assert empty.to_json(compact=True) == {"id": "x", "steps": []}
    assert empty.digest == "sha256:" + hashlib.sha256(b'{"id":"x","steps":[]}').hexdigest()


def test_fixed_delays_stay_the_same() -> None:
    """Fixed delays stay the same except for the jitter, which only lengthens them."""
    policy = RetryPolicy(base_seconds=10, jitter=0.5)
    assert [policy.delay_seconds(failed, 0) for failed in (1, 2, 9)] == [10, 10, 10]
    assert policy.delay_seconds(1, 1) == 15


def test_exponential_delays_double() -> None:
    """The delay doubles after each failure, up to the cap, even after very many."""
    policy = RetryPolicy(backoff=Backoff.EXPONENTIAL, base_seconds=1, max_seconds=10, jitter=0)
    assert [policy.delay_seconds(failed, 0.9) for failed in (1, 2, 3, 4, 5, 100_000)] == [1, 2, 4, 8, 10, 10]


@given(
    failed=st.integers(1, 10**9),
    random=st.floats(0, 1),
    base=st.floats(0, 1e9),
    cap=st.floats(0, 1e9),
    jitter=st.floats(0, 1),
    backoff=st.sampled_from(Backoff),
)
def test_no_delay_is_negative_or_beyond_the_cap(
    failed: int, random: float, base: float, cap: float, jitter: float, backoff: Backoff
) -> None:
    """A delay is within bounds for any numbers, and the jitter still spreads delays at the cap."""
    policy = RetryPolicy(backoff=backoff, base_seconds=base, max_seconds=cap, jitter=jitter)
    delay = policy.delay_seconds(failed, random)
    assert 0 <= delay <= cap
    assert math.isfinite(delay)


MRO = ("httpx.ConnectError", "httpx.HTTPError", "builtins.OSError", "builtins.Exception", "builtins.BaseException")


@pytest.mark.parametrize(
    ("retry_on", "no_retry_on", "types", "expected"),
    [
        ((), (), MRO, True),
        ((), (), (), True),
        (("ConnectError",), (), MRO, True),
        (("httpx.HTTPError",), (), MRO, True),
        (("OSError",), (), MRO, True),
        (("builtins.OSError",), (), MRO, True),
        (("ValueError",), (), MRO, False),
        (("Error",), (), MRO, False),
        (("OSError",), (), (), False),
        ((), ("OSError",), MRO, False),
        (("ConnectError",), ("HTTPError",), MRO, False),
        ((), ("OSError",), (), True),
    ],
)
def test_exceptions_are_matched_by_name(
    retry_on: tuple[str, ...], no_retry_on: tuple[str, ...], types: tuple[str, ...], expected: bool
) -> None:
    """Bare or qualified, base classes included; ``no_retry_on`` wins; no exception needs an empty ``retry_on``."""
    assert RetryPolicy(retry_on=retry_on, no_retry_on=no_retry_on).retries(types) is expected


def test_schedules_of_job_and_presets_are_independent() -> None:
    """Each by its own flag; a preset without zone has the job's."""
    presets = (
        PresetDefinition(name="p", schedule="0 1 * * *"),
        PresetDefinition(name="q", schedule="0 2 * * *", timezone="Asia/Tokyo", enabled=False),
        PresetDefinition(name="r"),
    )
    job = JobDefinition(id="x", schedule="@daily", timezone="Europe/Paris", presets=presets, steps=())
    assert [(each.preset, each.expression, each.timezone) for each in job.schedules()] == [
        ("", "@daily", "Europe/Paris"),
        ("p", "0 1 * * *", "Europe/Paris"),
    ]
