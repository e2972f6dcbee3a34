"""The log of a process, on stderr: lines for people, or one JSON object a line. Rotation is left to the platform."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from nomaflow_telemetry.visible_text import paragraph, printable

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_FORMATS = ("text", "json")

FIELDS = ("host", "run_id", "step", "attempt")
"""The optional subjects of a record: give them as ``extra``. A key is absent if it does not apply."""

_INDENT = 4
_STATE = logging.getLogger("nomaflow.state")


def attempt_fields(attempt_key: str) -> dict[str, str | int]:
    """Return the fields of a record about an attempt, for ``extra``.

    :param attempt_key: ``run/step/attempt``; other text counts as a run's id
    """
    run_id, _, rest = attempt_key.partition("/")
    step, _, number = rest.rpartition("/")
    if not step or not number.isdigit():
        return {"run_id": attempt_key}
    return {"run_id": run_id, "step": step, "attempt": int(number)}


class _TextFormatter(logging.Formatter):
    """``2026-11-24 12:30:01.123 WARNING  nomaflow_host.x: text  run_id=run_1 step=a attempt=1``, in local time.

    Further lines of a message, and a traceback, are indented: only a record begins at the left.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by a traceback if there is one."""
        clock = dt.datetime.fromtimestamp(record.created, tz=dt.UTC).astimezone()
        stamp = clock.isoformat(sep=" ", timespec="milliseconds")[:23]
        line = f"{stamp} {record.levelname:<8} {record.name}: {record.getMessage()}"
        told = _told(record, FIELDS)
        if told:
            line += "  " + " ".join(f"{key}={printable(str(value))}" for key, value in told.items())
        line += "".join(f" {json.dumps(state)}" for state in _told(record, ("state",)).values())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return paragraph(line, indent=_INDENT)


class _JsonFormatter(logging.Formatter):
    """One JSON object a line.

    :param always: fields that each line has
    """

    def __init__(self, always: Mapping[str, str]) -> None:
        super().__init__()
        self._always = dict(always)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        clock = dt.datetime.fromtimestamp(record.created, tz=dt.UTC)
        told: dict[str, Any] = {
            "ts": clock.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
            **_told(record, (*FIELDS, "state")),
        }
        if record.exc_info:
            told["exc"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def set_up_logging(*, level: str | int, form: str, host: str = "", stream: TextIO | None = None) -> None:
    """Send the log of this process to a stream, by default stderr.

    :param level: name or number of the lowest level
    :param form: ``text`` or ``json``
    :param host: the host's name, a field of each JSON line; empty for none
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter({"host": host} if host else {}) if form == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    _STATE.setLevel(logging.INFO)  # it was requested, whatever the level
    # Messages of these loggers concern their own steps, and nothing that an operator could act on.
    for name in ("alembic", "watchfiles"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)  # noqa: FBT003  # the function takes its flag by position


def write_error(text: str) -> None:
    """Write a message on stderr, from a process that has no log yet, or no more."""
    sys.stderr.write(paragraph(text, indent=_INDENT) + "\n")


def write_state(state: Mapping[str, Any]) -> None:
    """Write a dump of a process's state into its log, as one line. It must be JSON-ready."""
    _STATE.info("state", extra={"state": dict(state)})


def _told(record: logging.LogRecord, keys: Iterable[str]) -> dict[str, Any]:
    """Return those of some optional attributes that a record has."""
    return {key: value for key in keys if (value := getattr(record, key, None)) is not None}
