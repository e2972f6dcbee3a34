"""Crontab expressions: their meaning and their next fires, in any IANA zone.

Five fields or six (seconds last), names, aliases, the day rules and the two DST rules are described in
docs/configuration.md. Nothing here keeps state: an expression is a value, shared between schedules and threads.
"""

from __future__ import annotations

from nomaflow_project.cron.errors import CronError
from nomaflow_project.cron.expression import CronExpression
from nomaflow_project.cron.zones import zone

__all__ = ["CronError", "CronExpression", "zone"]
