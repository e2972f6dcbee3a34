"""What people see: tables and pages made of the client's values. Loads rich."""

from __future__ import annotations

__all__: list[str] = []
