"""A look at the disk that needs a library which the other team does not have."""

from __future__ import annotations

import logging
import shutil
from typing import Any

import humanize

_LOG = logging.getLogger(__name__)


def measure(*, path: str = "/", **_: Any) -> dict[str, Any]:
    """Return how many bytes are free below *path*."""
    free = shutil.disk_usage(path).free
    _LOG.info("%s are free below %s", humanize.naturalsize(free), path)
    return {"free_bytes": free}
