"""The texts of messages."""

from __future__ import annotations
