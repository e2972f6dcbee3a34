"""Fails on import."""

from __future__ import annotations

raise KeyboardInterrupt


def work(**_):
    return 1
