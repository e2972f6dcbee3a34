"""Identifiers.

A run id sorts by time: ``run_`` and 26 characters, 48 bits of milliseconds and 80 random bits in Crockford's base 32 (a
ULID). An attempt key is ``run/step/attempt``: the fencing token of an attempt, and the author's idempotency token.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_RUN_ID = re.compile(rf"run_[0-7][{_ALPHABET}]{{25}}")
_RANDOM_BITS = 80


class RunIds:
    """A source of run ids that rise strictly within one kernel.

    :param now_ms: returns milliseconds since the epoch
    """

    def __init__(self, *, now_ms: Callable[[], int], random_bits: Callable[[int], int] = secrets.randbits) -> None:
        self._now_ms = now_ms
        self._random_bits = random_bits
        self._last = 0

    def new(self) -> str:
        """Return a new id, greater than every id returned before, even if the clock went back."""
        value = (self._now_ms() << _RANDOM_BITS) | self._random_bits(_RANDOM_BITS)
        if value <= self._last:
            value = self._last + 1
        self._last = value
        return "run_" + _encode(value)


def first_run_id(at_ms: int) -> str:
    """Return the lowest id that a run of that millisecond since the epoch can have; for comparison only."""
    return "run_" + _encode(max(at_ms, 0) << _RANDOM_BITS)


def made_at_ms(run_id: str) -> int:
    """Return the millisecond since the epoch that a run id begins with."""
    value = 0
    for character in run_id.removeprefix("run_"):
        value = value << 5 | _ALPHABET.index(character)
    return value >> _RANDOM_BITS


def _encode(value: int) -> str:
    pairs = []
    for _ in range(13):
        pairs.append(_PAIRS[value & 1023])
        value >>= 10
    pairs.reverse()
    return "".join(pairs)


def is_run_id(text: str) -> bool:
    """Return True if ``text`` has the form of a run id."""
    return _RUN_ID.fullmatch(text) is not None


def attempt_key(run_id: str, step: str, attempt: int) -> str:
    """Return the key of try ``attempt`` (from 1) at ``step``."""
    return f"{run_id}/{step}/{attempt}"


def split_attempt_key(key: str) -> tuple[str, str, int]:
    """Return run id, step name and number of a key.

    :raises ValueError: if ``key`` is not an attempt key
    """
    run_id, _, rest = key.partition("/")
    step, _, number = rest.rpartition("/")
    if not (is_run_id(run_id) and step and number.isascii() and number.isdigit()):
        raise ValueError(f"not an attempt key: {key[:120]!r}, expected 'run/step/attempt'")
    return run_id, step, int(number)
