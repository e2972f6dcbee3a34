"""The state of a project that may need a person, and the form in which such a thing is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nomaflow.client.values import HostView, JobView, PauseView, ProblemView, RunView
from nomaflow.client.values.alerts import MuteView


@dataclass(frozen=True, kw_only=True, slots=True)
class Act:
    """Something to do.

    :param kind: ``link``, ``cancel`` (asks in place) or ``reload``
    :param target: an address; for ``cancel`` the run, for ``reload`` the host
    :param verb: what one has to be allowed to do, of docs/access.md; empty to look only
    :param job_id: the job that it is done to
    :param host: the host of that job; empty if it is not known
    """

    kind: str
    label: str
    target: str
    icon: str = ""
    verb: str = ""
    job_id: str = ""
    host: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """One thing that needs a person.

    :param key: names it, the same on every page
    :param css: the end of the class ``state-…``
    :param subject: the job or host
    :param at: when it happened, or since when it is so
    :param counts: True if it goes on since then, so that the time is counted
    :param jobs: the jobs that it is about if it stands for many of one *host*
    :param mute: the mute for which the alerts say nothing of it; None if they would
    """

    key: str
    css: str
    sign: str
    subject: str
    href: str
    text: str
    fix: str = ""
    at: datetime | None = None
    counts: bool = False
    timezone: str = ""
    seconds: float | None = None
    acts: tuple[Act, ...] = ()
    jobs: tuple[str, ...] = ()
    host: str = ""
    mute: MuteView | None = None


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The present state of a project.

    :param jobs: those that runs tell of, and those in trouble, by id
    :param problems: those of whole files
    :param more_troubled: number of jobs in trouble that are not among the jobs, where there are very many
    :param pauses: those in effect
    :param unhappy: FAILED and MISSED runs of late, newest first
    :param open: QUEUED and RUNNING runs
    :param more_of: the jobs that may have more runs than these, unhappy or waiting
    :param stats: ``JobStatsView`` of jobs, by id
    """

    now: datetime
    jobs: Mapping[str, JobView]
    problems: Sequence[ProblemView] = ()
    more_troubled: int = 0
    pauses: Sequence[PauseView] = ()
    hosts: Sequence[HostView] = ()
    unhappy: Sequence[RunView] = ()
    open: Sequence[RunView] = ()
    more_of: Collection[str] = ()
    stats: Mapping[str, Any] = field(default_factory=dict)
