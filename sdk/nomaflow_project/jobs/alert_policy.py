"""The keys of ``[jobs.alerts]``, which rules of ``[alerts]`` may have too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from nomaflow_project.reading.keys import Checked, Entry, key, refusal

Severity = Literal["info", "warning", "critical"]

_MOST_MINUTES = 525_600.0


def is_http(url: str) -> bool:
    """Return True if a text is the URL of a web server."""
    return url.startswith(("http://", "https://"))


def server_of(url: str) -> str:
    """Return the server that the URL of a web server names, as ``HOST`` or ``HOST:PORT``; empty for any other text."""
    try:
        found = urlsplit(url)
        host, port = found.hostname or "", found.port
    except ValueError:
        return ""
    if not host or not is_http(url):
        return ""
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def _web_url(value: str) -> str:
    if value and not server_of(value) and "${" not in value:
        raise refusal(
            "bad_value", "expected a URL that begins with https:// or http://", fix="copy the URL of the check"
        )
    return value


WebUrl = Annotated[str, Checked(_web_url)]


def _minutes(meaning: str) -> Any:
    return key(None, meaning, unit="minutes", gt=0, le=_MOST_MINUTES)


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertPolicy(Entry):
    """Alerts of the job. A key that is left out is taken from a rule of `[alerts]`, otherwise it has its default."""

    on_failure: bool | None = key(
        None, "Whether a run that ends FAILED, after all tries, opens an incident. Default: true."
    )
    failures: int | None = key(None, "Only after this many failures in a row. Default: 1.", ge=1, le=1000)
    on_recovery: bool | None = key(None, "Whether the end of an incident is reported. Default: true.")
    late_after_minutes: float | None = _minutes(
        "An incident if no run has SUCCEEDED this long after a due instant, whatever the cause. Default: none."
    )
    on_missed: bool | None = key(
        None, 'Whether fires that did not run (MISSED) open one. Default: true, but false with `misfire = "skip"`.'
    )
    never_started_minutes: float | None = _minutes("An incident if a run waits for longer than this. Default: 30.")
    on_long_run_minutes: float | None = _minutes("An incident if a run lasts longer than this; the run continues.")
    long_run_factor: float | None = key(
        None,
        "An incident if a run takes longer than this many times the 95th percentile of the last 50 SUCCEEDED ones "
        "of its job and preset. It needs 20 of them, and 60 s.",
        ge=1,
        le=1000,
    )
    rows_min: int | None = key(None, "An incident if a SUCCEEDED run has fewer rows than this.", ge=0)
    rows_max: int | None = key(None, "An incident if a SUCCEEDED run has more rows than this.", ge=0)
    rows_change_percent: float | None = key(
        None,
        "An incident if the rows of a SUCCEEDED run differ by more from the median of the last 30. It needs 5 of them.",
        unit="percent",
        gt=0,
    )
    recipients: tuple[str, ...] = key(
        tuple, "Names of channels of `[alerts]`, or mail addresses. Empty: those of a rule, else `[alerts] default`."
    )
    severity: Severity | None = key(None, "How bad it is; channels choose by it. Default: `warning`.")
    ping_url: WebUrl | None = key(
        None,
        "A check at healthchecks.io or the like: requested with `/start` when a run starts, as it is after success, "
        "with `/fail` and the end of the log after a failure. `{state}` in it becomes run, complete or fail instead. "
        "A job's is requested only at a server of `[alerts] ping_hosts`.",
    )

    @classmethod
    def given(cls, table: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Return the keys of a table as JSON that are set and that this version knows."""
        known = {each.name for each in fields(cls)}
        return {name: value for name, value in (table or {}).items() if name in known and value not in (None, [], ())}
