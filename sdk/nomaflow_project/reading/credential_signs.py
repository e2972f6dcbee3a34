"""Signs of a credential, in the name of a key or variable or in a URL."""

from __future__ import annotations

import re

_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY|AUTH|CRED", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"^[\w+]+://[^:/@]*:([^@]*)@")
_QUERY_PASSWORD = re.compile(r"[?&](?:password|passwd|pwd|sslpassword)=([^&]*)", re.IGNORECASE)
_REFERENCE = re.compile(r"\$\{[^}]*\}")
_FILE = re.compile(r"file:(?!//)")
_KEYS = frozenset({"password", "token", "client_secret", "auth_password", "auth_token"})
_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"})


def names_credential(name: str) -> bool:
    """Return whether the name of a variable says that its value is a credential."""
    return bool(_NAME.search(name)) and not name.endswith("_FILE")


def url_passwords(url: str) -> list[str]:
    """Return the passwords in a URL as written there."""
    return [match[1] for match in (_URL_PASSWORD.match(url), *_QUERY_PASSWORD.finditer(url)) if match]


def url_password(url: str) -> str:
    """Return the first password in a URL as written there, empty if there is none."""
    return next(iter(url_passwords(url)), "")


def is_literal_credential(parent: str, key: str, value: str) -> bool:
    """Return whether a value of connectors.toml is a credential itself, not a reference to one.

    :param parent: the path of the table that the key is in, such as ``connectors.crm.auth``
    """
    literal = _REFERENCE.sub("", value)
    if not literal or value.startswith("ENC:") or _FILE.match(value):
        return False
    if key in _KEYS or (key == "value" and parent.endswith("auth")):
        return True
    if parent.endswith("headers") and key.lower() in _HEADERS:
        return bool(literal.removeprefix("Bearer ").removeprefix("Basic ").strip())
    return "://" in value and bool(_REFERENCE.sub("", url_password(value)))
