"""The time in which a kernel answers each rpc, and how long a client waits for that."""

from __future__ import annotations

from collections.abc import Mapping

_ANSWER_SECONDS = 15.0
LONG_CALLS: Mapping[str, float] = {
    "ReloadHost": 75.0,
    "IntroduceManifest": 30.0,
    "TriggerRuns": 30.0,
    "VerifyAudit": 600.0,
}
"""The rpcs that may take longer than the others, in seconds. Their caller's access is checked again meanwhile."""
_ON_THE_WAY_SECONDS = 5.0


def answer_seconds(method: str) -> float:
    """Return the time after which a kernel answers an rpc with DEADLINE_EXCEEDED."""
    return LONG_CALLS.get(method, _ANSWER_SECONDS)


def patience_seconds(method: str) -> float:
    """Return the time that a client waits: longer, because only the kernel knows what became of a change."""
    return answer_seconds(method) + _ON_THE_WAY_SECONDS
