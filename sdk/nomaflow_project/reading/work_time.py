"""The time that a check may take, whatever the files or the manifest say.

What a peer sends is bounded in size, and still a small text can ask for much work: thousands of unknown names among
thousands of known ones. Code that loops over given things calls `check_time`, and whoever starts such work for another
limits it with `working_time`. Without a limit the time is one's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from nomaflow_api.near_names import near_name

_SEARCHING = 0.25
"""The part of the time that may go into near matches, in seconds: they are a courtesy."""


class OutOfTime(Exception):
    """Raised by `check_time` once the time is up."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"checking it takes more than {seconds:g} seconds of processor time")


@dataclass(kw_only=True, slots=True)
class _Time:
    """The time of some work.

    :param began: the thread's processor time at the first look; others on a busy machine do not count
    """

    seconds: float
    began: float | None = None
    over: bool = False
    searching: float = _SEARCHING

    def check(self) -> None:
        now = time.thread_time()
        if self.began is None:
            self.began = now
        if self.over or now - self.began > self.seconds:
            raise OutOfTime(self.seconds)


_LIMIT: ContextVar[_Time | None] = ContextVar("working_time", default=None)


@contextmanager
def working_time(seconds: float) -> Iterator[None]:
    """Limit the work inside, or on the one thread that it is passed to, which ends at once when this is left.

    :param seconds: of processor time
    """
    limit = _Time(seconds=seconds)
    token = _LIMIT.set(limit)
    try:
        yield
    finally:
        limit.over = True
        _LIMIT.reset(token)


def check_time() -> None:
    """Return as long as there is time left.

    :raises OutOfTime: once there is none
    """
    limit = _LIMIT.get()
    if limit is not None:
        limit.check()


def may_search() -> bool:
    """Return whether there is time left for near matches.

    :raises OutOfTime: as `check_time` does
    """
    check_time()
    limit = _LIMIT.get()
    return limit is None or limit.searching > 0


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name most similar to a misspelt one; empty if none is, or if there is no time to search.

    :raises OutOfTime: as `check_time` does
    """
    if not may_search():
        return ""
    began = time.monotonic()
    match = near_name(name, known)
    limit = _LIMIT.get()
    if limit is not None:
        limit.searching -= time.monotonic() - began
    return match
