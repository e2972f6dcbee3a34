"""The table of ``docs/events.md``: ``python -m nomaflow_kernel.store.document`` prints it, and a test compares them."""

from __future__ import annotations

import sys

from nomaflow_kernel.history.event_kinds import CORE_EVENTS

__all__ = ["event_table"]


def event_table() -> str:
    """Return one row per kind of event that a transition makes."""
    lines = ["| kind | when | data |", "|---|---|---|"]
    for kind, info in CORE_EVENTS.items():
        data = "; ".join(f"`{key}`: {meaning}" for key, meaning in info.data.items()) or "none"
        lines.append(f"| `{kind}` | {info.when} | {data} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(event_table())
