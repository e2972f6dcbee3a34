"""Sessions: everything of one is in its cookie, encrypted; the console keeps only which ones have ended."""

from __future__ import annotations

import base64
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from starlette.requests import cookie_parser

from nomaflow_api.private_file import write_private
from nomaflow_console.access.secret import ConsoleSecret

_log = logging.getLogger(__name__)

IDLE_SECONDS = 12 * 3600
LIFE_SECONDS = 7 * 24 * 3600
CSRF_FIELD = "csrf"
"""The field of each form with the token of its session, so that no other page can send one."""
ZONE_COOKIE = "zone"
"""The cookie with the time zone that the browser told: an IANA name, ``UTC``, or ``job``."""
_RENEW_SECONDS = 300
_NONCE = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """Somebody who has logged in.

    :param id: random
    :param name: what runs, cancels and pauses say of who asked for them
    :param principal: ``owner``, or the name of the token
    :param csrf: what each form carries; the same for all sessions of one person, so that a form that was open when a
        session ended works after the next login
    :param zone: time zone of the page: an IANA name, ``UTC``, ``job``, or empty if the browser has not told it yet
    :param token: the token that calls carry; None for the console's own access
    :param created: seconds since the epoch, as is ``seen``
    """

    id: str
    name: str
    principal: str
    csrf: str
    zone: str = ""
    token: str | None = field(default=None, repr=False)
    created: float = 0.0
    seen: float = 0.0


@dataclass(kw_only=True)
class Sessions:
    """Writes and reads the cookies of sessions.

    :param ended_file: remembers the sessions that were ended by a logout, until they would have expired
    :param secure: True if the cookie goes over TLS only
    :param takes_tokens: False if a token says nothing to the kernel: whoever has one would be the owner
    """

    secret: ConsoleSecret
    ended_file: Path
    secure: bool
    takes_tokens: bool
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._cipher = AESGCM(self.secret.key("sessions"))
        self._ended = self._read_ended()

    @property
    def cookie(self) -> str:
        """The cookie's name."""
        return f"{'__Host-' if self.secure else ''}nomaflow-{self.secret.id}"

    def start(self, *, name: str, principal: str, token: str | None = None) -> Session:
        """Return a new session."""
        now = self.clock()
        return Session(
            id=secrets.token_hex(16),
            name=name,
            principal=principal,
            csrf=self._csrf(name, principal),
            token=token,
            created=now,
            seen=now,
        )

    def set_cookie(self, session: Session) -> str:
        """Return the header's value that gives a browser a session, as seen now."""
        left = int(min(IDLE_SECONDS, session.created + LIFE_SECONDS - self.clock()))
        return self._header(self._sealed(session), left)

    def end(self, session: Session) -> str:
        """End a session for good; return the header's value that takes it from the browser.

        If that cannot be written down, it is ended until the console is started again; a later end writes it, too.
        """
        now = self.clock()
        self._ended = {each: until for each, until in self._ended.items() if until > now}
        self._ended[session.id] = session.created + LIFE_SECONDS
        try:
            write_private(self.ended_file, json.dumps(self._ended).encode())
        except OSError as error:
            what = "cannot write %s: %s; a session has ended, and a copy of its cookie works again after a restart"
            _log.error(what, self.ended_file, error.strerror)
        return self._header("", 0)

    def read(self, headers: Mapping[str, str]) -> Session | None:
        """Return the session of a request; None if there is none that is valid."""
        jar = cookie_parser(headers.get("cookie", ""))
        given = self._opened(jar.get(self.cookie, ""))
        if given is None:
            return None
        csrf = self._csrf(given["name"], given["principal"])
        session = Session(**given, csrf=csrf, zone=jar.get(ZONE_COOKIE, "")[:64])
        return session if self.is_valid(session) else None

    def is_valid(self, session: Session) -> bool:
        """Return True unless a session was ended, not used for 12 hours, began 7 days ago, or has a useless token."""
        if session.token is not None and not self.takes_tokens:
            return False
        last = min(session.seen + IDLE_SECONDS, session.created + LIFE_SECONDS)
        return self.clock() <= last and session.id not in self._ended

    def wants_renewal(self, session: Session) -> bool:
        """Return True if the cookie should be set again, so that a session in use does not become idle."""
        return self.clock() - session.seen > _RENEW_SECONDS

    def _csrf(self, name: str, principal: str) -> str:
        return self.secret.seal("csrf", f"{principal}\0{name}".encode()).hex()

    def _sealed(self, session: Session) -> str:
        facts = {
            "id": session.id, "name": session.name, "principal": session.principal, "token": session.token,
            "created": session.created, "seen": self.clock(),
        }  # fmt: skip
        nonce = secrets.token_bytes(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, json.dumps(facts).encode(), self.cookie.encode())
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def _opened(self, value: str) -> dict[str, Any] | None:
        try:
            raw = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
            found: dict[str, Any] = json.loads(self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], self.cookie.encode()))
        except (ValueError, InvalidTag):
            return None
        return found

    def _header(self, value: str, seconds: int) -> str:
        secure = "; Secure" if self.secure else ""
        return f"{self.cookie}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"

    def _read_ended(self) -> dict[str, float]:
        try:
            found = json.loads(self.ended_file.read_text(encoding="utf-8"))
            return {str(each): float(until) for each, until in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}
