"""TOML files, references to the environment and to callables, and the problems found in them."""

from __future__ import annotations
