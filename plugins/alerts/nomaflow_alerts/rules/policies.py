"""The policy of each job: ``[jobs.alerts]`` over the rules of ``[alerts]`` over the defaults."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nomaflow_alerts.ledger import Sighting
from nomaflow_alerts.rules.recipients import Recipients
from nomaflow_project.cron import CronError, CronExpression, zone
from nomaflow_project.jobs.alert_policy import AlertPolicy, server_of
from nomaflow_project.models.alerts_section import AlertRule, AlertsSection

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRules:
    """A policy with its defaults filled in: the keys of `AlertPolicy`, and who is told.

    :param channels: who is told, by the policy's recipients and severity
    :param unknown: recipients that are no channel
    """

    on_failure: bool = True
    failures: int = 1
    on_recovery: bool = True
    late_after_minutes: float | None = None
    on_missed: bool
    never_started_minutes: float = 30.0
    on_long_run_minutes: float | None = None
    long_run_factor: float | None = None
    rows_min: int | None = None
    rows_max: int | None = None
    rows_change_percent: float | None = None
    severity: str
    ping_url: str = ""
    channels: tuple[str, ...]
    unknown: tuple[str, ...]

    def sighting(self, condition: str, *, facts: Mapping[str, Any] | None = None, **more: Any) -> Sighting:
        """Return a sighting of a condition of the job.

        :param more: its other fields
        """
        unknown = {"unknown": list(self.unknown)} if self.unknown else {}
        return Sighting(
            condition=condition, severity=self.severity, channels=self.channels, tells_end=self.on_recovery,
            facts={**(facts or {}), **unknown}, **more,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timetable:
    """One schedule of a job; ``preset`` is empty for the job's own."""

    preset: str
    expression: str
    timezone: str

    def slots(self, after: float, until: float) -> Iterator[float]:
        """Yield the due instants after one time up to another, none for an expression that cannot be read."""
        try:
            cron, tz = CronExpression.parse(self.expression), zone(self.timezone)
        except CronError:
            return
        for at in cron.iter_after(datetime.fromtimestamp(after, UTC), tz):
            if at.timestamp() > until:
                return
            yield at.timestamp()

    def next_after(self, after: float) -> float | None:
        """Return the first due instant after a time, or None."""
        return next(self.slots(after, float("inf")), None)


@dataclass(frozen=True, slots=True)
class JobFacts:
    """The facts about a job that rules need.

    :param enabled: True if it fires by its schedules and can run
    """

    job_id: str
    host: str = ""
    tags: tuple[str, ...] = ()
    enabled: bool = True
    digest: str = ""
    timetables: tuple[Timetable, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    misfire: str = "latest"


class Policies:
    """The jobs of the kernel's catalogue, and what each is told about.

    The event loop learns the jobs while the ledger's thread asks for them.

    :ivar current: whether they are all jobs that the catalogue has now
    :ivar detached_after: seconds of a host's absence that are an incident
    """

    def __init__(self, alerts: AlertsSection) -> None:
        self.recipients = Recipients(alerts)
        self._rules: Sequence[AlertRule] = alerts.rules
        self._ping_hosts = frozenset(alerts.ping_hosts)
        self._scaled_hosts = alerts.scaled_hosts
        self.detached_after = alerts.host_detached_minutes * 60
        self.current = False
        self._jobs: dict[str, JobFacts] = {}
        self._made: dict[tuple[str, str], JobRules] = {}

    @property
    def jobs(self) -> Iterable[JobFacts]:
        """The known jobs."""
        return tuple(self._jobs.values())

    def is_removed(self, job_id: str) -> bool:
        """Return whether the catalogue certainly has no such job."""
        return self.current and job_id not in self._jobs

    def learn(self, job: JobFacts) -> None:
        """Take in a job, in place of what was known of it."""
        self._jobs[job.job_id] = job
        self._made = {}  # not cleared: rules of before that are just being made must not get into it

    def keep_only(self, job_ids: set[str]) -> None:
        """Forget all other jobs: these are the catalogue's."""
        self.current = True
        self._jobs = {name: job for name, job in self._jobs.items() if name in job_ids}

    def rules(self, job_id: str, host: str = "") -> JobRules:
        """Return the rules of a job, known or not.

        :param host: its host, if the job is not known
        """
        known = self._made
        made = known.get((job_id, host))
        if made is None:
            job = self._jobs.get(job_id) or JobFacts(job_id, host)
            made = known[job_id, host] = self._effective(job)
        return made

    def host_of(self, job_id: str) -> str:
        """Return the host of a job, empty if it is not known."""
        job = self._jobs.get(job_id)
        return job.host if job else ""

    def may_be_away(self, host: str) -> bool:
        """Return whether it is no incident that a host has no instance: they come when there is work."""
        return _matches(host, self._scaled_hosts)

    def _effective(self, job: JobFacts) -> JobRules:
        keys: dict[str, Any] = {"on_missed": job.misfire != "skip", "severity": "warning"}
        for layer in (*(_given(rule) for rule in self._rules if _fits(rule, job)), job.given):
            keys |= layer
        channels, unknown = self.recipients.channels(keys.pop("recipients", ()), keys["severity"])
        if not self._may_ping(job):
            del keys["ping_url"]
        return JobRules(**keys, channels=channels, unknown=unknown)

    def _may_ping(self, job: JobFacts) -> bool:
        """Return whether a job's check is requested: one of its own file only at a server that the operator names."""
        own = str(job.given.get("ping_url") or "")
        if not own or server_of(own) in self._ping_hosts:
            return True
        _LOG.warning(
            "the check of job %s is not requested: %r is no server of [alerts] ping_hosts", job.job_id, server_of(own)
        )
        return False


def _given(rule: AlertRule) -> Mapping[str, Any]:
    return AlertPolicy.given({name: getattr(rule, name) for name in AlertPolicy.__dataclass_fields__})


def _fits(rule: AlertRule, job: JobFacts) -> bool:
    return all(
        not patterns or any(_matches(value, patterns) for value in values)
        for patterns, values in ((rule.jobs, (job.job_id,)), (rule.hosts, (job.host,)), (rule.tags, job.tags))
    )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
