"""Reads a project's folder, and owns a host's state directory."""

from __future__ import annotations

from nomaflow_host.project.instance import INCARNATION_VARIABLE, Instance, InstanceLock
from nomaflow_host.project.mark import new_mark, put_mark
from nomaflow_host.project.project import Project, changed_since_start, make_state_dir
from nomaflow_host.project.run_as import user_of

__all__ = [
    "INCARNATION_VARIABLE",
    "Instance",
    "InstanceLock",
    "Project",
    "changed_since_start",
    "make_state_dir",
    "new_mark",
    "put_mark",
    "user_of",
]
