"""Jobs: their definitions, and the conversion of jobs.toml tables into them."""

from __future__ import annotations
