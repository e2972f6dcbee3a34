"""Valid and invalid expressions, and the texts of refusals."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import pytest
from croniter import croniter

from nomaflow_project.cron import CronError, CronExpression, zone


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("* * * *", "4 fields, expected 5 or 6"),
        ("daily", "1 field, expected 5 or 6"),
        ("* * * * * * *", "a year cannot be given"),
        ("@reboot", "no such alias"),
        ("@every 5m", "no such alias"),
        ("60 * * * *", "60 is out of range for the minute field"),
        ("0 25 * * *", "25 is out of range for the hour field"),
        ("0 0 0 * *", "0 is out of range for the day of month field"),
        ("0 0 * 13 *", "13 is out of range for the month field"),
        ("0 0 * * 8", "8 is out of range for the day of week field"),
        ("* * * * * 60", "60 is out of range for the second field"),
        ("0 0 * foo *", "'foo' is not valid in the month field"),
        ("0 0 * * mo", "'mo' is not valid in the day of week field"),
        ("mon * * * *", "'mon' is not valid in the minute field"),
        ("R * * * *", "'r' is not valid in the minute field"),
        ("R(0-29)/10 * * * *", "not valid in the minute field"),
        ("0 0 * * * R", "'r' is not valid in the second field"),
        ("H * * * *", "'h' is not valid in the minute field"),
        ("0 0 15W * *", "'15w' is not valid in the day of month field"),
        ("0 0 L-3 * *", "'l-3' is not valid in the day of month field"),
        ("0 0 LW * *", "not valid in the day of month field"),
        ("0 0 * * 5L", "'5l' is not valid in the day of week field"),
        ("? * * * *", "'?' is not valid in the minute field"),
        ("*/0 * * * *", "step of '*/0' in the minute field is 0"),
        ("0 20-8/6 * * *", "wraps round and has a step"),
        ("50-10/20 * * * *", "wraps round and has a step"),
        ("0 0 * * fri-mon/2", "wraps round and has a step"),
        ("0 0 13 * 5#3", "cannot stand beside # or L"),
        ("0 0 1 * L5", "cannot stand beside # or L"),
        ("0 0 */2 * 1#1", "cannot stand beside # or L"),
        ("0 0 * * 5#0", "# takes 1 to 5"),
        ("0 0 * * 5#6", "# takes 1 to 5"),
        ("0 0 * * 9#1", "9 is out of range"),
        ("0 0 * * 1,5#3", "has items with # or L and others"),
        ("0 0 * * 5,5#3", "has items with # or L and others"),
        ("0 0 * * L5,*", "has items with # or L and others"),
        ("1.5 * * * *", "not valid"),
        ("1_0 * * * *", "not valid"),
        ("*-5 * * * *", "not valid"),
        ("** * * * *", "not valid"),
        ("1-2-3 * * * *", "not valid"),
        ("1, * * * *", "not valid"),
        (",1 * * * *", "not valid"),
        ("-1 * * * *", "not valid"),
        ("1/ * * * *", "not valid"),
        ("1/2/3 * * * *", "not valid"),
        ("\u0661 * * * *", "not ASCII"),
        ("* *\u00a0* * *", "not ASCII"),
        ("* * * *\x0b*", "4 fields"),
        ("0 0 30 2 *", "no date ever matches"),
        ("0 0 31 4,6,9,11 *", "no date ever matches"),
        ("0 0 31 2 */7", "no date ever matches"),
        ("1," * 300 + "1 * * * *", "expected at most 512"),
        ("x" * 100_000, "expected at most 512"),
    ],
)
def test_what_is_not_crontab_is_refused_with_the_reason(text: str, says: str) -> None:
    """Every refusal names the part, says what was expected, and stays short."""
    with pytest.raises(CronError) as caught:
        CronExpression.parse(text)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400


def test_fifth_friday_of_a_short_month_set_still_matches() -> None:
    """A rare date is not taken for one that never comes: the fifth Monday of February needs a leap year."""
    expression = CronExpression.parse("0 0 * 2 1#5")
    assert expression.next_after(datetime(2026, 1, 1, tzinfo=UTC), UTC).year == 2044


def test_equal_expressions_are_equal_hashable_and_shared() -> None:
    """Blanks, case and aliases do not matter for equality; the same text is the same object."""
    assert CronExpression.parse("0  0 * * SUN") == CronExpression.parse("0 0 * * sun")
    assert CronExpression.parse("@daily") == CronExpression.parse("0 0 * * *")
    assert len({CronExpression.parse("@hourly"), CronExpression.parse("0 * * * *")}) == 1
    assert CronExpression.parse("5 4 * * *") is CronExpression.parse("5 4 * * *")
    assert pickle.loads(pickle.dumps(CronExpression.parse("@daily"))) == CronExpression.parse("@daily")


def test_an_expression_cannot_be_changed() -> None:
    """An expression is frozen, because schedules share it."""
    with pytest.raises(AttributeError):
        CronExpression.parse("@daily").text = "x"  # type: ignore[misc]  # what must fail


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("europe/paris", "did you mean 'Europe/Paris'?"),
        ("Europe/Pariss", "'Europe/Paris'"),
        ("Paris", "'Europe/Paris'"),
        ("New York", "'America/New_York'"),
        ("America", "did you mean"),
        ("", "IANA name"),
        ("/etc/passwd", "IANA name"),
        ("../UTC", "name"),
        ("Europe/Paris\0", "name"),
        ("localtime", "name"),
        ("right/Europe/Paris", "name"),
        ("posixrules", "name"),
        ("z" * 10_000, "IANA name"),
    ],
)
def test_unknown_zones_are_refused_with_near_names(name: str, fix: str) -> None:
    """A zone that is unknown, a path, or means something else on each machine is refused."""
    with pytest.raises(CronError) as caught:
        zone(name)
    assert fix in caught.value.fix or fix in str(caught.value)


@pytest.mark.parametrize("name", ["UTC", "Europe/Paris", "Etc/GMT+5", "America/Argentina/Buenos_Aires", "GMT"])
def test_known_zones_are_found(name: str) -> None:
    """IANA names work, also the fixed ones."""
    assert zone(name).key == name


@pytest.mark.parametrize(
    "text", ["*/5 * * * *", "30 4 * * *", "0 9-17 * * 1-5", "0 0 1 * *", "0 0 29 2 *", "0 0 13 * 5", "0 0 */2 * 1"]
)
def test_without_dst_it_agrees_with_croniter(text: str) -> None:
    """Expressions agree with croniter, with crontab's day rule, in zones without clock changes."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    theirs = croniter(text, start, ret_type=datetime, implement_cron_bug=True)
    ours = CronExpression.parse(text).iter_after(start, UTC)
    assert [next(ours) for _ in range(50)] == [theirs.get_next() for _ in range(50)]
