"""Makes text from elsewhere harmless: for a terminal, for the markup of chats, and for our own secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nomaflow_project.models.alerts_section import AlertsSection
from nomaflow_telemetry.visible_text import printable

BODY_BYTES = 8192
"""The largest text of a message."""

_LINE_CHARACTERS = 300
_SHORTEST_SECRET = 6
_CUT = "…"
_MENTION = re.compile(r"@(?=\w)|<(?=[!@#/a-zA-Z])|(?<=<)!")
_JOINER = "\u2060"
"""A word joiner: nothing to see, and what follows a sign is no name any more."""


def plain(text: str, *, most: int = _LINE_CHARACTERS) -> str:
    """Return text of others as one line that no terminal obeys, and in which no chat finds a mention or a tag."""
    # Cut first: a line may have a megabyte.
    shown = printable(text[: most * 2])
    if len(shown) > most or len(text) > most * 2:
        shown = shown[:most] + _CUT
    return _MENTION.sub(lambda found: found[0] + _JOINER, shown)


def cut(text: str) -> str:
    """Return text of at most `BODY_BYTES`, whole lines if possible; the end says that something is missing."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= BODY_BYTES:
        return raw.decode("utf-8")
    kept = raw[: BODY_BYTES - 32].decode("utf-8", "ignore")
    whole, _, _ = kept.rpartition("\n")
    return f"{whole or kept}\n{_CUT} (cut)"


class Masker:
    """Replaces the secrets of ``[alerts]`` in texts.

    :param secrets: those texts; short ones are left, since they would occur by chance
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {each for each in secrets if len(each) >= _SHORTEST_SECRET}
        harmless = {plain(each, most=len(each)) for each in known}
        self._secrets = sorted(known | harmless, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._secrets)))

    @classmethod
    def of(cls, alerts: AlertsSection) -> Masker:
        """Return the masker of the secrets in a section: URLs and their parts, passwords, headers."""
        secrets: list[str] = [alerts.heartbeat_url or ""]
        for channel in alerts.channels.values():
            secrets += [channel.url, channel.secret, channel.password, *channel.headers.values()]
            tail = channel.url.partition("://")[2]
            secrets += [part for part in re.split(r"[/?&=@:]", tail) if len(part) >= 16 and "." not in part]
        return cls(secrets)

    def masked(self, text: str) -> str:
        """Return a text without the secrets, and without the beginnings of those that were cut."""
        if not self._secrets:
            return text
        *cut_ones, last = self._pattern.sub("***", text).split(_CUT)
        return _CUT.join([*map(self._without_beginning, cut_ones), last])

    def _without_beginning(self, text: str) -> str:
        for secret in self._secrets:
            for size in range(min(len(secret) - 1, len(text)), _SHORTEST_SECRET - 1, -1):
                if text.endswith(secret[:size]):
                    return f"{text[:-size]}***"
        return text
