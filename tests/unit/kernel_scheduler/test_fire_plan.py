"""The plan of coming fires: order, collisions, limits, and work that does not grow with the number of jobs."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta, tzinfo
from time import process_time

import pytest

from nomaflow_kernel.scheduler.fire_plan import LOOK_BACK, FirePlan, Owner, PlannedFire, collisions, first_after
from nomaflow_kernel.scheduler.frequent_fires import Overlaps
from nomaflow_project.cron import CronExpression

BEGIN = datetime(2026, 3, 28, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def plan(
    *schedules: tuple[str, str], hours: int = 24, limit: int = 1000, zone: str = "UTC", host: str = "h"
) -> FirePlan:
    """Return the plan of jobs with their expressions."""
    made = FirePlan(begin=BEGIN, end=BEGIN + timedelta(hours=hours), limit=limit)
    for job_id, expression in schedules:
        made.add(Owner(job_id=job_id, host="h", preset=""), expression, zone)
    for _ in made.work():
        pass
    return made


def never(_: PlannedFire) -> bool:
    """Say that a fire is not paused."""
    return False


def told(fires: list[PlannedFire]) -> list[tuple[str, str]]:
    return [(fire.owner.job_id, fire.moment.local) for fire in fires]


def test_fires_come_in_order_from_the_first_instant_on() -> None:
    """The first instant belongs to the range, the last does not."""
    made = plan(("noon", "0 12 * * *"), ("six", "0 18 * * *"), ("later", "0 0 1 1 *"))
    assert told(made.fires) == [("noon", "2026-03-28T12:00:00+00:00"), ("six", "2026-03-28T18:00:00+00:00")]
    assert made.listed_until == made.end


def test_both_dst_nights_are_marked() -> None:
    """In the gap the fire moves to its end; in the overlap it is the first of the two."""
    (fire,) = plan(("night", "30 2 * * *"), zone="Europe/Paris").fires
    assert (fire.moment.local, fire.moment.daylight_saving) == ("2026-03-29T03:00:00+02:00", "gap")
    autumn = FirePlan(begin=datetime(2026, 10, 24, 12, tzinfo=UTC), end=datetime(2026, 10, 25, 12, tzinfo=UTC), limit=9)
    autumn.add(Owner(job_id="night", host="h", preset="eu"), "30 2 * * *", "Europe/Paris")
    assert sum(1 for _ in autumn.work()) > 0
    assert [(each.moment.local, each.moment.daylight_saving) for each in autumn.fires] == [
        ("2026-10-25T02:30:00+02:00", "repeated")
    ]


def test_a_frequent_schedule_is_one_line_with_its_count() -> None:
    """More than 48 a day; 48 are still listed one by one."""
    made = plan(("often", "*/29 * * * *"), ("half", "*/30 * * * *"), hours=48)
    (often,) = made.frequent
    assert (often.owner.job_id, often.fires, often.next) == ("often", 3 * 48, BEGIN)
    assert len(made.fires) == 96
    assert {fire.owner.job_id for fire in made.fires} == {"half"}


def test_the_fires_of_a_skipped_hour_count_once() -> None:
    """All of them are at the end of the gap: one run begins there."""
    (often,) = plan(("night", "0-59 2 * * *"), zone="Europe/Paris").frequent
    assert (often.fires, often.next) == (1, datetime(2026, 3, 29, 1, tzinfo=UTC))


def test_a_list_that_is_full_says_how_far_it_is_whole() -> None:
    """Fires of one instant are cut too, and the instant is told: nothing before it is missing."""
    made = plan(("a", "0 * * * *"), ("b", "0 * * * *"), ("c", "30 * * * *"), limit=4)
    assert [job for job, _ in told(made.fires)] == ["a", "b", "c", "a"]
    assert made.listed_until == BEGIN + HOUR


def test_a_fire_collides_with_what_usually_still_runs_on_its_host() -> None:
    """It collides with a run that began before the range and with those of the same instant, but not with itself."""
    made = plan(("long", "0 11,13 * * *"), ("short", "30 * * * *"), ("same", "0 13 * * *"), hours=3)
    made.add(Owner(job_id="x", host="other", preset=""), "30 12 * * *", "UTC")
    found = {
        (fire.owner.job_id, fire.moment.at.hour, fire.moment.at.minute): (at_once, others)
        for fire, at_once, others in collisions(made, {"long": 5400.0, "short": 60.0}, paused=never)
    }
    assert found == {
        ("short", 12, 30): (1, []),
        ("long", 13, 0): (2, ["same"]),
        ("same", 13, 0): (2, ["long"]),
        ("short", 13, 30): (1, ["long"]),
        ("short", 14, 30): (1, []),
    }
    earlier = plan(("long", "0 11 * * *"), ("short", "15 12 * * *"), hours=1)
    assert [others for _, _, others in collisions(earlier, {"long": 5400.0}, paused=never)] == [["long"]]
    assert [others for _, _, others in collisions(earlier, {"long": 3600.0}, paused=never)] == [[]]


def test_a_paused_fire_collides_with_nothing() -> None:
    """It starts no run: neither is it told to run into others, nor others to run into it."""
    made = plan(("held", "0 13 * * *"), ("long", "0 13 * * *"), ("same", "0 13 * * *"), hours=2)
    found = collisions(made, {"held": 5400.0}, paused=lambda fire: fire.owner.job_id == "held")
    assert [(fire.owner.job_id, others) for fire, _, others in found] == [
        ("held", []), ("long", ["same"]), ("same", ["long"]),
    ]  # fmt: skip


def test_fires_of_one_minute_are_counted_over_all_hosts() -> None:
    """Two hosts at 02:00:00 and 02:00:30 begin at once, and do not collide."""
    made = FirePlan(begin=BEGIN, end=BEGIN + timedelta(days=1), limit=99)
    made.add(Owner(job_id="a", host="h", preset=""), "0 2 * * *", "UTC")
    made.add(Owner(job_id="b", host="g", preset=""), "0 2 * * * 30", "UTC")
    assert sum(1 for _ in made.work()) > 0
    assert [(at_once, others) for _, at_once, others in collisions(made, {}, paused=never)] == [(2, []), (2, [])]


def test_frequent_schedules_count_in_the_minute_of_a_listed_fire() -> None:
    """Each of their fires that is not over; a minute begins before the range does, and ends after it."""
    begin = BEGIN + timedelta(seconds=25, microseconds=1)
    made = FirePlan(begin=begin, end=BEGIN + timedelta(days=1, seconds=1), limit=99)
    made.add(Owner(job_id="a", host="h", preset=""), "0 0,12 * * *", "UTC")
    made.add(Owner(job_id="half", host="h", preset=""), "0 12 * * * 30", "UTC")
    for job_id in ("b", "c"):
        made.add(Owner(job_id=job_id, host="g", preset=""), "*/5 * * * *", "Europe/Paris")
    made.add(Owner(job_id="d", host="g", preset=""), "2-59/5 * * * *", "UTC")
    made.add(Owner(job_id="tens", host="g", preset=""), "* 12 * * * */10", "UTC")
    assert sum(1 for _ in made.work()) > 0
    assert [(fire.owner.job_id, at_once) for fire, at_once, _ in collisions(made, {}, paused=never)] == [
        ("half", 4), ("a", 3), ("a", 4),
    ]  # fmt: skip


def overlaps(made: FirePlan, seconds: dict[str, float | None], *, held: str = "") -> dict[str, list[str]]:
    """Return what each frequent schedule collides with."""
    looked = Overlaps(plan=made, seconds=seconds, paused=lambda owner, _: owner.job_id == held)
    assert sum(1 for _ in looked.work()) > 0
    return {owner.job_id: others for owner, others in looked.found.items()}


def test_frequent_schedules_tell_what_runs_at_their_fires() -> None:
    """Other frequent ones and listed ones of their host: whoever begins first, also before the range."""
    schedules = ("a", "*/5 * * * *"), ("b", "*/10 * * * *"), ("c", "2-59/5 * * * *"), ("long", "0 11 * * *")
    made = plan(*schedules, ("b", "*/20 * * * *"), hours=3)
    assert overlaps(made, {}) == {"a": ["b"], "b": ["a"]}
    assert overlaps(made, {"a": 120.0}) == {"a": ["b"], "b": ["a"]}
    assert overlaps(made, {"a": 120.5}) == {"a": ["b", "c"], "b": ["a"], "c": ["a"]}
    assert overlaps(made, {}, held="b") == {}
    assert overlaps(made, {"long": 3600.0}) == {"a": ["b"], "b": ["a"]}
    assert overlaps(made, {"long": 3601.0}) == {"a": ["b", "long"], "b": ["a", "long"]}
    assert overlaps(plan(("a", "*/5 * * * *"), ("at", "3 13 * * *"), hours=3), {"a": 200.0}) == {"a": ["at"]}
    assert overlaps(plan(("a", "*/5 * * * *"), ("at", "3 13 * * *"), hours=1), {"a": 200.0}) == {}
    assert overlaps(plan(("a", "*/5 * * * *"), ("at", "3 13 * * *"), hours=9), {"a": 200.0}, held="at") == {}


def test_a_run_of_ten_years_costs_no_more_than_the_time_that_is_looked_at() -> None:
    """A clock that was set ahead during a job's only run makes years of what is usual for it."""
    made = plan(("a", "*/5 * * * *"), ("b", "2-59/5 * * * *"))
    tracemalloc.start()
    try:
        assert overlaps(made, {"a": 3650 * 86_400.0}) == {"a": ["b"], "b": ["a"]}
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_hundred_thousand_jobs_are_planned_in_a_moment() -> None:
    """Jobs that share an expression are planned as one; the list is bounded, and names at most ten others."""
    made = FirePlan(begin=BEGIN, end=BEGIN + timedelta(days=31), limit=10_000)
    began = process_time()
    for number in range(100_000):
        made.add(Owner(job_id=f"j{number}", host="h", preset=""), f"{number % 60} {number // 60 % 24} * * *", "UTC")
    steps = sum(1 for _ in made.work())
    found = list(collisions(made, {}, paused=never))
    assert len(found) == 10_000
    assert max(len(others) for _, _, others in found) == 10
    assert steps < 10_000
    assert process_time() - began < 5


