"""Tables and pages for people, made from the client's values. Loads rich."""

from __future__ import annotations

__all__: list[str] = []
