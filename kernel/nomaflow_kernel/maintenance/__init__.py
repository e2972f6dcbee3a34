"""Work on a project's history without a kernel's help: copying it, putting a copy in its place, looking at it."""

from __future__ import annotations

from nomaflow_kernel.maintenance.backing_up import BackupDone, back_up
from nomaflow_kernel.maintenance.certificate_report import CertificateReport, inspect_certificate
from nomaflow_kernel.maintenance.errors import MaintenanceRefused
from nomaflow_kernel.maintenance.inspecting import StoreReport, inspect_store
from nomaflow_kernel.maintenance.moving import CopyDone, ReclaimDone, copy_history_to, reclaim_history
from nomaflow_kernel.maintenance.restoring import RestoreDone, restore

__all__ = [
    "BackupDone",
    "CertificateReport",
    "CopyDone",
    "MaintenanceRefused",
    "ReclaimDone",
    "RestoreDone",
    "StoreReport",
    "back_up",
    "copy_history_to",
    "inspect_certificate",
    "inspect_store",
    "reclaim_history",
    "restore",
]
