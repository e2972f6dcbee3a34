"""The only link from the SDK to a plugin host: tests of callables use the host's own rules."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

_NAMES = {
    "nomaflow_host.compat": ("install_liberty_aliases",),
    "nomaflow_host.connectors.errors": ("ConnectorsError",),
    "nomaflow_host.connectors.registry": ("HostConnectorRegistry",),
    "nomaflow_host.generation.calls": ("CallMaker",),
    "nomaflow_host.generation.plugin_modules": ("import_plugins",),
    "nomaflow_host.hooks.manager": ("build_hooks",),
    "nomaflow_host.injection.errors": ("PreparationFailed",),
    "nomaflow_host.injection.call_plan": ("plan_for",),
    "nomaflow_host.worker.forks": ("AuthorCode", "WorkerLoop"),
    "nomaflow_host.worker.outcome": ("author_traceback", "outcome_of_exception", "outcome_of_unawaited"),
    "nomaflow_host.worker.unawaited": ("unawaited_noted",),
}


def host_machinery() -> Any:
    """Return the parts of the host that a test needs, by name.

    :raises RuntimeError: with the way out, if a distribution that they need is not installed
    """
    try:
        found = {
            name: getattr(importlib.import_module(module), name) for module, names in _NAMES.items() for name in names
        }
    except ModuleNotFoundError as error:
        problem = f"nomaflow.testing needs {error.name!r}, which is not installed (pip install 'nomaflow[host]')"
        raise RuntimeError(problem) from error
    return SimpleNamespace(**found)


def host_project() -> Any:
    """Return the host's module that reads a project."""
    return importlib.import_module("nomaflow_host.project.project")


def process_trees() -> Any:
    """Return the host's module that sees and kills trees of processes; it needs the standard library only."""
    return importlib.import_module("nomaflow_host.reaper.proc")
