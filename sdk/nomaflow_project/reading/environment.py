"""``${NAME}`` and ``${NAME:-default}`` in the files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["resolve_environment"]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_KEPT = frozenset({"params", "op_kwargs"})


def resolve_environment(tree: Any, environ: Mapping[str, str]) -> Any:
    """Return the tree with references replaced, but below ``params`` and ``op_kwargs``, which the host resolves later.

    A reference without value or default stays as it is: only the job that holds it is then disabled.
    """
    if isinstance(tree, dict):
        return {name: value if name in _KEPT else resolve_environment(value, environ) for name, value in tree.items()}
    if isinstance(tree, list):
        return [resolve_environment(value, environ) for value in tree]
    if isinstance(tree, str) and "${" in tree:
        return _REFERENCE.sub(lambda match: _value(match, environ), tree)
    return tree


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    name, default = match[1], match[2]
    found = environ.get(name, "")
    if found or (name in environ and default is None):
        return found  # set; like a shell's :-, the default also stands in for an empty value
    return match[0] if default is None else default
