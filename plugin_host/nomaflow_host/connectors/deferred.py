"""Tables of connectors.toml with references for plugins: they are resolved for each attempt that may use connectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nomaflow_project.reading.sources import ReferenceMissing

if TYPE_CHECKING:
    from nomaflow_project.connectors.connector_set import ConnectorSet
    from nomaflow_project.reading.sources import ValueSource

_NOT_READ = "its secrets are read only for attempts whose callable takes connectors"


class DeferredTables:
    """Replaces placeholders in the tables of a worker's connectors. The tables themselves are replaced, not changed.

    :param resolved: the worker's own; its mappings are written to
    """

    def __init__(self, resolved: ConnectorSet) -> None:
        """Make the tables unusable until the first `renew`."""
        self._references = resolved.deferred
        # A worker's own are dicts.
        self._current: dict[str, Any] = {"pools": resolved.pools, "connectors": resolved.connectors}
        self._unusable: dict[str, str] = resolved.unusable  # type: ignore[assignment]  # as above
        self._tables: dict[tuple[str, str], Any] = {
            (section, name): table
            for section, tables in self._current.items()
            for name, table in tables.items()
            if any(placeholder in repr(table) for placeholder in self._references)
        }
        for section, name in self._tables:
            del self._current[section][name]
            self._unusable[f"{section}.{name}"] = _NOT_READ

    def renew(self, values: ValueSource) -> list[str]:
        """Put values into the tables; return the paths of those that changed, such as ``pools.default``."""
        changed = []
        for (section, name), table in self._tables.items():
            path = f"{section}.{name}"
            try:
                made = self._filled(table, values)
            except ReferenceMissing as error:
                self._current[section].pop(name, None)
                self._unusable[path] = f"connectors.toml: {path}: {error}"
                continue
            self._unusable.pop(path, None)
            if self._current[section].get(name) != made:
                self._current[section][name] = made
                changed.append(path)
        return changed

    def _filled(self, tree: Any, values: ValueSource) -> Any:
        if isinstance(tree, str):
            for placeholder, reference in self._references.items():
                if placeholder in tree:
                    tree = tree.replace(placeholder, values.value_of(reference))
            return tree
        if isinstance(tree, Mapping):
            return {key: self._filled(value, values) for key, value in tree.items()}
        if isinstance(tree, list):
            return [self._filled(value, values) for value in tree]
        return tree
