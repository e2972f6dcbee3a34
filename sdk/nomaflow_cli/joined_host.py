"""The identity that a project's host got when it joined a kernel on TCP, as far as a command may see it: no key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinedHost:
    """The facts of an identity.

    :param kernel_id: the random id of the kernel's history
    :param expires_at: when the certificate ends
    """

    host: str
    kernel_id: str
    addresses: tuple[str, ...]
    expires_at: datetime

    @classmethod
    def of(cls, project: Path) -> JoinedHost | None:
        """Return those of a project's host; None if it has not joined a kernel, or they cannot be read."""
        try:
            facts = json.loads((project / ".nomaflow" / "identity.json").read_bytes())
            return cls(
                host=str(facts["host"]),
                kernel_id=str(facts["kernel_id"]),
                addresses=tuple(map(str, facts["addresses"])),
                expires_at=datetime.fromtimestamp(int(facts["expires_at"]), UTC),
            )
        except (OSError, OverflowError, ValueError, KeyError, TypeError):
            return None
