"""The texts of messages: of one incident, of several, of many."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nomaflow.client.values import LogLine, from_micros
from nomaflow_alerts.ledger import Incident, Mute
from nomaflow_alerts.messages.details import NO_DETAILS, Details
from nomaflow_alerts.messages.harmless_text import cut, plain
from nomaflow_alerts.messages.wording import (
    ONE_MOMENT,
    clock,
    counted,
    ending,
    group_title,
    job_name,
    reasons,
    title,
)
from nomaflow_api.time_spans import time_span

_NAMED = 10
_FURTHER = 8
_TEXT = 16_384
_IN_FULL = 3
_SHORT_WHY = 100
_REPLAYED = ("failed", "rows")


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """The subject of a message.

    :param incidents: the incidents, in order of opening
    :param behind: for each incident the ones that are told with it
    :param mutes: all in force
    """

    kind: str
    incidents: Sequence[Incident]
    now: float
    console_url: str = ""
    details: Mapping[int, Details] = field(default_factory=dict)
    behind: Mapping[int, Sequence[Incident]] = field(default_factory=dict)
    mutes: Sequence[Mute] = ()


def write(about: Subject) -> tuple[str, str]:
    """Return subject and text of a message; the subject is the first line of the text."""
    open_ones = [each for each in about.incidents if each.is_open]
    over = [each for each in about.incidents if not each.is_open]
    lines: list[str] = []
    if len(about.incidents) == 1:
        lines += _one(about.incidents[0], about)
    else:
        if open_ones:
            lines += _one(open_ones[0], about) if len(open_ones) == 1 else _several(open_ones, about)
        if over:
            lines += [*([""] if open_ones else []), *_closed(over)]
    lines += _mutes(about.mutes)
    return plain(lines[0], most=150), cut("\n".join(lines))


def _one(incident: Incident, about: Subject) -> Iterator[str]:
    details = about.details.get(incident.id, NO_DETAILS)
    yield from _what(incident, about)
    if incident.host:
        step = incident.facts.get("step")
        yield f"Where: host {incident.host}" + (f", step {plain(str(step))}" if step else "")
    yield _since(incident, about.now)
    why = _why(incident, details)
    if why:
        yield f"Why: {why}"
    if incident.is_open and details.lines:
        yield "It said last:"
        yield from log_lines(details.lines)
    yield from _often(incident, details)
    if details.next_fire is not None:
        yield f"Next fire: {details.next_fire:%Y-%m-%d %H:%M:%S} UTC"
    yield from _behind(about.behind.get(incident.id, ()), about.console_url)
    yield from _ways(incident, about.console_url)
    unknown = incident.facts.get("unknown")
    if unknown:
        yield f"Note: no channel is called {', '.join(map(plain, unknown))}; this went to the default"


def _what(incident: Incident, about: Subject) -> Iterator[str]:
    name = plain(title(incident))
    if not incident.is_open:
        yield f"{name}: {ending(incident)}" if incident.tells_end else name
    elif about.kind == "reminder":
        yield f"Still open: {name}, for {time_span(about.now - incident.opened_at)}"
    else:
        yield name


def _since(incident: Incident, now: float) -> str:
    since = float(incident.facts.get("since") or incident.opened_at)
    if incident.closed_at is not None:
        return f"From: {clock(since)} to {clock(incident.closed_at)}"
    return f"Since: {clock(since)} ({time_span(now - since)})"


def _why(incident: Incident, details: Details) -> str:
    run = details.run
    why = incident.why
    if incident.condition == "never_started" and run is not None and run.reason is not None:
        why = run.reason.message or why
    if incident.condition == "missed" and run is not None and run.fold is not None:
        fold = run.fold
        first, last = (f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "?" for at in (fold.first, fold.last))
        fires = f"{counted(fold.count, 'fire')}, {first}" + (f" to {last}" if fold.count > 1 else "")
        why = f"{fires}: {why}"
    error = str(incident.facts.get("error") or "")
    if error and error.partition("\n")[0] not in why:
        why = f"{why}: {error.partition(chr(10))[0]}" if why else error
    return plain(why, most=600)


def log_lines(lines: Iterable[LogLine]) -> Iterator[str]:
    """Yield lines of a log; of the further ones in a line, such as those of a traceback, the last ones."""
    for line in lines:
        yield from _log_line(line)


def _log_line(line: LogLine) -> Iterator[str]:
    text = line.message[: 2 * _TEXT] if len(line.message) > 4 * _TEXT else line.message
    first, *more = text.rstrip("\n").split("\n")
    yield f"  {from_micros(line.at_us):%H:%M:%S} {line.level_name} {plain(line.logger, most=60)}: {plain(first)}"
    left = more[-_FURTHER:]
    if len(left) < len(more):
        yield f"    … {len(more) - len(left)} lines"
    yield from (f"    {plain(each)}" for each in left)


def _often(incident: Incident, details: Details) -> Iterator[str]:
    if incident.condition == "failed":
        steps = details.run.steps if details.run is not None else ()
        tries = next((step.last.attempt for step in steps if step.name == incident.facts.get("step")), 0)
        last = f", the last one after {tries:,} tries" if tries > 1 else ""
        yield f"How often: {counted(incident.count, 'failure')}{' in a row' if incident.count > 1 else ''}{last}"
    elif incident.count > 1:
        yield f"How often: {incident.count:,} times"


def _behind(behind: Sequence[Incident], console_url: str) -> Iterator[str]:
    if behind:
        over = sum(not each.is_open for each in behind)
        known = f", {over:,} of them over" if over else ""
        yield f"Behind it: {group_title(behind)}{known}"
        yield from _named(behind, console_url)


def _ways(incident: Incident, console_url: str) -> Iterator[str]:
    if incident.run_id:
        yield f"See: {_run_page(incident, console_url)}"
    elif incident.job_id:
        page = f"{console_url.rstrip('/')}/jobs/{incident.job_id}" if console_url else ""
        yield f"See: {page or f'nomaflow job {shlex.quote(incident.job_id)}'}"
    else:
        yield f"See: {console_url or 'nomaflow doctor'}"
    if incident.is_open:
        yield from _mend(incident)


def _run_page(incident: Incident, console_url: str) -> str:
    """Return where the run of an incident is shown: its page, or without a console the command."""
    return f"{console_url.rstrip('/')}/runs/{incident.run_id}" if console_url else f"nomaflow show {incident.run_id}"


def _mend(incident: Incident) -> Iterator[str]:
    if incident.condition in _REPLAYED and incident.run_id:
        since = " --from-failed" if incident.condition == "failed" else ""
        yield f"Fix: nomaflow replay {incident.run_id}{since}"
    elif incident.condition in ("late", "missed"):
        preset = f" --preset {shlex.quote(incident.preset)}" if incident.preset else ""
        yield f"Fix: nomaflow run {shlex.quote(incident.job_id)}{preset}"
    elif incident.condition == "long_run" and incident.run_id:
        yield f"Stop it: nomaflow cancel {incident.run_id}"
    elif incident.condition in ("load_refused", "jobs_disabled"):
        yield f"Fix: correct it, then: nomaflow reload {shlex.quote(incident.host)}"


def _several(incidents: Sequence[Incident], about: Subject) -> Iterator[str]:
    yield plain(group_title(incidents))
    yield f"Since: {clock(min(each.opened_at for each in incidents))}"
    whys = reasons(incidents)
    for why, number in whys[:3]:
        yield f"Why: {why}" + (f" ({number:,} of them)" if number > 1 else "")
    total = sum(each.count for each in incidents)
    if total > len(incidents):
        yield f"How often: {total:,} times together"
    yield from _named(incidents, about.console_url, whys=len(whys) > 1)
    told: set[str] = set()
    for each in incidents[:_IN_FULL]:
        yield from _behind(about.behind.get(each.id, ()), about.console_url)
        details = about.details.get(each.id, NO_DETAILS)
        if details.lines and each.why not in told:
            told.add(each.why)
            yield f"{plain(job_name(each))} said last:"
            yield from log_lines(details.lines[-5:])
    yield f"See: {about.console_url or 'nomaflow alerts open'}"


def _named(incidents: Sequence[Incident], console_url: str, *, whys: bool = False) -> Iterator[str]:
    """Yield a line for each incident.

    :param whys: True if they have not all the same reason, so that each line says its own
    """
    for each in incidents[:_NAMED]:
        why = f": {plain(each.why, most=_SHORT_WHY)}" if whys and each.why else ""
        run = f" · {_run_page(each, console_url)}" if each.run_id else ""
        often = f" · {each.count:,} times" if each.count > 1 else ""
        yield f"  {plain(title(each))}{why}{often}{run}"
    if len(incidents) > _NAMED:
        yield f"  and {len(incidents) - _NAMED:,} more"


def _closed(incidents: Sequence[Incident]) -> Iterator[str]:
    if len(incidents) == 1:
        yield f"Closed: {_ended(incidents[0])}"
        return
    yield f"Closed: {plain(group_title(incidents))}"
    for each in incidents[:_NAMED]:
        yield f"  {_ended(each)}"
    if len(incidents) > _NAMED:
        yield f"  and {len(incidents) - _NAMED:,} more"


def _ended(incident: Incident) -> str:
    how = plain(incident.why, most=600) if incident.condition in ONE_MOMENT else ending(incident)
    return f"{plain(title(incident))}: {how}"


def _mutes(mutes: Sequence[Mute]) -> Iterator[str]:
    for each in mutes[:5]:
        what = f"job {each.job_id}" if each.job_id else f"host {each.host}" if each.host else "everything"
        yield f"Muted: {plain(what)} until {clock(each.until)}, by {plain(each.by)}: {plain(each.why)}"
    if len(mutes) > 5:
        yield f"Muted: {len(mutes) - 5} more"
