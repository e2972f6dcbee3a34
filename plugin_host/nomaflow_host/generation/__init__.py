"""One load of a host's plugin code: discovery, imports, the manifest, and calls."""

from __future__ import annotations

from nomaflow_host.generation.calls import CallMaker, PreparedCall
from nomaflow_host.generation.contexts import context_of
from nomaflow_host.generation.generation import Generation, load_generation
from nomaflow_host.generation.imports import import_plugins
from nomaflow_host.generation.manifest import MANIFEST_VERSION, manifest_bytes
from nomaflow_host.generation.settings import settings_tree
from nomaflow_host.generation.spec import ProjectSpec
from nomaflow_host.injection import PREPARATION_REASONS, PreparationFailed
from nomaflow_host.normalise import NormalisedResult, ReturnRefused

__all__ = [
    "MANIFEST_VERSION",
    "PREPARATION_REASONS",
    "CallMaker",
    "Generation",
    "NormalisedResult",
    "PreparationFailed",
    "PreparedCall",
    "ProjectSpec",
    "ReturnRefused",
    "context_of",
    "import_plugins",
    "load_generation",
    "manifest_bytes",
    "settings_tree",
]
