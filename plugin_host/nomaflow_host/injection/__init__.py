"""Turns a reference and a set of values into a call that can be made."""

from __future__ import annotations

from nomaflow_host.injection.errors import PREPARATION_REASONS, PreparationFailed
from nomaflow_host.injection.plan import BUILTIN_INJECTIONS, CallPlan, plan_for
from nomaflow_host.injection.references import Reference, parse_reference, resolve_reference
from nomaflow_project.reading.environment import EnvironmentMissing, names_in, resolve_text, resolve_tree

__all__ = [
    "BUILTIN_INJECTIONS",
    "PREPARATION_REASONS",
    "CallPlan",
    "EnvironmentMissing",
    "PreparationFailed",
    "Reference",
    "names_in",
    "parse_reference",
    "plan_for",
    "resolve_reference",
    "resolve_text",
    "resolve_tree",
]
