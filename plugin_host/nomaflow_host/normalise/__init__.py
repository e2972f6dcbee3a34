"""Turns the value that a callable returned into the result in the run's record."""

from __future__ import annotations

from nomaflow_host.normalise.records import (
    EXTRAS_LIMIT,
    EXTRAS_WARNING,
    NormalisedResult,
    ReturnRefused,
    record_of,
)
from nomaflow_host.normalise.returns import result_of

__all__ = [
    "EXTRAS_LIMIT",
    "EXTRAS_WARNING",
    "NormalisedResult",
    "ReturnRefused",
    "record_of",
    "result_of",
]
