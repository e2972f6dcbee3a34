"""Masks credentials in everything that is written down: log lines, errors, results, progress."""

from __future__ import annotations

import base64
import json
import re
import string
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

from msgspec import Struct

MASK = "***"
_LEAST = 6
"""Shorter credentials would mask ordinary words."""
_REMEMBERED = 16
_SPLIT = 16
"""A credential of this many characters is recognised on two lines as well. Half of a shorter one may be a word."""
_WINDOW = 32
"""Any 63 characters of a long credential hold a part of this length that begins at one of its multiples."""
_MANY = 24
"""From this many encoded parts on, one pattern for runs of characters costs less than a search for each part."""
_PERCENT = re.compile(r"%[0-9A-F]{2}")
_ALPHABET = frozenset(string.ascii_letters + string.digits + "+/_-")
_AT_EDGES = " \t\r\"'\\,;()[]{}"
"""What may stand between a piece of a credential and the end of its line."""


class _Form(Struct, frozen=True):
    """One way in which a credential is written.

    :param coded: True for an encoding, whose neighbouring characters hold some of its bits
    :param cut: True if it is also recognised when the end of a line has cut it
    """

    text: str
    coded: bool
    cut: bool


class Masker:
    """Replaces known credentials by ``***``: as they are, URL-encoded, escaped, and in base64, base32 and hex.

    Each line of a credential of several lines counts as one. A credential cut in two by the end of a line is found on
    the line that has more of it.

    :param secrets: credentials; those of fewer than six characters are ignored
    :ivar longest: the number of characters of the longest form of one
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._parts: dict[str, list[tuple[_Form, int]]] = {}
        self.longest = 0
        for form in {form for whole in secrets for secret in {whole, *whole.splitlines()} for form in _forms(secret)}:
            self.longest = max(self.longest, len(form.text))
            for at, part in _parts_of(form):
                self._parts.setdefault(part, []).append((form, at))
        coded = [part for part, uses in self._parts.items() if all(form.coded for form, _ in uses)]
        plain = self._parts.keys() - set(coded)
        # Searches for a few parts are far cheaper than any pattern, and rarely find anything.
        few = len(coded) <= _MANY
        self._searched = (*plain, *coded) if few else tuple(plain)
        self._least = min(map(len, coded), default=0)
        self._beginnings = frozenset() if few else frozenset(part[: self._least] for part in coded)
        self._runs = re.compile(rf"[A-Za-z0-9+/_-]{{{self._least},}}")

    def text(self, text: str) -> str:
        """Return *text* with every credential masked."""
        for part in self._searched:
            if part in text:
                return self._masked(text)
        return self._masked(text) if self._beginnings and self._may_be_coded(text) else text

    def _may_be_coded(self, text: str) -> bool:
        least, known = self._least, self._beginnings
        return any(
            run[at : at + least] in known for run in self._runs.findall(text) for at in range(len(run) - least + 1)
        )

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

    def _masked(self, text: str) -> str:
        """Return *text* with the places masked that hold a credential, or enough of one."""
        found = sorted(place for part in self._parts for place in self._places(text, part))
        shown: list[str] = []
        end = 0
        for start, stop in found:
            if start > end or not shown:
                shown += [text[end:start], MASK]
            end = max(end, stop)
        return "".join([*shown, text[end:]]) if shown else text

    def _places(self, text: str, part: str) -> Iterator[tuple[int, int]]:
        """Yield start and end of each place that shows that part of a credential, and as much around it as fits."""
        found = text.find(part)
        while found >= 0:
            for form, at in self._parts[part]:
                start, stop, head, tail = _grown(text, found, form.text, at, len(part))
                if not (head or tail) or _is_cut(text, start, stop, head=head, tail=tail):
                    yield _around(text, start, stop) if form.coded else (start, stop)
            found = text.find(part, found + 1)


class WorkerMasker:
    """The masker of one worker: the credentials of its connectors, and those of the attempts in it.

    Credentials of the last attempts that ended are kept, because a library may still log them. So are the last ones
    that its connectors had: with a plugin whose secrets are short-lived, each attempt may bring others.

    :param secrets: the credentials of the connectors
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._always = frozenset(secrets)
        self._running: dict[int, frozenset[str]] = {}
        self._ended: deque[frozenset[str]] = deque(maxlen=_REMEMBERED)
        self._learned: deque[frozenset[str]] = deque(maxlen=_REMEMBERED)
        self._known = self._always
        self.now = Masker(self._always)
        """Masks all that is known at the moment."""

    def learn(self, secrets: Iterable[str]) -> None:
        """Add credentials of connectors, which libraries may log at any time."""
        learned = frozenset(secrets)
        if learned in self._learned:
            self._learned.remove(learned)
        self._learned.append(learned)
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
        known = self._always.union(*self._running.values(), *self._ended, *self._learned)
        if known != self._known:
            self._known = known
            self.now = Masker(known)


