"""The checks of ``nomaflow doctor``: the machine, a project's files, its store, and a running system."""

from __future__ import annotations

from nomaflow_cli.doctor.examination import examine
from nomaflow_cli.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "examine"]
