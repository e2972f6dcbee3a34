"""Masks credentials in everything that is written down: log lines, errors, results, progress."""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

__all__ = ["MASK", "Masker", "WorkerMasker"]

MASK = "***"
_LEAST = 6
"""Shorter credentials would mask ordinary words."""
_REMEMBERED = 16


class Masker:
    """Replaces known credentials by ``***``: as they are, URL-encoded, escaped, and in base64 at any offset.

    Each line of a credential of several lines counts as one.

    :param secrets: credentials; those of fewer than six characters are ignored
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        plain: set[str] = set()
        encoded: set[str] = set()
        for secret in (part for whole in secrets for part in {whole, *whole.splitlines()}):
            if len(secret) >= _LEAST:
                plain |= {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), *_escaped(secret)}
                encoded |= _base64_cores(secret)
        self._needles = tuple(sorted(plain | encoded, key=len, reverse=True))
        self._pattern = re.compile("|".join([*map(re.escape, _longest_first(plain)), *map(_around, sorted(encoded))]))

    def text(self, text: str) -> str:
        """Return *text* with every credential masked."""
        for needle in self._needles:  # a plain search is far cheaper than the pattern, and rarely finds one
            if needle in text:
                return self._pattern.sub(MASK, text)
        return text

    def line(self, line: bytes) -> bytes:
        """Return one line of output with every credential masked; any bytes survive."""
        text = line.decode("utf-8", "surrogateescape")
        masked = self.text(text)
        return line if masked is text else masked.encode("utf-8", "surrogateescape")

    def json(self, text: str) -> str:
        """Return a JSON text with every credential in its texts, keys and numbers masked."""
        if self.text(text) is text:
            return text
        return json.dumps(self._tree(json.loads(text)), separators=(",", ":"))

    def _tree(self, tree: Any) -> Any:
        if isinstance(tree, str):
            return self.text(tree)
        if isinstance(tree, dict):
            return {self.text(key): self._tree(value) for key, value in tree.items()}
        if isinstance(tree, list):
            return [self._tree(value) for value in tree]
        if isinstance(tree, (int, float)) and not isinstance(tree, bool):
            shown = repr(tree)
            return tree if self.text(shown) is shown else MASK
        return tree


class WorkerMasker:
    """The masker of one worker: the credentials of its connectors, and those of the attempts in it.

    Credentials of the last attempts that ended are kept, because a library may still log them.

    :param secrets: the credentials of the connectors
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._always = frozenset(secrets)
        self._running: dict[int, frozenset[str]] = {}
        self._ended: deque[frozenset[str]] = deque(maxlen=_REMEMBERED)
        self._known = self._always
        self.now = Masker(self._always)
        """Masks all that is known at the moment."""

    def learn(self, secrets: Iterable[str]) -> None:
        """Add credentials of connectors, which libraries may log at any time."""
        self._always |= frozenset(secrets)
        self._renew()

    def add(self, slot: int, secrets: Iterable[str]) -> None:
        """Add credentials of the attempt in a slot."""
        more = frozenset(secrets)
        if more:
            self._running[slot] = self._running.get(slot, frozenset()) | more
            self._renew()

    def leave(self, slot: int) -> None:
        """Mark the attempt in a slot as ended."""
        ended = self._running.pop(slot, None)
        if ended is not None and ended not in self._ended:
            self._ended.append(ended)

    def _renew(self) -> None:
        known = self._always.union(*self._running.values(), *self._ended)
        if known != self._known:
            self._known = known
            self.now = Masker(known)


def _longest_first(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=lambda text: (-len(text), text))


def _escaped(secret: str) -> set[str]:
    """Return the characters that stand for *secret* in JSON and in Python's ``repr``, with either kind of quotes."""
    texts = [json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret), ascii(secret)]
    found = {text[1:-1] for text in texts}
    doubled = secret.replace("\\", "\\\\")
    return found | {doubled, doubled.replace("'", "\\'")}


def _base64_cores(secret: str) -> set[str]:
    """Return the characters that stand for *secret* in base64, for each of the three offsets at which it may begin."""
    raw = secret.encode("utf-8", "surrogateescape")
    cores = set()
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + raw).decode("ascii")
        core = coded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        cores |= {core, core.replace("+", "-").replace("/", "_")}
    return cores


def _around(core: str) -> str:
    """Return a pattern of *core* with the neighbouring characters that hold some of its bits."""
    return rf"[\w+/-]?{re.escape(core)}[\w+/-]?={{0,2}}"
