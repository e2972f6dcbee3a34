"""Tables and pages for people, made from the client's values. Rich is loaded when a page is first named."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nomaflow_cli.pages.alerts import incidents_page, messages_page, mute_text, tested_page
    from nomaflow_cli.pages.attempts import inspection_page, validated_table
    from nomaflow_cli.pages.audit import audit_line, verdict_lines
    from nomaflow_cli.pages.authority import authority_page
    from nomaflow_cli.pages.callables import callables_page
    from nomaflow_cli.pages.events import counts_table, event_line
    from nomaflow_cli.pages.findings import check_page, doctor_page
    from nomaflow_cli.pages.hosts import hosts_page, reload_page
    from nomaflow_cli.pages.jobs import fires_page, job_page, jobs_page, schedule_page
    from nomaflow_cli.pages.log_lines import print_log
    from nomaflow_cli.pages.runs import run_page, runs_table, started_line, started_page, summary
    from nomaflow_cli.pages.tokens import issued_page, tokens_page, withdrawn_text

__all__ = [
    "audit_line",
    "authority_page",
    "callables_page",
    "check_page",
    "counts_table",
    "doctor_page",
    "event_line",
    "fires_page",
    "hosts_page",
    "incidents_page",
    "inspection_page",
    "issued_page",
    "job_page",
    "jobs_page",
    "messages_page",
    "mute_text",
    "print_log",
    "reload_page",
    "run_page",
    "runs_table",
    "schedule_page",
    "started_line",
    "started_page",
    "summary",
    "tested_page",
    "tokens_page",
    "validated_table",
    "verdict_lines",
    "withdrawn_text",
]

_MODULES: Mapping[str, tuple[str, ...]] = {
    "alerts": ("incidents_page", "messages_page", "mute_text", "tested_page"),
    "attempts": ("inspection_page", "validated_table"),
    "audit": ("audit_line", "verdict_lines"),
    "authority": ("authority_page",),
    "callables": ("callables_page",),
    "events": ("counts_table", "event_line"),
    "findings": ("check_page", "doctor_page"),
    "hosts": ("hosts_page", "reload_page"),
    "jobs": ("fires_page", "job_page", "jobs_page", "schedule_page"),
    "log_lines": ("print_log",),
    "runs": ("run_page", "runs_table", "started_line", "started_page", "summary"),
    "tokens": ("issued_page", "tokens_page", "withdrawn_text"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
