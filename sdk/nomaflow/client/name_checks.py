"""The error for a name in a filter: one that does not exist is a mistake, and its empty list says nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from nomaflow.client.errors import NotFound
from nomaflow_project.reading.problems import did_you_mean

if TYPE_CHECKING:
    from nomaflow.client import values

__all__ = ["unknown_name"]


def unknown_name(noun: str, name: str, known: Collection[str], caller: values.CallerView | None) -> NotFound:
    """Return the error for a name that is neither known nor that of a tag, or a host, of a job that the caller reads.

    :param noun: ``host`` or ``tag``
    """
    seen = "" if caller is None or caller.may("read") else " that you may see"
    what = f"no job{seen} has the tag" if noun == "tag" else f"no host{seen} has the name"
    fix = did_you_mean(name, known, noun=noun) if known else f"there are no {noun}s{seen}"
    return NotFound(f"{what} {name!r}", reason=f"{noun.upper()}_NOT_FOUND", fix=fix)
