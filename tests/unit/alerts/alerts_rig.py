"""The rules of alerts without processes: events go in, messages come out, and the clock is the test's."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from nomaflow.client.values import EventView, ReasonView, RunView
from nomaflow_alerts.event_batches import fold
from nomaflow_alerts.ledger import Book, Incident, Ledger, Message
from nomaflow_alerts.messages.details import Details
from nomaflow_alerts.messages.grouping_and_digests import Composer, compose, next_message_at, plan
from nomaflow_alerts.rules.policies import JobFacts, Policies, Timetable
from nomaflow_alerts.rules.runs import Findings
from nomaflow_alerts.rules.timers import check_absent_hosts, check_expected, check_runs, expect_runs
from nomaflow_project.models.alerts_section import AlertsSection
from nomaflow_project.reading.problems import Place
from nomaflow_project.reading.validation import validate

__all__ = ["START", "Rig", "section"]

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC).timestamp()
"""A Monday."""
T = TypeVar("T")
CHANNELS = {"ops": {"url": "json://127.0.0.1/"}}


def section(**keys: Any) -> AlertsSection:
    """Return ``[alerts]`` with some keys; without channels there is one, ``ops``."""
    found, problems = validate(AlertsSection, {"channels": CHANNELS, **keys}, Place("nomaflow.toml", "alerts"))
    assert found is not None, problems
    return found


@dataclass(kw_only=True)
class Rig:
    """Rules, a file in memory, and a clock."""

    alerts: AlertsSection = field(default_factory=section)
    now: float = START
    quiet: bool = False
    details: Mapping[int, Details] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.policies = Policies(self.alerts)
        self.ledger = Ledger(None, clock=lambda: self.now)
        self.ledger._open()
        weakref.finalize(self, self.ledger._close)
        self._seqs, self._runs = itertools.count(1), itertools.count(1)
        self.composer = Composer(self.alerts)

    def work(self, what: Callable[[Book], T]) -> T:
        """Do something in one transaction."""
        return self.ledger._work(what)

    def job(self, job_id: str = "nightly", *, schedule: str = "", zone: str = "UTC", **given: Any) -> None:
        """Make a job known; its ``[jobs.alerts]`` are the given keys."""
        tables = (Timetable("", schedule, zone),) if schedule else ()
        host, misfire = given.pop("host", "team"), given.pop("misfire", "latest")
        tags = given.pop("tags", ())
        self.policies.learn(
            JobFacts(job_id, host, tuple(tags), digest="x", timetables=tables, given=given, misfire=misfire)
        )

    def event(self, kind: str, *, seq: int = 0, findings: Findings | None = None, **more: Any) -> EventView:
        """Take in an event of now."""
        code = more.pop("code", "")
        reason = ReasonView(code=code, message=more.pop("why", "")) if code or "why" in more else None
        at = datetime.fromtimestamp(self.now, UTC)
        event = EventView(seq=seq or next(self._seqs), at=at, kind=kind, reason=reason, **more)
        self.work(
            partial(
                fold, events=[event], through=event.seq, findings=findings or Findings(), policies=self.policies,
                store="postgresql", quiet=self.quiet,
            )
        )  # fmt: skip
        return event

    def ends(
        self, state: str, job_id: str = "nightly", *, preset: str = "", slot: float | None = None,
        rows: int | None = None, run_id: str = "", started: float | None = None, why: str = "no rows",
        code: str = "step_failed", findings: Findings | None = None, host: str = "team",
    ) -> str:  # fmt: skip
        """Let a run end now, and return its id."""
        run_id = run_id or f"run_{next(self._runs)}"
        data = {
            "host": host, "preset": preset, "rows_affected": rows, "error": why if state == "FAILED" else "",
            "slot_us": None if slot is None else round(slot * 1e6),
            "started_us": round((self.now if started is None else started) * 1e6), "attempts": 1, "failed_step": "one",
        }  # fmt: skip
        reason = {} if state == "SUCCEEDED" else {"why": why, "code": code}
        self.event("run.finished", run_id=run_id, job_id=job_id, run_state=state, data=data, host=host,
                   findings=findings, **reason)  # fmt: skip
        return run_id

    def wait(
        self,
        seconds: float,
        *,
        runs: Mapping[str, RunView | None] | None = None,
        attached: set[str] | None = None,
        launched: Collection[str] = (),
    ) -> list[Message]:
        """Let time pass in steps of a second at most a hundred, and return the messages that were made."""
        made: list[Message] = []
        step = max(seconds / 100, 1.0) if seconds else 0.0
        until = self.now + seconds
        while True:
            made += self.turn(runs=runs, attached=attached, launched=launched)
            if self.now >= until:
                return made
            self.now = min(self.now + step, until)

    def turn(
        self,
        *,
        runs: Mapping[str, RunView | None] | None = None,
        attached: set[str] | None = None,
        launched: Collection[str] = (),
    ) -> list[Message]:
        """Do what is due now, and return the messages that were made."""

        def check(book: Book) -> list[Message]:
            check_runs(book, self.policies, runs or {}, book.watched.runs_due(book.now))
            check_absent_hosts(book, self.policies, attached or set(), launched=launched)
            check_expected(book, self.policies)
            expect_runs(book, self.policies)
            made = [compose(book, draft, self.composer, self.details) for draft in plan(book, self.alerts)]
            due = next_message_at(book, self.alerts)
            assert due is None or due > book.now  # else the process would turn without a rest
            return [each for each in made if each is not None]

        return self.work(check)

    def open(self) -> list[str]:
        """Return the conditions of the open incidents."""
        return [each.condition for each in self.work(lambda book: book.open_incidents())]

    def incident(self, condition: str) -> Incident:
        """Return the one open incident of a condition."""
        [found] = self.work(lambda book: book.open_incidents(condition))
        return found
