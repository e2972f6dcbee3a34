"""The jobs of the showcase: what each takes on a usual day, when it fires, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["JOBS", "Job", "jobs_toml"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job of the showcase.

    :param steps: name, function and values of each
    :param schedule: a crontab expression; empty for none
    :param hours: a run each so many hours in its history; 0 for none
    :param usual: seconds that a run takes
    :param fails: runs that fail, by number from the newest, beginning with 0
    :param more: further lines of its table
    """

    id: str
    about: str
    steps: tuple[tuple[str, str, str], ...]
    schedule: str = ""
    zone: str = "Europe/Paris"
    hours: int = 24
    usual: float = 40.0
    fails: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    more: str = ""


JOBS = (
    Job(
        id="month-end",
        about="Copy the invoices, score them, write the month's summary",
        steps=(
            ("extract", "extract", "{ rows = 182044, seconds = 5 }"),
            ("score", "score", "{ tenant = 10, seconds = 9 }"),
            ("summary", "summarise", "{ tenant = 10 }"),
        ),
        schedule="0 6 * * *",
        usual=125,
        fails=(0, 9),
        tags=("finance", "nightly"),
        more='[jobs.retry]\nattempts = 2\nbase_seconds = 3\njitter = 0\nno_retry_on = ["ValueError"]\n',
    ),
    Job(
        id="invoice-load",
        about="Load the day's invoices of all tenants",
        steps=(
            ("extract", "extract", "{ rows = 1204551, seconds = 60 }"),
            ("score", "score", "{ tenant = 7, seconds = 900, rows = 9000 }"),
        ),
        schedule="40 8 * * *",
        usual=360,
        tags=("finance",),
    ),
    Job(
        id="nightly-cleanup",
        about="Remove sessions that nobody has used for a month",
        steps=(("purge", "purge", "{ max_age_days = 30 }"),),
        schedule="30 2 * * *",
        usual=41,
        tags=("nightly",),
    ),
    Job(
        id="hourly-export",
        about="Give the partners their orders of the last hour",
        steps=(("export", "export", '{ target = "sftp://partners/orders" }'),),
        schedule="0 * * * *",
        hours=1,
        usual=52,
        fails=(11,),
        tags=("partners",),
    ),
    Job(
        id="customer-dedupe",
        about="Find customers that are there twice",
        steps=(
            ("find", "score", "{ tenant = 3, rows = 4000, seconds = 10 }"),
            ("merge", "summarise", "{ tenant = 3 }"),
        ),
        schedule="15 3 * * *",
        usual=610,
        fails=(6, 7),
        tags=("nightly",),
    ),
    Job(
        id="fx-rates",
        about="Fetch exchange rates",
        steps=(("fetch", "mail", '{ to = "rates" }'),),
        schedule="*/5 * * * *",
        zone="UTC",
        hours=0,
        usual=2,
        tags=("market",),
    ),
    Job(
        id="stock-forecast",
        about="Forecast next week's stock",
        steps=(("forecast", "score", "{ tenant = 4, rows = 6000, seconds = 8 }"),),
        schedule="20 6 * * mon-fri",
        usual=840,
        tags=("planning",),
    ),
    Job(
        id="daily-digest",
        about="Send the figures of the day",
        steps=(("mail", "mail", '{ to = "leads" }'),),
        schedule="30 7 * * mon-fri",
        zone="America/New_York",
        usual=4,
        tags=("reports",),
    ),
    Job(
        id="backup-check",
        about="Restore a part of last night's backup, and compare it",
        steps=(("verify", "verify", "{ sample = 0.01 }"),),
        schedule="45 4 * * *",
        zone="UTC",
        usual=1500,
        tags=("nightly", "ops"),
    ),
    Job(
        id="legacy-export",
        about="The old export, until the vendor has moved",
        steps=(("export", "export", '{ target = "ftp://legacy" }'),),
        schedule="10 5 * * *",
        usual=540,
        tags=("partners",),
    ),
    Job(
        id="gdpr-erase",
        about="Erase customers who asked for it",
        steps=(("purge", "purge", "{ rows = 12, seconds = 3 }"),),
        schedule="0 4 * * sun",
        hours=168,
        usual=9,
        tags=("legal",),
    ),
    Job(
        id="sales-copy",
        about="Copy one tenant's sales; by hand",
        steps=(("copy", "extract", "{ rows = 88010, seconds = 400 }"),),
        hours=0,
        usual=200,
    ),
)


def jobs_toml() -> str:
    """Return the jobs file of the team."""
    parts = []
    for job in JOBS:
        schedule = f'schedule = "{job.schedule}"\ntimezone = "{job.zone}"\n' if job.schedule else ""
        tags = ", ".join(f'"{tag}"' for tag in job.tags)
        parts.append(f'[[jobs]]\nid = "{job.id}"\ndescription = "{job.about}"\n{schedule}tags = [{tags}]\n{job.more}')
        parts += [
            f'[[jobs.steps]]\nname = "{name}"\ncallable = "shop.invoices:{function}"\nop_kwargs = {values}\n'
            for name, function, values in job.steps
        ]
    broken = (
        '[[jobs]]\nid = "broken-import"\nschedule = "0 25 * * *"\n[[jobs.steps]]\ncallable = "shop.invoices:mail"\n'
    )
    return "\n".join([*parts, broken])
