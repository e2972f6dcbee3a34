"""``${NAME}`` and ``${NAME:-default}`` in the files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["STEP_KEYS", "has_steps", "is_kept", "resolve_environment"]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_KEPT = frozenset({"params", "op_kwargs"})
STEP_KEYS = frozenset(
    {
        "type",
        "name",
        "enabled",
        "callable",
        "op_kwargs",
        "target_job_id",
        "timeout_seconds",
        "retry",
        "isolation",
        "cancel_grace_seconds",
    }
)
"""The keys of a step that are ours, as `StepEntry` has them; all others belong to a type that a plugin contributes."""


def is_kept(name: str, *, in_step: bool) -> bool:
    """Return whether references below a key are resolved at each attempt, by the host, since they may be secrets.

    :param in_step: whether it is the key of a step, or of ``step_defaults``
    """
    return name in _KEPT or (in_step and name not in STEP_KEYS)


def has_steps(name: str, value: object) -> bool:
    """Return whether the value of a key is steps: the ``steps`` of a preset are none, they switch steps on and off."""
    return name == "step_defaults" or (name == "steps" and isinstance(value, list))


def resolve_environment(tree: Any, environ: Mapping[str, str], *, in_step: bool = False) -> Any:
    """Return the tree with references replaced, but for those that `is_kept` says the host resolves later.

    A reference without value or default stays as it is: only the job that holds it is then disabled.
    """
    if isinstance(tree, dict):
        return {
            name: value
            if is_kept(name, in_step=in_step)
            else resolve_environment(value, environ, in_step=has_steps(name, value))
            for name, value in tree.items()
        }
    if isinstance(tree, list):
        return [resolve_environment(value, environ, in_step=in_step) for value in tree]
    if isinstance(tree, str) and "${" in tree:
        return _REFERENCE.sub(lambda match: _value(match, environ), tree)
    return tree


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    name, default = match[1], match[2]
    found = environ.get(name, "")
    if found or (name in environ and default is None):
        return found  # set; like a shell's :-, the default also stands in for an empty value
    return match[0] if default is None else default
