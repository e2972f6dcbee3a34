"""The implementation of ``nomaflow up``: runs a kernel, a host and a console as children, restarts and stops them."""

from __future__ import annotations

from nomaflow_cli.up.kept_running import Part, PartFailed, PartNotice, part_command
from nomaflow_cli.up.reporting import JsonReporter, Reporter, TextReporter
from nomaflow_cli.up.supervising import ConsoleReady, ProjectSupervisor, Ready

__all__ = [
    "ConsoleReady",
    "JsonReporter",
    "Part",
    "PartFailed",
    "PartNotice",
    "ProjectSupervisor",
    "Ready",
    "Reporter",
    "TextReporter",
    "part_command",
]
