"""The command lines that do what a form does."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from datetime import datetime

from nomaflow_console.forms.merging import Wanted


def run_command(
    job_id: str, wanted: Wanted, *, preset: str = "", log_level: str = "", allow_overlap: bool = False
) -> str:
    """Return the command that starts a run."""
    words = ["nomaflow", "run", job_id]
    words += ["--preset", preset] if preset else []
    words += _values(wanted)
    words += _options(wanted, log_level=log_level, allow_overlap=allow_overlap)
    return shlex.join(words)


def replay_command(
    run_id: str, wanted: Wanted, *, start: str = "", log_level: str = "", allow_overlap: bool = False,
    current_definition: bool = False,
) -> str:  # fmt: skip
    """Return the command that replays a run.

    :param start: the step to begin at; ``failed`` for the one that failed, empty for the first
    """
    words = ["nomaflow", "replay", run_id]
    words += ["--from-failed"] if start == "failed" else ["--from-step", start] if start else []
    words += ["--today"] if current_definition else []
    words += _values(wanted)
    words += _options(wanted, log_level=log_level, allow_overlap=allow_overlap)
    return shlex.join(words)


def break_command(act: str, *, job: str, host: str, why: str, span: str, until: datetime | None = None) -> str:
    """Return the command that pauses or mutes a job, a host, or, if both are empty, everything.

    :param act: ``pause`` or ``alerts mute``
    :param span: how long, such as ``4h``; empty if *until* says it, or if it has no end
    """
    words = ["nomaflow", *act.split()]
    words += ["--host", host] if host else [job] if job else []
    words += ["--for", span] if span else ["--until", until.isoformat()] if until else []
    return shlex.join([*words, "--why", why or "…"])


def _values(wanted: Wanted) -> Sequence[str]:
    words = []
    for key, value in wanted.params.items():
        words += ["--param", f"{key}={_text(value)}"]
    for step, values in wanted.op_kwargs.items():
        for key, value in values.items():
            words += ["--op-kwarg", f"{step}.{key}={_text(value)}"]
    return words


def _text(value: object) -> str:
    """Return the text that the command line reads as a value: JSON, and plain text where that is not JSON."""
    if isinstance(value, str) and value and value[0] not in '{["' and value == value.strip():
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)


def _options(wanted: Wanted, *, log_level: str, allow_overlap: bool) -> Sequence[str]:
    words = []
    for step, on in wanted.steps.items():
        words += ["--step", f"{step}={'on' if on else 'off'}"]
    words += ["--log-level", log_level] if log_level else []
    return [*words, "--overlap", "allow"] if allow_overlap else words
