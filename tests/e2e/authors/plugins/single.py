"""A plugin that is one file."""

from __future__ import annotations


async def work(**_):
    return {"from": __name__}
