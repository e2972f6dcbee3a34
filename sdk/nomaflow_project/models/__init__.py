"""The models of jobs.toml, connectors.toml and nomaflow.toml."""

from __future__ import annotations
