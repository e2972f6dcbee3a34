"""Fails on import."""

from __future__ import annotations


def work(**_):
    return 1
