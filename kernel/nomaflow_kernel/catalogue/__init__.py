"""All known jobs: reading the files, checking every job on its own, and keeping who brought what.

Nothing here imports gRPC or SQLAlchemy, so the command line can use it for ``check``, ``cron`` and ``schedule``.
"""

from __future__ import annotations

from nomaflow_kernel.catalogue.callables import kind_of, refuse_params
from nomaflow_kernel.catalogue.check import CheckReport, check_project
from nomaflow_kernel.catalogue.files import JobFile, ProjectFiles, parse_toml_file, read_project
from nomaflow_kernel.catalogue.kept import keep_load, read_kept_load
from nomaflow_kernel.catalogue.load import CatalogueLoad, LoadedJob, load_job_files, load_manifest
from nomaflow_kernel.catalogue.planning import ScheduleTable, cron_batch, cron_fires, schedule_table
from nomaflow_kernel.catalogue.problems import Problem, Severity
from nomaflow_kernel.catalogue.registry import Catalogue, CatalogueChange, CatalogueEntry
from nomaflow_kernel.catalogue.step_types import StepType
from nomaflow_kernel.catalogue.zone_data import zone_data_version

__all__ = [
    "Catalogue",
    "CatalogueChange",
    "CatalogueEntry",
    "CatalogueLoad",
    "CheckReport",
    "JobFile",
    "LoadedJob",
    "Problem",
    "ProjectFiles",
    "ScheduleTable",
    "Severity",
    "StepType",
    "check_project",
    "cron_batch",
    "cron_fires",
    "keep_load",
    "kind_of",
    "load_job_files",
    "load_manifest",
    "parse_toml_file",
    "read_kept_load",
    "read_project",
    "refuse_params",
    "schedule_table",
    "zone_data_version",
]
