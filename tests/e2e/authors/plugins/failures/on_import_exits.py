"""Fails on import."""

from __future__ import annotations

import sys

sys.exit("go away")


def work(**_):
    return 1
