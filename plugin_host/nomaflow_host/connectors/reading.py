"""Reads connectors.toml: who may see the file, its syntax, its references, its keys."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nomaflow_host.connectors.errors import ConnectorsError
from nomaflow_host.connectors.resolved import PoolConfig, ResolvedConnectors
from nomaflow_host.connectors.schema import check_connector, check_pool, check_tables, is_literal_secret
from nomaflow_host.injection.environment import EnvironmentMissing, names_in, resolve_tree

__all__ = ["MAX_BYTES", "read_connectors"]

MAX_BYTES = 1024 * 1024
"""The size that connectors.toml may have."""

_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$| \(at end of document\)$")


def read_connectors(
    path: str | os.PathLike[str],
    environ: Mapping[str, str],
    *,
    root: str | os.PathLike[str] | None = None,
    required: bool = False,
) -> ResolvedConnectors:
    """Return the pools and connectors of a file, with ``${NAME}`` resolved.

    :param environ: what the references are looked up in
    :param root: what SQLite paths are relative to; by default the file's directory
    :param required: True where a missing file is an error, not an empty one
    :raises ConnectorsError: naming file, place and rule, never a value
    """
    file = str(path)
    home = str(Path(root if root is not None else Path(file).parent).absolute())
    opened = _read(file)
    if opened is None:
        if required:
            raise ConnectorsError("there is no such file (create it, or correct connectors.config_path)", file=file)
        return ResolvedConnectors(root=home, file=file)
    text, status = opened
    tree = _parse(text, file)
    check_tables(tree, file)
    _check_access(tree, status, file)
    try:
        resolved = resolve_tree(tree, environ)
    except EnvironmentMissing as error:
        problem = f"the environment variable {error.name!r} is not set (set it, or write ${{{error.name}:-default}})"
        raise ConnectorsError(problem, file=file, path=error.path) from None
    pools = {name: PoolConfig(**check_pool(name, table, file)) for name, table in resolved.get("pools", {}).items()}
    warnings: list[str] = []
    for name, table in resolved.get("connectors", {}).items():
        warnings += check_connector(name, table, pools, file)
    return ResolvedConnectors(
        root=home,
        file=file,
        pools=pools,
        connectors=resolved.get("connectors", {}),
        secret_env_names=tuple(sorted(names_in(tree))),
        warnings=tuple(warnings),
    )


def _read(file: str) -> tuple[bytes, os.stat_result] | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConnectorsError(f"it cannot be read: {error.strerror}", file=file) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConnectorsError("it is not a regular file", file=file)
        with open(descriptor, "rb", closefd=False) as opened:
            content = opened.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise ConnectorsError(f"it is larger than {MAX_BYTES:,} bytes", file=file)
    return content, status


def _parse(content: bytes, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConnectorsError(f"line {line} is not UTF-8", file=file) from None
    except tomllib.TOMLDecodeError as error:
        last_line = content.count(b"\n", 0, len(content.rstrip())) + 1
        raise ConnectorsError(_toml_problem(str(error), last_line), file=file) from None
    except RecursionError:
        raise ConnectorsError("it is nested too deeply", file=file) from None


def _toml_problem(text: str, last_line: int) -> str:
    """Return what the parser said without what it quotes of the file, which may be a secret."""
    place = _PLACE.search(text)
    said = re.sub(r"""(["'])(?:(?!\1).){2,}\1""", "…", text[: place.start()] if place else text)
    said = said[:1].lower() + said[1:]
    if place and place[1]:
        return f"line {place[1]}, column {place[2]}: {said}"
    return f"line {last_line}, at its end: {said}"


def _check_access(tree: Mapping[str, Any], status: os.stat_result, file: str) -> None:
    secret = next((path for path, key, value in _texts(tree, "") if is_literal_secret(path, key, value)), None)
    if os.path.islink(file) and status.st_uid not in (os.geteuid(), 0):
        raise ConnectorsError("it is a link to a file of another user (link to a file of your own)", file=file)
    if secret is not None and status.st_mode & (stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH):
        problem = (
            "a literal credential, and others may read or write the file "
            f"(chmod 600 it, or write the credential as ${{NAME}}; its mode is {stat.S_IMODE(status.st_mode):04o})"
        )
        raise ConnectorsError(problem, file=file, path=secret)


def _texts(tree: Any, path: str) -> list[tuple[str, str, str]]:
    """Return (path, key, text) of every text in a tree."""
    found = []
    items = tree.items() if isinstance(tree, Mapping) else []
    for key, value in items:
        below = f"{path}.{key}" if path else str(key)
        if isinstance(value, str):
            found.append((below, key, value))
        else:
            found += _texts(value, below)
    return found
