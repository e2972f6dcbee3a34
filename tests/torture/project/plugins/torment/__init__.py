"""Callables that keep a ledger of their own."""

from __future__ import annotations
