"""Deep down, below folders without and with ``__init__.py``."""

from __future__ import annotations


def work():
    return {"from": __name__}
