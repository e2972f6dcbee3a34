"""Calls at once by one principal at one door, so that no caller can use up a door."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from nomaflow_kernel.access.principals import Caller, PrincipalKind
from nomaflow_kernel.domain.errors import KernelError

__all__ = ["CallsAtOnce", "TooManyCalls"]


class TooManyCalls(KernelError):
    """Raised when a principal has too many calls at once; all callers without a credential are one."""

    reason = "QUOTA"

    def __init__(self, principal: str, most: int) -> None:
        super().__init__(f"{principal} has {most} calls at once at this door, the maximum; try again in a moment")


class CallsAtOnce:
    """Counts the calls of each principal.

    :param most: calls of a principal at once
    :param of_strangers: calls at once of all callers without a credential
    """

    def __init__(self, *, most: int = 500, of_strangers: int = 100) -> None:
        self._most = most
        self._of_strangers = of_strangers
        self._now: Counter[str] = Counter()

    def begin(self, caller: Caller) -> Callable[[], None]:
        """Count a call from now on; return the function that ends the count.

        :raises TooManyCalls: if there are too many already
        """
        name = str(caller.principal)
        most = self._of_strangers if caller.principal.kind is PrincipalKind.ANYONE else self._most
        if self._now[name] >= most:
            raise TooManyCalls(name, most)
        self._now[name] += 1

        def end() -> None:
            self._now[name] -= 1
            if not self._now[name]:
                del self._now[name]

        return end
