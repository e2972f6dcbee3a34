"""``${NAME}`` and ``${NAME:-default}`` in values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nomaflow_api.v1.values import child_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["EnvironmentMissing", "names_in", "resolve_text", "resolve_tree"]

_REFERENCE = re.compile(r"\$?\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class EnvironmentMissing(LookupError):
    """Raised when a value refers to a variable that is not set and gives no default.

    :ivar name: the variable
    :ivar path: where the value is, such as ``op_kwargs.url``
    """

    def __init__(self, name: str, path: str) -> None:
        """Name the variable and the place."""
        where = f"{path}: " if path else ""
        super().__init__(
            f"{where}the environment variable {name!r} is not set (set it for the host, or write ${{{name}:-default}})"
        )
        self.name = name
        self.path = path


def resolve_text(text: str, environ: Mapping[str, str], *, path: str = "") -> str:
    """Return *text* with its references resolved. ``$${NAME}`` stands for a literal ``${NAME}``.

    As in a shell, the default also takes the place of an empty variable.

    :raises EnvironmentMissing: if a variable is not set and has no default
    """
    if "${" not in text:
        return text

    def value_of(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        name, default = match[1], match[2]
        value = environ.get(name)
        if value is None and default is None:
            raise EnvironmentMissing(name, path)
        return (value or default) if default is not None else value  # type: ignore[return-value]  # one of them is text

    return _REFERENCE.sub(value_of, text)


def resolve_tree(
    tree: Any,
    environ: Mapping[str, str],
    *,
    path: str = "",
    keep: Callable[[str, str], bool] | None = None,
) -> Any:
    """Return a tree of dicts and lists with the references in its texts resolved; keys stay as they are.

    :param path: what to call the tree in errors
    :param keep: told the path of a table and a key in it, returns True where the value stays unresolved
    :raises EnvironmentMissing: as `resolve_text`, naming the place
    """
    if isinstance(tree, str):
        return resolve_text(tree, environ, path=path)
    if isinstance(tree, dict):
        return {
            key: item
            if keep is not None and keep(path, key)
            else resolve_tree(item, environ, path=child_path(path, key), keep=keep)
            for key, item in tree.items()
        }
    if isinstance(tree, list):
        return [resolve_tree(item, environ, path=f"{path}[{index}]", keep=keep) for index, item in enumerate(tree)]
    return tree


def names_in(tree: Any) -> set[str]:
    """Return the names of all variables that a tree refers to."""
    if isinstance(tree, str):
        return {match[1] for match in _REFERENCE.finditer(tree) if not match[0].startswith("$$")}
    if isinstance(tree, dict):
        return set().union(*map(names_in, tree.values()))
    if isinstance(tree, list):
        return set().union(*map(names_in, tree))
    return set()