def _forms(secret: str) -> Iterator[_Form]:
    if len(secret) >= _LEAST:
        one_line = len(secret.splitlines()) == 1
        yield from (_Form(text, coded=False, cut=one_line and len(text) >= _SPLIT) for text in _written(secret))
        yield from (_Form(text, coded=True, cut=len(text) >= 2 * _WINDOW) for text in _encoded(secret))


def _parts_of(form: _Form) -> Iterator[tuple[int, str]]:
    """Yield parts of a form and where they begin: a line that shows it, or most of it, has one of them."""
    length = len(form.text)
    size = min(_WINDOW, length // 2) if form.cut else length
    for at in range(0, length - size + 1, size):
        yield at, form.text[at : at + size]


def _grown(text: str, found: int, whole: str, at: int, size: int) -> tuple[int, int, bool, bool]:
    """Return the place in *text* that fits *whole* around a part of it, and whether its beginning or end is missing.

    :param at: where the part begins in *whole*; it begins at *found* in *text*
    """
    start, stop, first, last = found, found + size, at, at + size
    while start and first and text[start - 1] == whole[first - 1]:
        start, first = start - 1, first - 1
    while stop < len(text) and last < len(whole) and text[stop] == whole[last]:
        stop, last = stop + 1, last + 1
    return start, stop, first > 0, last < len(whole)


def _is_cut(text: str, start: int, stop: int, *, head: bool, tail: bool) -> bool:
    """Return whether what is missing of a credential can be on the lines before and after.

    :param head: True if its beginning is missing; *tail*, if its end is
    """
    before = text[text.rfind("\n", 0, start) + 1 : start]
    end = text.find("\n", stop)
    after = text[stop : end if end >= 0 else None]
    return not (head and before.strip(_AT_EDGES)) and not (tail and after.strip(_AT_EDGES))


def _around(text: str, start: int, stop: int) -> tuple[int, int]:
    """Return a place in an encoded text with the neighbouring characters that hold some of its bits."""
    if start and text[start - 1] in _ALPHABET:
        start -= 1
    if stop < len(text) and text[stop] in _ALPHABET:
        stop += 1
    while stop < len(text) and text[stop] == "=":
        stop += 1
    return start, stop


def _written(secret: str) -> set[str]:
    """Return the texts that stand for *secret* in URLs, in JSON and in Python's ``repr``, with any kind of quotes."""
    urls = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    urls |= {_PERCENT.sub(lambda match: match[0].lower(), url) for url in urls}
    shown = [json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret), ascii(secret)]
    shown.append(repr(_bytes(secret))[1:])
    doubled = secret.replace("\\", "\\\\")
    return {secret, *urls, *(text[1:-1] for text in shown), doubled, doubled.replace("'", "\\'")}


def _encoded(secret: str) -> set[str]:
    """Return what stands for *secret* in hex, in base32, and in base64 at each offset at which it may begin."""
    raw = _bytes(secret)
    found = {raw.hex(), raw.hex().upper(), base64.b32encode(raw).decode("ascii")[: len(raw) * 8 // 5]}
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + raw).decode("ascii")
        core = coded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        found |= {core, core.replace("+", "-").replace("/", "_")}
    return found


def _bytes(secret: str) -> bytes:
    return secret.encode("utf-8", "surrogateescape")
