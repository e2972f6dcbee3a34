"""A short run of the fuzz; ``make fuzz`` has the long one."""

from __future__ import annotations

import random

import pytest
from choices import Choices
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reader_targets import READERS
from run import fuzz


@pytest.mark.parametrize("reader", sorted(READERS))
@given(data=st.binary(max_size=600))
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_no_reader_meets_anything_unexpected(reader: str, data: bytes) -> None:
    """Whatever a file, a line, a letter or a manifest holds: a value or a refusal, never another exception."""
    READERS[reader](Choices(data))


@pytest.mark.parametrize("reader", sorted(READERS))
def test_no_reader_meets_anything_unexpected_in_long_inputs(reader: str) -> None:
    """The same with inputs longer than Hypothesis draws."""
    for number in range(60):
        READERS[reader](Choices(random.Random(f"{reader}/{number}").randbytes(3000)))


@pytest.mark.e2e
async def test_no_call_finds_a_weakness_of_a_real_kernel() -> None:
    """No crash, no INTERNAL, no text of ours in an answer, bounded memory, and a clean stop."""
    kernel = await fuzz(seed=2, numbers=range(1000))
    assert kernel.counts
