"""The live view of a run: one engine, three screens."""

from __future__ import annotations
