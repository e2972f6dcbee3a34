"""The catalogue of a kernel: which host brought which job, and what is kept of that in the store."""

from __future__ import annotations

from nomaflow_kernel.catalogue.registry import Catalogue, CatalogueChange, CatalogueEntry
from nomaflow_kernel.catalogue.stored_load import checked_here, keep_load, read_kept_load

__all__ = ["Catalogue", "CatalogueChange", "CatalogueEntry", "checked_here", "keep_load", "read_kept_load"]
