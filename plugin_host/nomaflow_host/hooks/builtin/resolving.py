"""Resolves ``module:attribute`` by importing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomaflow import hookimpl
from nomaflow_host.injection.references import ImportReport, parse_reference, resolve_reference

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["ImportResolver"]


class ImportResolver:
    """The resolver for references that no other plugin resolves."""

    def __init__(self, importer: Callable[[str], ModuleType | ImportReport]) -> None:
        """Take the function that imports a module, or reports why it cannot."""
        self._importer = importer

    @hookimpl(trylast=True)
    def nomaflow_resolve_callable(self, reference: str) -> Any:
        """Import the module and return the attribute."""
        return resolve_reference(parse_reference(reference), importer=self._importer)
