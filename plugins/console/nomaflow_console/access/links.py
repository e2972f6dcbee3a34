"""Login links: codes that are signed with the console's secret, and work once."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nomaflow_console.access.secret import ConsoleSecret

LINK_SECONDS = 600
_NONCE, _TIME, _SEAL, _NAME = 16, 8, 16, 128
_PURPOSE = "login-link"


class LoginRefused(Exception):
    """Raised when nobody is logged in; the text gives the reason and the way out."""


def make_code(secret: ConsoleSecret, name: str, *, now: float | None = None) -> str:
    """Return a new code: 128 random bits, the time, and the name of its maker, signed.

    :param now: seconds since the epoch
    """
    micros = int((time.time() if now is None else now) * 1e6)
    body = secrets.token_bytes(_NONCE) + micros.to_bytes(_TIME, "big") + name.encode("utf-8", "replace")[:_NAME]
    return base64.urlsafe_b64encode(secret.seal(_PURPOSE, body) + body).decode().rstrip("=")


@dataclass(kw_only=True)
class LoginLinks:
    """Takes each code once.

    :param started: when this console started, in seconds since the epoch: it cannot know which older codes were used
    """

    secret: ConsoleSecret
    started: float
    clock: Callable[[], float] = time.time
    _used: dict[bytes, float] = field(default_factory=dict)

    def use(self, code: str) -> str:
        """Return the name of a code's maker; the code is used up.

        :param code: the code, or the whole link, which ends in it
        :raises LoginRefused: if it is not genuine, too old, from before this console's start, or used
        """
        again = "make a new one with: nomaflow console link"
        code = code.strip().rpartition("#")[2]
        try:
            raw = base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raw = b""
        seal, body = raw[:_SEAL], raw[_SEAL:]
        if len(body) < _NONCE + _TIME or not hmac.compare_digest(seal, self.secret.seal(_PURPOSE, body)):
            raise LoginRefused(f"this code is not one of this console, or not whole; {again}")
        nonce, made = body[:_NONCE], int.from_bytes(body[_NONCE : _NONCE + _TIME], "big") / 1e6
        now = self.clock()
        if made < self.started:
            raise LoginRefused(f"this link is older than the console, which was started since; {again}")
        if not made <= now + 1 <= made + LINK_SECONDS + 1:
            raise LoginRefused(f"this link is older than 10 minutes; {again}")
        self._used = {each: at for each, at in self._used.items() if at > now - LINK_SECONDS - 1}
        if nonce in self._used:
            raise LoginRefused(f"this link was used before, and works once; {again}")
        self._used[nonce] = made
        return body[_NONCE + _TIME :].decode("utf-8", "replace")
