"""The headers of each answer."""

from __future__ import annotations

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
IMMUTABLE = "public, max-age=31536000, immutable"
"""How long a browser keeps a file whose address has its hash."""


def security_headers(*, secure: bool) -> dict[str, str]:
    """Return what each answer carries unless it says otherwise.

    :param secure: True if browsers reach the console over TLS
    """
    headers = {
        "content-security-policy": CSP,
        "x-content-type-options": "nosniff",
        # With no-referrer Chromium sends "Origin: null" on plain forms, which the check of the origin refuses.
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }
    return {**headers, "strict-transport-security": "max-age=31536000"} if secure else headers
