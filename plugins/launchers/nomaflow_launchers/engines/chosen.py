"""The engine that a project has chosen. Only its own library is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from nomaflow_launchers.engines.engine import Engine
from nomaflow_launchers.settings import CannotStart
from nomaflow_project.models.launcher_section import LauncherSection

_CLASSES = {
    "kubernetes": ("nomaflow_launchers.engines.kubernetes.cluster", "Kubernetes"),
    "ray": ("nomaflow_launchers.engines.ray", "Ray"),
    "slurm": ("nomaflow_launchers.engines.slurm", "Slurm"),
}


def chosen_engine(section: LauncherSection, *, project: Path, environ: Mapping[str, str]) -> Engine:
    """Return the engine of ``[launcher]``.

    :raises CannotStart: if what it needs is not installed
    """
    module, name = _CLASSES[section.engine]
    try:
        made: Engine = getattr(importlib.import_module(module), name)(section, project=project, environ=environ)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("nomaflow"):
            raise
        raise CannotStart(f"{error.name!r} is not installed; pip install 'nomaflow[{section.engine}]'") from None
    return made
