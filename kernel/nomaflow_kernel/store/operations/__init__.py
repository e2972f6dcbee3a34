"""Store operations: plain functions of a synchronous connection, the same for every database."""

from __future__ import annotations
