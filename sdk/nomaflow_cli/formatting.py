"""Words, glyphs and numbers in the form for people."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import ne
from typing import TYPE_CHECKING, Any

from nomaflow_api.time_spans import rough_span, time_span
from nomaflow_telemetry.visible_text import printable

if TYPE_CHECKING:
    from nomaflow.client.values import TriggerView

_SIGNS: Mapping[str, tuple[str, str]] = {
    "QUEUED": ("◔", "dim"),
    "PENDING": ("◔", "dim"),
    "DISPATCHED": ("○", "cyan"),
    "RUNNING": ("●", "cyan"),
    "SUCCEEDED": ("✔", "green"),
    "FAILED": ("✘", "red"),
    "CANCELED": ("⊘", "yellow"),
    "SKIPPED": ("↷", "dim"),
    "MISSED": ("◌", "yellow"),
    "LOST": ("?", "magenta"),
    "ATTACHED": ("●", "green"),
    "UNREACHABLE": ("●", "red"),
    "DRAINING": ("●", "yellow"),
    "LOADING": ("●", "yellow"),
    "AWAITED": ("●", "yellow"),
    "DETACHED": ("●", "dim"),
}
_MOST_VALUES = 20
_LONGEST = 60
WITH_JSON = "shortened; whole with -o json"
"""The way out where a page has cut values."""


def sign(state: str) -> tuple[str, str]:
    """Return the sign and the rich style of a state of a run, an attempt or a host."""
    return _SIGNS.get(state, ("●", ""))


def elapsed(start: datetime | None, end: datetime | None) -> str:
    """Return the time from start to end, or to now if there is no end; empty if it has not begun."""
    if start is None:
        return ""
    return time_span(((end or datetime.now(UTC)) - start).total_seconds())


def age(instant: datetime | None, *, now: datetime | None = None) -> str:
    """Return the age of an instant, or the time until it: ``3 min ago``, ``in 2 h``, ``now``; empty for None."""
    if instant is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - instant).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{rough_span(seconds)} ago" if seconds > 0 else f"in {rough_span(-seconds)}"


def clock_time(instant: datetime | None, *, millis: bool = False) -> str:
    """Return the local time of day, ``14:03:22`` or ``14:03:22.101``; empty for None."""
    if instant is None:
        return ""
    return instant.astimezone().strftime("%H:%M:%S.%f")[: 12 if millis else 8]


def moment(instant: datetime | None) -> str:
    """Return a local date and time, as short as possible without ambiguity; empty for None."""
    if instant is None:
        return ""
    local, today = instant.astimezone(), datetime.now(UTC).astimezone()
    if local.date() == today.date():
        return local.strftime("%H:%M:%S")
    if abs(today - local) < timedelta(days=300):
        return local.strftime("%d %b %H:%M")
    return local.strftime("%Y-%m-%d %H:%M")


def amount(number: float | None) -> str:
    """Return a number with thousands separators; empty for None."""
    if number is None:
        return ""
    return f"{number:,.2f}" if number % 1 else f"{int(number):,}"


def count(number: int, noun: str) -> str:
    """Return ``1 row``, ``2 rows``."""
    return f"{amount(number)} {noun}" if number == 1 else f"{amount(number)} {noun}s"


def trigger_words(trigger: TriggerView) -> str:
    """Return what fired a run, and who: ``cli by ann``, ``cron 0 6 * * *``, ``call_job JOB/STEP``."""
    return " ".join(filter(None, (trigger.kind, "by" if trigger.by and trigger.has_caller else "", trigger.by)))


def subject(job_id: str, host: str) -> str:
    """Return what a pause or a mute is about: ``job 'nightly'``, ``host 'team'``, ``everything``."""
    return f"job {job_id!r}" if job_id else f"host {host!r}" if host else "everything"


def offers(jobs: int, callables: int) -> str:
    """Return what a host offers: ``2 jobs, 1 callable``."""
    return f"{count(jobs, 'job')}, {count(callables, 'callable')}"


def trouble_line(trouble: str) -> str:
    """Return the line about a kernel that cannot work, or works again."""
    return f"the kernel waits: {trouble}" if trouble else "the kernel works again"


def after_refusal(generation: int, *, by_kernel: bool) -> str:
    """Return what stays in use after a load of a host was refused.

    :param generation: the serving one; 0 for none
    :param by_kernel: True if the kernel refused the manifest, and the host serves the new code
    """
    if by_kernel:
        return "the jobs stay as they were, and the new code serves"
    return "the last good code stays in use" if generation else "there is no code to run until a load succeeds"


def as_json(value: Any) -> str:
    """Return a value as JSON with its characters as they are."""
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The beginning of values, for a person: `-o json` prints all of them.

    :param texts: by key, each on one line and harmless
    :param left: number of values that are left out
    :param is_cut: True if values are left out, or a key or a value is cut
    """

    texts: tuple[tuple[str, str], ...]
    left: int
    is_cut: bool

    @classmethod
    def of(cls, values: Mapping[str, Any], *, write: Callable[[Any], str] = as_json, longest: int = 300) -> Excerpt:
        """Return the excerpt of values.

        :param write: returns the text of a value
        :param longest: number of characters after which a text is cut
        """
        whole = [(printable(str(key)), printable(write(each))) for key, each in islice(values.items(), _MOST_VALUES)]
        texts = tuple((shortened(key, _LONGEST), shortened(text, longest)) for key, text in whole)
        left = len(values) - len(texts)
        return cls(texts=texts, left=left, is_cut=bool(left) or any(map(ne, whole, texts)))

    @classmethod
    def of_extras(cls, extras: Mapping[str, Any]) -> Excerpt:
        """Return the excerpt of a step's extras."""
        return cls.of(extras, write=_plainly, longest=_LONGEST)

    @property
    def rest(self) -> str:
        """The number of values that are left out: ``… 280 more``; empty for none."""
        return f"… {amount(self.left)} more" if self.left else ""


def shortened(text: str, longest: int) -> str:
    """Return the text, cut if it is longer."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def extras_text(extras: Mapping[str, Any]) -> str:
    """Return the first extras on one line: ``period 2026-10 · tenant 10``."""
    excerpt = Excerpt.of_extras(extras)
    return " · ".join([*map(" ".join, excerpt.texts), *filter(None, [excerpt.rest])])


def _plainly(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    return as_json(value) if isinstance(value, list | dict) else str(value)


def exit_words(code: int) -> str:
    """Return how a process ended: ``exit code 2``, ``killed by SIGKILL``.

    :param code: negative for a signal, as :mod:`subprocess` has it
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
