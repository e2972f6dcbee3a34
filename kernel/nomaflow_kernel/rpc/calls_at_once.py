"""Calls at once by one principal at one door, so that no caller can use up a door."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from nomaflow_kernel.access.principals import Caller, PrincipalKind
from nomaflow_kernel.domain.errors import QuotaExceeded

_MOST = 500
"""The calls of a principal at once."""
_MOST_OF_STRANGERS = 100
"""The calls at once of all callers without a credential."""


class CallsAtOnce:
    """Counts the calls of each principal; all callers without a credential are one."""

    def __init__(self) -> None:
        self._now: Counter[str] = Counter()

    def begin(self, caller: Caller) -> Callable[[], None]:
        """Count a call from now on; return the function that ends the count.

        :raises QuotaExceeded: if there are too many already
        """
        name = str(caller.principal)
        most = _MOST_OF_STRANGERS if caller.principal.kind is PrincipalKind.ANYONE else _MOST
        if self._now[name] >= most:
            raise QuotaExceeded(f"{name} has {most} calls at once at this door, the maximum; try again in a moment")
        self._now[name] += 1

        def end() -> None:
            self._now[name] -= 1
            if not self._now[name]:
                del self._now[name]

        return end
