"""The kernel's own log, on stderr: lines for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys

__all__ = ["set_up_logging"]

_TEXT = "%(asctime)s.%(msecs)03d %(levelname)-8s %(name)s: %(message)s"
_TIME = "%Y-%m-%d %H:%M:%S"


class _JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON."""
        told = {
            "ts": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told)


def set_up_logging(*, level: str, form: str) -> None:
    """Send the log of this process to stderr.

    :param level: name of the lowest level
    :param form: ``text`` or ``json``
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else logging.Formatter(_TEXT, _TIME))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("alembic").setLevel(max(logging.WARNING, root.level))  # its steps say nothing to an operator
    logging.captureWarnings(True)  # noqa: FBT003  # the function takes its flag by position
