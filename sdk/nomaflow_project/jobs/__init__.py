"""Jobs: their definitions, and how a table of jobs.toml becomes one."""

from __future__ import annotations
