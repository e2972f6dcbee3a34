"""Keeping credentials out of what is written down: log lines, errors, progress."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

__all__ = ["MASK", "Masker"]

MASK = "***"
_LEAST = 6
"""Shorter credentials would mask ordinary words."""


class Masker:
    """Puts ``***`` in the place of known credentials: as they are, URL-encoded, and in base64 at any place.

    :param secrets: those of fewer than six characters are passed over
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        plain: set[str] = set()
        encoded: set[str] = set()
        for secret in secrets:
            if len(secret) >= _LEAST:
                plain |= {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
                encoded |= _base64_cores(secret)
        self._needles = tuple(sorted(plain | encoded, key=len, reverse=True))
        self._pattern = re.compile("|".join([*map(re.escape, _longest_first(plain)), *map(_around, sorted(encoded))]))

    def text(self, text: str) -> str:
        """Return *text* with every credential masked."""
        for needle in self._needles:  # a plain search is far cheaper than the pattern, and nearly never finds one
            if needle in text:
                return self._pattern.sub(MASK, text)
        return text

    def line(self, line: bytes) -> bytes:
        """Return one line of output with every credential masked; any bytes survive."""
        text = line.decode("utf-8", "surrogateescape")
        masked = self.text(text)
        return line if masked is text else masked.encode("utf-8", "surrogateescape")


def _longest_first(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=lambda text: (-len(text), text))


def _base64_cores(secret: str) -> set[str]:
    """Return the characters that stand for *secret* in base64, for each place where it may begin in three bytes."""
    raw = secret.encode("utf-8", "surrogateescape")
    cores = set()
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + raw).decode("ascii")
        core = coded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        cores |= {core, core.replace("+", "-").replace("/", "_")}
    return cores


def _around(core: str) -> str:
    """Return a pattern of *core* with the characters around it that hold some of its bits."""
    return rf"[\w+/-]?{re.escape(core)}[\w+/-]?={{0,2}}"
