"""Patience with instances that end before they serve: a broken machine or project must not fill the engine's queue."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from nomaflow_launchers.planning import Launched

_LOG = logging.getLogger(__name__)
_LONGEST_SECONDS = 300.0


class Patience:
    """Waits longer and longer before a host's next start, for as long as none of its instances gets to serve.

    :param first_seconds: the wait after the first that failed
    :param seen_seconds: looks that are further apart than this may both have missed an instance that served
    :param log_of: returns the place of an instance's log, by the engine's id
    """

    def __init__(
        self, *, first_seconds: float, seen_seconds: float, clock: Callable[[], float], log_of: Callable[[str], str]
    ) -> None:
        self._first_seconds = first_seconds
        self._seen_seconds = seen_seconds
        self._looked_at = clock()
        self._clock = clock
        self._log_of = log_of
        self._coming: dict[str, tuple[str, str]] = {}
        self._failures: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}

    def look(
        self,
        launched: Sequence[Launched],
        attached: Collection[str],
        *,
        served: Collection[str] = (),
        ended: Collection[str],
        wanted: Collection[str] = (),
    ) -> None:
        """Note which instances serve now, and which have gone without.

        One that was started for an attempt has not failed if that is not wanted any more: it was run, or canceled. Of
        the others nothing is known after a look of long ago: they may have served and left meanwhile.

        :param served: engine ids of those that have served, or may have, though they are away now
        :param ended: engine ids of those that the launcher itself has taken back
        :param wanted: keys of the attempts that still wait for an instance of their own
        """
        for each in launched:
            if each.engine_id in attached:
                self._failures.pop(each.host, None)
                self._not_before.pop(each.host, None)
        left = {each.engine_id for each in launched}
        unseen = self._clock() - self._looked_at > self._seen_seconds
        for engine_id, (host, attempt_key) in self._coming.items():
            unknown = attempt_key not in wanted if attempt_key else unseen
            if not unknown and engine_id not in left and engine_id not in attached and engine_id not in ended:
                self._failures[host] += 1
                wait = min(self._first_seconds * 2.0 ** min(self._failures[host] - 1, 20), _LONGEST_SECONDS)
                self._not_before[host] = self._clock() + wait
                _LOG.warning(
                    "instance %s of host %s has ended, and was not seen to serve: see %s; "
                    "the next one is started in %.3g s",
                    engine_id, host, self._log_of(engine_id), wait,
                )  # fmt: skip
        self._coming = {
            each.engine_id: (each.host, each.attempt_key)
            for each in launched
            if each.engine_id not in attached and each.engine_id not in served
        }
        self._looked_at = self._clock()

    def started(self, engine_id: str, host: str, attempt_key: str = "") -> None:
        """Note an instance that was started: it may have ended before the engine lists it."""
        self._coming[engine_id] = host, attempt_key

    def may_start(self, host: str) -> bool:
        """Return whether the wait for a host is over."""
        return self._clock() >= self._not_before.get(host, 0.0)
