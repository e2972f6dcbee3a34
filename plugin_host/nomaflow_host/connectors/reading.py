"""Reader of connectors.toml for a host's main process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nomaflow_host.connectors.resolved import PoolConfig, ResolvedConnectors

__all__ = ["read_connectors"]


def read_connectors(
    path: str | os.PathLike[str],
    environ: Mapping[str, str],
    *,
    root: str | os.PathLike[str] | None = None,
    name: str = "",
    required: bool = False,
) -> ResolvedConnectors:
    """Return the pools and connectors of a file, with ``${NAME}`` resolved, and the reasons why others cannot be used.

    :param environ: variables for the references
    :param root: directory that SQLite paths are relative to; by default the file's directory
    :param name: the file's name in messages; its path if empty
    :param required: True if a missing file is an error rather than an empty one
    """
    file = Path(path)
    home = str(Path(root if root is not None else file.parent).absolute())
    if not required and not os.path.lexists(file):
        return ResolvedConnectors(root=home, file=str(file))
    # Imported here because it loads pydantic, which a project without connectors does not need.
    from nomaflow_project.connectors.reading import read_connectors as read

    found = read(file, environ, name=name, required=required)
    return ResolvedConnectors(
        root=home,
        file=str(file),
        pools={pool: PoolConfig.of(values) for pool, values in found.pools.items()},
        connectors=found.connectors,
        unusable=found.unusable,
        secret_env_names=tuple(sorted(found.variables)),
        problems=tuple(problem.to_json() for problem in found.problems),
    )
