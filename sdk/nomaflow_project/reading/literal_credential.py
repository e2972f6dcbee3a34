"""Credentials that a file has in plain text, where a reference to one is meant to be."""

from __future__ import annotations

import re

from nomaflow_api.credential_signs import names_credential, url_password

_REFERENCE = re.compile(r"\$\{[^}]*\}")
_FILE = re.compile(r"file:(?!//)")
_KEYS = frozenset({"password", "token", "client_secret", "auth_password", "auth_token"})


def is_literal_credential(parent: str, key: str, value: str) -> bool:
    """Return whether a value of connectors.toml is a credential itself, not a reference to one.

    :param parent: the path of the table that the key is in, such as ``connectors.crm.auth``
    """
    literal = _REFERENCE.sub("", value)
    if not literal or value.startswith("ENC:") or _FILE.match(value):
        return False
    if key in _KEYS or (key == "value" and parent.endswith("auth")):
        return True
    if parent.endswith("headers") and names_credential(key):
        return bool(literal.removeprefix("Bearer ").removeprefix("Basic ").strip())
    return "://" in value and bool(_REFERENCE.sub("", url_password(value)))
