"""The filters of the page of runs: the address holds them whole, so that Back, a reload and a pasted link all work."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from urllib.parse import urlencode

from nomaflow_api.log_levels import levels_from
from nomaflow_console.views.sentences import counted, who
from nomaflow_console.views.states import RUN_STATES, sign_of
from nomaflow_console.views.times import in_words

COLUMNS = {
    "started": "Started", "took": "Took", "rows": "Rows touched", "why": "Step, or why", "trigger": "Trigger",
    "run": "Run",
}  # fmt: skip
"""The columns that may be left out: name in the address, and heading."""

TRIGGERS = ("cron", "manual", "api", "cli", "call_job", "replay")
SPANS: Mapping[str, tuple[str, timedelta | None]] = {
    "1h": ("last hour", timedelta(hours=1)),
    "24h": ("last 24 h", timedelta(hours=24)),
    "7d": ("last 7 days", timedelta(days=7)),
    "31d": ("last 31 days", timedelta(days=31)),
    "ever": ("ever", None),
}
"""The choices of how far back to look: title and length."""
_LEVELS = {"warning": levels_from(logging.WARNING), "error": levels_from(logging.ERROR)}
_SPAN = re.compile(r"(\d{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_DEFAULT_SINCE = "24h"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST = 100
"""The most values of one filter."""


def filter_name(by: str) -> str:
    """Return the name that finds what a principal did, as pages show it: ``ann`` for ``owner (for ann)``.

    A name that cannot be shown as it is stays as it is.
    """
    shown = who(by)
    return shown if by == f"owner (for {shown})" else by


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """One filter in force, with the address without it."""

    text: str
    without: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunQuery:
    """The state of the page of runs.

    :param since: a span such as ``24h``, ``ever``, or an ISO instant with its offset
    :param until: a span, for so long ago, or an ISO instant with its offset; empty for now
    :param level: ``warning`` or ``error``: runs in whose log there is one, or worse
    :param hidden: jobs that are left out
    :param runs: the ids of the runs that are shown; empty for all
    :param off: columns that are left out
    :param before: the run that the page goes on before, for older ones
    :param after: the run that the page goes on after, for newer ones
    """

    states: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    job: str = ""
    host: str = ""
    tag: str = ""
    by: str = ""
    since: str = _DEFAULT_SINCE
    until: str = ""
    level: str = ""
    hidden: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    prefix: str = ""
    replay_of: str = ""
    parent: str = ""
    runs: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    before: str = ""
    after: str = ""

    @classmethod
    def of(cls, query: Iterable[tuple[str, str]], zone: tzinfo = UTC) -> tuple[RunQuery, list[str]]:
        """Return the filters of an address, and what in it is not understood, as sentences.

        :param zone: that of a time which names none
        """
        given: dict[str, list[str]] = {}
        for name, value in query:
            given.setdefault(name, []).append(value.strip())
        problems: list[str] = []

        def one(name: str) -> str:
            return (given.get(name) or [""])[-1]

        def many(name: str, known: Sequence[str] = (), *, upper: bool = False) -> tuple[str, ...]:
            found = [part.strip() for value in given.get(name, ()) for part in value.split(",") if part.strip()]
            found = [each.upper() if upper else each for each in dict.fromkeys(found)][:MOST]
            wrong = [each for each in found if known and each not in known]
            if wrong:
                problems.append(f"there is no {_NAMES[name]} {wrong[0]!r}; there are {', '.join(known).lower()}")
            return tuple(each for each in found if each not in wrong)

        def moment(name: str, otherwise: str) -> str:
            text = one(name) or otherwise
            if not text or _span(text) is not None or (name == "since" and text in SPANS):
                return text
            instant = _instant(text, zone)
            if instant is None:
                ever = "ever, " if name == "since" else ""
                problems.append(f"{name}: {text!r} is no time; write 24h, 7d, {ever}or 2026-11-26T08:00")
            return instant.isoformat() if instant is not None else otherwise

        level = one("level")
        if level and level not in _LEVELS:
            problems.append(f"there is no level {level!r}; there are {', '.join(_LEVELS)}")
            level = ""
        found = cls(
            states=many("state", RUN_STATES, upper=True),
            triggers=many("trigger", TRIGGERS),
            job=one("job"),
            host=one("host"),
            tag=one("tag"),
            by=one("by"),
            since=moment("since", _DEFAULT_SINCE),
            until=moment("until", ""),
            level=level,
            hidden=many("not"),
            reasons=many("reason"),
            prefix=one("id").lower(),
            replay_of=one("replay_of"),
            parent=one("parent"),
            runs=many("run"),
            off=many("off", tuple(COLUMNS)),
            before=one("older_than"),
            after=one("newer_than"),
        )
        return found, problems

    def to_query(self) -> str:
        """Return the query of the address, without the ``?``; what is as without any choice is left out."""
        return _in_address(self._values())

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _DEFAULTS}

    def address(self, *, path: str = "/runs", **changes: Any) -> str:
        """Return the address with some filters changed, on the first page unless a page is named."""
        query = _in_address({**self._values(), "before": "", "after": "", **changes})
        return f"{path}?{query}" if query else path

    def filters(self, now: datetime) -> dict[str, Any]:
        """Return the filters as ``list_runs_page`` takes them."""
        return {
            "job_id": self.job,
            "states": self.states,
            "host": self.host,
            "tag": self.tag,
            "since": self.since_at(now),
            "until": _moment(self.until, now),
            "trigger_kinds": self.triggers,
            "triggered_by": self.by,
            "reason_codes": self.reasons,
            "exclude_job_ids": self.hidden,
            "run_id_prefix": self.prefix,
            "replay_of": self.replay_of,
            "parent_run_id": self.parent,
            "run_ids": self.runs,
            "log_levels": _LEVELS.get(self.level, 0),
        }

    def since_at(self, now: datetime) -> datetime | None:
        """Return the instant from which runs are shown; None for all."""
        if self.since in SPANS:
            length = SPANS[self.since][1]
            return now - length if length is not None else None
        return _moment(self.since, now)

    def period(self, zone: tzinfo, now: datetime) -> str:
        """Return how far back the page looks, in words: ``last 24 h``, ``since yesterday 18:00``."""
        if self.since in SPANS:
            return SPANS[self.since][0]
        return f"last {self.since}" if _span(self.since) is not None else f"since {_told(self.since, zone, now)}"

    def chips(self, zone: tzinfo, now: datetime) -> list[Chip]:
        """Return each filter in force but the beginning, with the address without it.

        :param zone: that of the page's times
        """
        found = [
            Chip(text=sign_of(each).word, without=self.address(states=_less(self.states, each))) for each in self.states
        ]
        found += self._chips_of("triggers", "trigger")
        for name, title in _SINGLE.items():
            value = getattr(self, name)
            if value:
                shown = who(value) if name == "by" else _told(value, zone, now) if name == "until" else value
                found.append(Chip(text=f"{title}{shown}", without=self.address(**{name: ""})))
        if self.runs:
            found.append(Chip(text=f"only {counted(len(self.runs), 'run')}", without=self.address(runs=())))
        if self.level:
            found.append(Chip(text=_LEVEL_TITLES[self.level], without=self.address(level="")))
        return found + self._chips_of("reasons", "reason")

    def hidden_chips(self) -> list[Chip]:
        """Return the jobs that are left out, each with the address that shows it again."""
        return self._chips_of("hidden", "not")

    def _chips_of(self, field: str, title: str) -> list[Chip]:
        values = getattr(self, field)
        less: list[tuple[str, dict[str, Any]]] = [(each, {field: _less(values, each)}) for each in values]
        return [Chip(text=f"{title}: {each}", without=self.address(**changes)) for each, changes in less]


_DEFAULTS = {each.name: each.default for each in fields(RunQuery)}
_NAMES = {"state": "state", "trigger": "trigger", "not": "job", "reason": "reason", "off": "column"}
_IN_ADDRESS = {
    "states": "state", "triggers": "trigger", "hidden": "not", "reasons": "reason", "prefix": "id",
    "runs": "run", "before": "older_than", "after": "newer_than",
}  # fmt: skip
_SINGLE = {
    "job": "job: ", "host": "host: ", "tag": "tag: ", "by": "by ", "prefix": "id: ", "replay_of": "replays of ",
    "parent": "called by ", "until": "until ",
}  # fmt: skip
_LEVEL_TITLES = {"warning": "▲ with warnings", "error": "✕ with errors in the log"}


def _in_address(values: Mapping[str, Any]) -> str:
    pairs: list[tuple[str, str]] = []
    for field, value in values.items():
        if value != _DEFAULTS[field]:
            name = _IN_ADDRESS.get(field, field)
            pairs += [(name, one) for one in value] if isinstance(value, tuple) else [(name, value)]
    return urlencode(pairs)


def _less(values: tuple[str, ...], one: str) -> tuple[str, ...]:
    return tuple(each for each in values if each != one)


def _span(text: str) -> timedelta | None:
    found = _SPAN.fullmatch(text)
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None


def _instant(text: str, zone: tzinfo = UTC) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _moment(text: str, now: datetime) -> datetime | None:
    span = _span(text)
    return now - min(span, now - _EPOCH) if span is not None else _instant(text)


def _told(text: str, zone: tzinfo, now: datetime) -> str:
    """Return a moment of an address as a person says it."""
    instant = _instant(text)
    return in_words(instant, zone, now) if instant is not None else f"{text} ago"
