"""The ways to tell somebody."""

from __future__ import annotations
