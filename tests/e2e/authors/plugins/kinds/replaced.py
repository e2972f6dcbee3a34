"""A module that puts a lazy object into its own place, as some libraries do."""

from __future__ import annotations

import sys


class Lazy:
    """Makes what it is asked for, if it feels like it."""

    __slots__ = ()

    def __getattr__(self, name):
        if name == "made":
            return lambda *, n: n
        raise RuntimeError(f"no {name} today")


sys.modules[__name__] = Lazy()
