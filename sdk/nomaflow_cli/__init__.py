"""The ``nomaflow`` command. The import loads neither typer nor gRPC, so that ``nomaflow version`` is instant."""

from __future__ import annotations

from nomaflow_cli.entry import main

__all__ = ["main"]
