"""Looks after disks."""

from __future__ import annotations

from typing import Any


async def check(*, path: str = "/srv", warn_at: float = 0.8, **_: Any) -> dict[str, Any]:
    """Compare the use of a disk with a limit.

    :param path: any folder on it
    :param warn_at: the limit, from 0 to 1
    """
    return {"rows_affected": 0, "path": path, "limit": warn_at}
