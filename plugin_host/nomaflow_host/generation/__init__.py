"""One load of a host's plugin code: its modules, the manifest, and calls."""

from __future__ import annotations

from nomaflow_host.generation.calls import CallMaker, PreparedCall
from nomaflow_host.generation.contexts import context_of
from nomaflow_host.generation.generation import Generation, load_generation
from nomaflow_host.generation.imports import import_plugins
from nomaflow_host.generation.manifest import manifest_bytes
from nomaflow_host.generation.settings import settings_tree
from nomaflow_host.generation.spec import ProjectSpec
from nomaflow_host.injection import PreparationFailed

__all__ = [
    "CallMaker",
    "Generation",
    "PreparationFailed",
    "PreparedCall",
    "ProjectSpec",
    "context_of",
    "import_plugins",
    "load_generation",
    "manifest_bytes",
    "settings_tree",
]
