"""The catalogue of a kernel: the jobs each host brings, and the part of them that the store keeps."""

from __future__ import annotations

from nomaflow_kernel.catalogue.job import Job
from nomaflow_kernel.catalogue.registry import Catalogue, HostCatalogue

__all__ = ["Catalogue", "HostCatalogue", "Job"]
