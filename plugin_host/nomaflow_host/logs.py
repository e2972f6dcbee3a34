"""The host's own log: lines for people, or JSON objects, on stderr."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from typing import TextIO

__all__ = ["setup_logging"]

_FIELDS = ("attempt", "run_id", "step")


class _TextFormatter(logging.Formatter):
    """``12:30:01.123 WARNING session: text  attempt=run_1/a/1``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by a traceback where there is one."""
        clock = dt.datetime.fromtimestamp(record.created, tz=dt.UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        name = record.name.removeprefix("nomaflow_host.").removeprefix("nomaflow.")
        fields = "".join(f"  {key}={value}" for key, value in _fields(record).items())
        line = f"{clock} {record.levelname:<7} {name}: {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        data = {
            "ts": dt.datetime.fromtimestamp(record.created, tz=dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            data["traceback"] = self.formatException(record.exc_info)
        return json.dumps(data)


def setup_logging(*, level: str, form: str, stream: TextIO | None = None) -> None:
    """Send the log of this process to a stream, by default stderr.

    :param form: ``text`` or ``json``
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # What it has to say concerns its own watching, once a second.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, str]:
    return {key: str(value) for key in _FIELDS if (value := getattr(record, key, None)) is not None}
