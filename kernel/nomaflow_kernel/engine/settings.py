"""Settings of the engine: its time limits and bounds."""

from __future__ import annotations

from msgspec import Struct


class EngineSettings(Struct, frozen=True, kw_only=True):
    """The engine's time limits and bounds, in seconds unless stated otherwise.

    :param lease_seconds: silence after which a host gets no new work
    :param grace_seconds: silence after which, plus ``grace_margin_seconds``, attempts are LOST
    :param max_waiting: the most runs that wait; of a host, as many as then there is still room for
    :param max_waiting_of_author: the most waiting runs of one user or service
    """

    lease_seconds: float = 20.0
    grace_seconds: float = 600.0
    grace_margin_seconds: float = 30.0
    max_waiting: int = 1_000_000
    max_waiting_of_author: int = 10_000
