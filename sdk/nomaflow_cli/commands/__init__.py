"""One module for each group of commands; each has ``register(app)``."""

from __future__ import annotations

__all__: list[str] = []
