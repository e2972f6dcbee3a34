"""Acknowledged outcomes of attempts, kept so that a repeated dispatch starts nothing."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from msgspec import Struct

_RECENT = 10_000
_KEPT_BYTES = 4096


class Answer(Struct, frozen=True):
    """The acknowledged outcome of an attempt.

    :param seq: the number of its last event; 0 if it is no longer known
    :param event: that event, encoded; None if it is no longer held
    """

    seq: int
    event: bytes | None


class AnswerBook:
    """Remembers every key for the life of the process, and the outcomes of the last ten thousand.

    Older keys cost about 65 bytes each: only 64 bits of a hash are kept, since acknowledged keys are almost never asked
    for again, while a host may run for a year.
    """

    def __init__(self) -> None:
        self._recent: OrderedDict[str, Answer] = OrderedDict()
        self._older: set[int] = set()

    def remember(self, attempt_key: str, *, seq: int, event: bytes | None) -> Answer:
        """Keep the outcome of an attempt, a large one without its event, and return it as it is kept."""
        kept = Answer(seq, event if event is not None and len(event) <= _KEPT_BYTES else None)
        self._recent[attempt_key] = kept
        if len(self._recent) > _RECENT:
            oldest, _ = self._recent.popitem(last=False)
            self._older.add(_fingerprint(oldest))
        return kept

    def get(self, attempt_key: str) -> Answer | None:
        """Return the known outcome of an attempt, or None if its key was never here."""
        answer = self._recent.get(attempt_key)
        if answer is None and _fingerprint(attempt_key) in self._older:
            return Answer(0, None)
        return answer


def _fingerprint(attempt_key: str) -> int:
    return int.from_bytes(hashlib.blake2b(attempt_key.encode(), digest_size=8).digest(), "big")
