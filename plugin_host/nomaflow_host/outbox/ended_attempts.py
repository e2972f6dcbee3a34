"""Acknowledged outcomes of attempts, kept so that a repeated dispatch starts nothing."""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct

_RECENT = 10_000
_OLDER = 500_000
_KEPT_BYTES = 4096


class Answer(Struct, frozen=True):
    """The acknowledged outcome of an attempt.

    :param seq: the number of its last event; 0 if it is no longer known
    :param event: that event, encoded; None if it is no longer held
    """

    seq: int
    event: bytes | None


class AnswerBook:
    """Remembers the outcomes of the last ten thousand attempts, and that the half a million before them were here.

    Of an older key its hash of 64 bits is kept, about 80 bytes of memory. They are let go by half a million at once, so
    there are a million of them at most.
    """

    def __init__(self) -> None:
        self._recent: OrderedDict[str, Answer] = OrderedDict()
        self._older: set[int] = set()
        self._oldest: set[int] = set()

    def remember(self, attempt_key: str, *, seq: int, event: bytes | None) -> Answer:
        """Keep the outcome of an attempt, a large one without its event, and return it as it is kept."""
        kept = Answer(seq, event if event is not None and len(event) <= _KEPT_BYTES else None)
        self._recent[attempt_key] = kept
        if len(self._recent) > _RECENT:
            oldest, _ = self._recent.popitem(last=False)
            self._older.add(hash(oldest))
            if len(self._older) == _OLDER:
                self._oldest, self._older = self._older, set()
        return kept

    def get(self, attempt_key: str) -> Answer | None:
        """Return the known outcome of an attempt, or None if its key was not here, as far as that is remembered."""
        answer = self._recent.get(attempt_key)
        if answer is None:
            older = hash(attempt_key)
            if older in self._older or older in self._oldest:
                return Answer(0, None)
        return answer
