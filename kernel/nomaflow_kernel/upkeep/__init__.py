"""Maintenance of a project's history without a kernel: copying it, restoring a copy, inspecting it."""

from __future__ import annotations

from nomaflow_kernel.store.errors import MaintenanceRefused
from nomaflow_kernel.upkeep.backup import back_up
from nomaflow_kernel.upkeep.certificate_report import inspect_certificate
from nomaflow_kernel.upkeep.inspection import StoreReport, inspect_store
from nomaflow_kernel.upkeep.move import CopyDone, copy_history_to, reclaim_history
from nomaflow_kernel.upkeep.restore import restore

__all__ = [
    "CopyDone",
    "MaintenanceRefused",
    "StoreReport",
    "back_up",
    "copy_history_to",
    "inspect_certificate",
    "inspect_store",
    "reclaim_history",
    "restore",
]
