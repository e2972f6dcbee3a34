"""Fails on import."""

from __future__ import annotations

import no_such_library_here


def work(**_):
    return no_such_library_here