def test_a_plan_that_knows_the_fires_of_others_is_the_same_plan() -> None:
    """Ranges that begin earlier, later and in between, over a night in which clocks change, in two zones."""
    schedules = [("a", "30 2 * * *"), ("b", "0 */3 * * *"), ("c", "15 4 * * 1"), ("d", "0 0 31 12 *")]

    def made(begin: datetime) -> FirePlan:
        plan = FirePlan(begin=begin, end=begin + 40 * HOUR, limit=1000)
        for job_id, expression in schedules:
            for zone in ("Europe/Paris", "UTC"):
                plan.add(Owner(job_id=f"{job_id} {zone}", host="h", preset=""), expression, zone)
        assert sum(1 for _ in plan.work()) > 0
        return plan

    begins = [BEGIN + timedelta(minutes=minutes) for minutes in (0, 1, 61, -700, 3000, 0, 59)]
    for known, begin in zip(list(map(made, begins)), begins, strict=True):
        first_after.cache_clear()
        alone = made(begin)
        assert (told(known.fires), told(known.earlier)) == (told(alone.fires), told(alone.earlier))
        assert all(begin - LOOK_BACK <= fire.moment.at < begin for fire in alone.earlier)


def test_fires_that_are_known_are_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a schedule asks for nearly the same ones again."""
    worked = 0
    real = CronExpression.next_after

    def counted(expression: CronExpression, after: datetime, tz: tzinfo) -> datetime:
        nonlocal worked
        worked += 1
        return real(expression, after, tz)

    monkeypatch.setattr(CronExpression, "next_after", counted)
    first_after.cache_clear()
    for second in range(3):
        made = FirePlan(begin=BEGIN + timedelta(seconds=second), end=BEGIN + 24 * HOUR, limit=1000)
        for number in range(10):
            made.add(Owner(job_id=f"j{number}", host="h", preset=""), f"{number} 13 * * *", "Europe/Paris")
        assert sum(1 for _ in made.work()) > 0
    assert worked == 30
