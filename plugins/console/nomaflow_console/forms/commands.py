"""The command lines that do what a form does."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import datetime

from nomaflow_console.forms.merging import Wanted
from nomaflow_console.forms.sending import Options


def run_command(job_id: str, wanted: Wanted, options: Options) -> str:
    """Return the command that starts a run."""
    preset = ["--preset", options.preset] if options.preset else []
    return shlex.join(["nomaflow", "run", job_id, *preset, *_asked(wanted, options)])


def replay_command(run_id: str, wanted: Wanted, options: Options) -> str:
    """Return the command that replays a run."""
    start = options.start
    words = ["nomaflow", "replay", run_id]
    words += ["--from-failed"] if start == "failed" else ["--from-step", start] if start else []
    words += ["--today"] if options.current_definition else []
    return shlex.join([*words, *_asked(wanted, options)])


def break_command(act: str, *, job: str, host: str, why: str, span: str, until: datetime | None = None) -> str:
    """Return the command that pauses or mutes a job, a host, or, if both are empty, everything.

    :param act: ``pause`` or ``alerts mute``
    :param span: how long, such as ``4h``; empty if *until* says it, or if it has no end
    """
    words = ["nomaflow", *act.split()]
    words += ["--host", host] if host else [job] if job else []
    words += ["--for", span] if span else ["--until", until.isoformat()] if until else []
    return shlex.join([*words, "--why", why or "…"])


def _asked(wanted: Wanted, options: Options) -> Iterator[str]:
    """Yield the words for values, switches and options."""
    for key, value in wanted.params.items():
        yield from ("--param", f"{key}={_text(value)}")
    for step, values in wanted.op_kwargs.items():
        for key, value in values.items():
            yield from ("--op-kwarg", f"{step}.{key}={_text(value)}")
    for step, on in wanted.steps.items():
        yield from ("--step", f"{step}={'on' if on else 'off'}")
    yield from ("--log-level", options.log_level) if options.log_level else ()
    yield from ("--overlap", "allow") if options.allow_overlap else ()


def _text(value: object) -> str:
    """Return the text that the command line reads as a value: JSON, and plain text where that is not JSON."""
    if isinstance(value, str) and value and value[0] not in '{["' and value == value.strip():
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)
