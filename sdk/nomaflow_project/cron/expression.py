"""A cron expression and its fires in a zone.

Two kinds of expression follow the two DST rules. An expression whose minute or hour field begins with ``*`` follows
real time: it fires whenever the wall clock matches, not in a gap, and in both passes of an overlap. Any other
expression is fixed: each matching time of day fires once; in a gap at the gap's end, in an overlap at the first pass.
Matches at one instant are one fire.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from functools import lru_cache, partial

from nomaflow_project.cron.calendar import first_match
from nomaflow_project.cron.clock_changes import next_by_real_time, next_by_wall_clock
from nomaflow_project.cron.errors import CronError
from nomaflow_project.cron.grammar import CronFields, parse_fields

_PROOF_START = datetime(2000, 1, 1)  # noqa: DTZ001 - the search runs on a wall clock without zone
_PARSED_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class CronExpression:
    """A parsed expression: immutable, hashable, shareable between threads. Created by `parse`, which is cached.

    :param text: the expression with aliases resolved, in lower case, blanks squeezed
    """

    text: str
    fields: CronFields = field(compare=False, repr=False)

    @classmethod
    @lru_cache(maxsize=_PARSED_AT_ONCE)
    def parse(cls, text: str) -> CronExpression:
        """Return the expression of a text of five or six fields, or of an alias such as ``@daily``.

        :raises CronError: if the text is not valid, or no date ever matches it
        """
        fields = parse_fields(text)
        try:
            first_match(fields, _PROOF_START)
        except OverflowError:
            fix = "check the day of the month against the months"
            raise CronError("cron expression", text, "no date ever matches it", fix=fix) from None
        return cls(text=fields.text, fields=fields)

    def next_after(self, after: datetime, tz: tzinfo) -> datetime:
        """Return the first fire later than an aware time, in UTC.

        :param tz: the zone whose wall clock the expression refers to
        :raises CronError: if there is none before the year 10000
        :raises ValueError: if ``after`` has no zone
        """
        if after.tzinfo is None:
            raise ValueError(f"after must be an aware time, got {after!r} without a zone")
        search = next_by_real_time if self.fields.wildcard else next_by_wall_clock
        try:
            return search(partial(first_match, self.fields), after.astimezone(tz), tz)
        except OverflowError:
            raise CronError("cron expression", self.text, "no date before the year 10000 matches") from None

    def iter_after(self, after: datetime, tz: tzinfo) -> Iterator[datetime]:
        """Yield the fires later than an aware time, in UTC and in order, until the year 10000."""
        while True:
            try:
                after = self.next_after(after, tz)
            except CronError:
                return
            yield after
