"""Signs of a credential, in the name of a key, variable or header, or in a URL. Every package asks here."""

from __future__ import annotations

import re

_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY|AUTH|CRED|COOKIE|DSN", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)([^@]*)(?=@)")
_QUERY_PASSWORD = re.compile(r"([?&](?:password|passwd|pwd|sslpassword)=)([^&]*)", re.IGNORECASE)


def names_credential(name: str) -> bool:
    """Return whether a name says that its value is a credential, and not the path of a file with one."""
    return bool(_NAME.search(name)) and not name.upper().endswith("_FILE")


def url_passwords(url: str) -> list[str]:
    """Return the passwords in a URL as written there."""
    return [match[2] for pattern in (_URL_PASSWORD, _QUERY_PASSWORD) for match in pattern.finditer(url)]


def url_password(url: str) -> str:
    """Return the first password in a URL as written there, empty if there is none."""
    return next(iter(url_passwords(url)), "")


def without_url_passwords(text: str) -> str:
    """Return a text with ``***`` in place of the passwords in its URLs."""
    return _QUERY_PASSWORD.sub(r"\1***", _URL_PASSWORD.sub(r"\1***", text))
