"""Turns a reference and a set of values into a call that can be made."""

from __future__ import annotations

from nomaflow_host.injection.errors import PreparationFailed
from nomaflow_host.injection.plan import BUILTIN_INJECTIONS, CallPlan, plan_for
from nomaflow_host.injection.references import parse_reference, resolve_reference

__all__ = [
    "BUILTIN_INJECTIONS",
    "CallPlan",
    "PreparationFailed",
    "parse_reference",
    "plan_for",
    "resolve_reference",
]
