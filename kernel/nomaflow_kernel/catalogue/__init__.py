"""The catalogue of a kernel: the jobs each host brings, and the part of them that the store keeps."""

from __future__ import annotations

from nomaflow_kernel.catalogue.registry import Catalogue, CatalogueChange, CatalogueEntry
from nomaflow_kernel.catalogue.stored_load import checked_here, keep_load, read_kept_load

__all__ = ["Catalogue", "CatalogueChange", "CatalogueEntry", "checked_here", "keep_load", "read_kept_load"]
