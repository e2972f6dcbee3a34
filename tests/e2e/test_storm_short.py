"""A short form of `make storm`: what floods one TCP door leaves the owner and the other doors alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from storm import STORMS, Storm, weather

_SMALLER = {"bodiless": 1000, "bad-tokens": 50, "metadata": 2, "pings": 2, "greetings": 400}
_SECONDS = 0.8
_BUSY = 10.0  # the suite shares its machine with other tests; `make storm` has the strict bounds


@pytest.fixture(scope="module")
def endure() -> Iterator[Any]:
    """Start a kernel for all storms: what one leaves behind would show in the next."""
    with weather() as made:
        yield made


@pytest.mark.parametrize("storm", STORMS, ids=lambda storm: f"{storm.attack}-at-{storm.door}")
def test_a_storm_at_one_door_is_not_felt_at_the_others(endure: Any, storm: Storm) -> None:
    """V4, A18: the owner is answered, and so are callers of the other doors, each with a new connection."""
    smaller = Storm(door=storm.door, attack=storm.attack, size=_SMALLER.get(storm.attack, 1500))
    noticed = endure(smaller, _SECONDS)
    assert noticed.attacks > 0
    assert noticed.p99 < _BUSY
    assert {door: noticed.failures(door) for door in noticed.others} == dict.fromkeys(noticed.others, 0)
    assert all(noticed.others.values())
