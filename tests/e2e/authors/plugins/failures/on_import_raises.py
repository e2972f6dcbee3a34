"""Fails on import."""

from __future__ import annotations

raise RuntimeError("no licence today")


def work(**_):
    return 1
