"""One module for each group of commands; importing it adds the commands to the application."""

from __future__ import annotations

__all__: list[str] = []
