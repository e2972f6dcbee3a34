"""Other job runners and the product, measured by turns on one machine: ``make bench-peers``."""

from __future__ import annotations
