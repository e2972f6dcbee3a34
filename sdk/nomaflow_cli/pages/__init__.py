"""Tables and pages for people, made from the client's values. Rich is loaded when a page is first named."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nomaflow_cli.pages.alerts import *
    from nomaflow_cli.pages.attempts import *
    from nomaflow_cli.pages.audit import *
    from nomaflow_cli.pages.authority import *
    from nomaflow_cli.pages.callables import *
    from nomaflow_cli.pages.events import *
    from nomaflow_cli.pages.findings import *
    from nomaflow_cli.pages.hosts import *
    from nomaflow_cli.pages.jobs import *
    from nomaflow_cli.pages.log_lines import *
    from nomaflow_cli.pages.runs import *
    from nomaflow_cli.pages.tokens import *

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
