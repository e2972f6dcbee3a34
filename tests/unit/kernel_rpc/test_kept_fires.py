"""An answer about coming fires is given again as long as it is right."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from nomaflow_api.v1 import fire_pb2
from nomaflow_api.v1.message_codec import timestamp
from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.rpc.fire_calls import Basis, KeptFires

HOUR = 3_600_000_000
DUE, LATER = 10 * HOUR, 12 * HOUR
ONE, OTHER = object(), object()
"""Two jobs: only which they are matters here."""


def basis(begin_us: int = 9 * HOUR, *jobs: object) -> Basis:
    """Return what an answer is made of, without pauses."""
    known: Any = list(jobs or (ONE,))
    return Basis(begin_us=begin_us, jobs=known, pauses=[])


def answer(*fires: int, often: tuple[int, ...] = ()) -> fire_pb2.ListFiresResponse:
    """Return an answer with fires, and with the next fires of frequent schedules."""
    return fire_pb2.ListFiresResponse(
        fires=[fire_pb2.ListedFire(at=timestamp(at)) for at in fires],
        frequent=[fire_pb2.FrequentSchedule(next=timestamp(at)) for at in often],
    )


def test_an_answer_is_right_until_its_first_fire() -> None:
    """A page that begins later, and before the fire, has the same answer; one that begins then or earlier has not."""
    given = answer(DUE, LATER)
    for begin_us, found in ((9 * HOUR, given), (DUE - 1, given), (DUE, None), (9 * HOUR - 1, None)):
        kept = KeptFires()
        kept.keep("days", basis(), given, until_us=LATER)
        assert kept.of("days", basis(begin_us), now_us=0) is found
        assert kept.of("other days", basis(), now_us=0) is None


def test_a_frequent_schedule_makes_it_short() -> None:
    """Its count and its next fire change with each fire."""
    kept = KeptFires()
    kept.keep("days", basis(), answer(DUE, often=(9 * HOUR + 1,)), until_us=LATER)
    assert kept.of("days", basis(), now_us=0) is not None
    assert kept.of("days", basis(9 * HOUR + 1), now_us=0) is None


def test_no_answer_is_right_for_ever() -> None:
    """The usual time of a job is looked up again after a while, even if nothing fires or the days are over."""
    kept = KeptFires()
    kept.keep("days", basis(), answer(DUE), until_us=LATER)
    assert kept.of("days", basis(), now_us=LATER - 1) is not None
    assert kept.of("days", basis(), now_us=LATER) is None


def test_what_it_tells_of_has_changed() -> None:
    """Another job, another version of one, or a pause: the answer is made anew."""
    pause = PauseRecord(scope="all", name="", by="ann", why="", since_us=1, until_us=None)
    for changed in (basis(9 * HOUR, OTHER), basis(9 * HOUR, ONE, OTHER), replace(basis(), pauses=[pause])):
        kept = KeptFires()
        kept.keep("days", basis(), answer(DUE), until_us=LATER)
        assert kept.of("days", changed, now_us=0) is None


def test_few_answers_are_kept_and_no_long_ones() -> None:
    """The ones asked for last stay; an answer of thousands of fires is not worth its memory."""
    kept = KeptFires()
    for number in range(20):
        kept.keep(number, basis(), answer(DUE), until_us=LATER)
    kept.keep("long", basis(), answer(*range(DUE, DUE + 2001)), until_us=LATER)
    assert [number for number in range(20) if kept.of(number, basis(), now_us=0)] == list(range(12, 20))
    assert kept.of("long", basis(), now_us=0) is None


def test_the_answer_that_is_asked_for_again_stays() -> None:
    """Others that are asked for once go first."""
    kept = KeptFires()
    kept.keep("days", basis(), answer(DUE), until_us=LATER)
    for number in range(20):
        assert kept.of("days", basis(), now_us=0) is not None
        kept.keep(number, basis(), answer(DUE), until_us=LATER)
