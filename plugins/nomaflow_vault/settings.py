"""The settings of the vault, from the variables that its own tools read."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from nomaflow.secrets import SecretRefused
from nomaflow_project.reading.environment import resolve_text
from nomaflow_project.reading.sources import ReferenceMissing

_TIMEOUT = 5.0
_MOST = 9.0
"""Below the time that a host waits for a plugin's answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VaultSettings:
    """The vault's address, and the way to log in.

    :param address: ``VAULT_ADDR``; https, except on loopback
    :param token: ``VAULT_TOKEN``, or the content of the file ``VAULT_TOKEN_FILE``; empty for AppRole
    :param role_id: ``VAULT_ROLE_ID``, of AppRole
    :param secret_id: ``VAULT_SECRET_ID``, or the content of the file ``VAULT_SECRET_ID_FILE``
    :param namespace: ``VAULT_NAMESPACE``; empty for none
    :param ca_file: ``VAULT_CACERT``, PEM; empty for the system's authorities
    :param timeout: seconds, ``VAULT_CLIENT_TIMEOUT``
    :param cache_seconds: ``NOMAFLOW_VAULT_CACHE_SECONDS``: how long a secret is used before it is read again
    """

    address: str
    token: str = field(default="", repr=False)
    role_id: str = ""
    secret_id: str = field(default="", repr=False)
    namespace: str = ""
    ca_file: str = ""
    timeout: float = _TIMEOUT
    cache_seconds: float = 1.0

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> VaultSettings:
        """Return the settings in variables.

        :raises SecretRefused: if one is missing or has no sense
        """
        settings = cls(
            address=_value("VAULT_ADDR", environ).rstrip("/"),
            token=_value("VAULT_TOKEN", environ),
            role_id=_value("VAULT_ROLE_ID", environ),
            secret_id=_value("VAULT_SECRET_ID", environ),
            namespace=_value("VAULT_NAMESPACE", environ),
            ca_file=_value("VAULT_CACERT", environ),
            timeout=min(_seconds("VAULT_CLIENT_TIMEOUT", environ, default=_TIMEOUT), _MOST),
            cache_seconds=max(_seconds("NOMAFLOW_VAULT_CACHE_SECONDS", environ, default=1.0), 1.0),
        )
        settings._check()
        return settings

    def _check(self) -> None:
        try:
            parts = urlsplit(self.address)
            scheme, host, _ = parts.scheme, parts.hostname, parts.port
        except ValueError:  # half an address of IPv6, or a port that is none
            scheme = host = ""
        if scheme not in ("http", "https") or not host:
            raise SecretRefused("VAULT_ADDR is not set to the vault's address, such as https://vault.example.com:8200")
        if scheme == "http" and not _is_loopback(host):
            raise SecretRefused("VAULT_ADDR is http:// on another machine, which would show the token; use https://")
        if not self.token and not (self.role_id and self.secret_id):
            raise SecretRefused("there is no login: set VAULT_TOKEN, or VAULT_ROLE_ID and VAULT_SECRET_ID")


def _value(name: str, environ: Mapping[str, str]) -> str:
    if not (environ.get(name) or environ.get(f"{name}_FILE")):
        return ""
    try:
        value = resolve_text(f"${{{name}}}", environ).strip()
    except ReferenceMissing as error:
        raise SecretRefused(str(error)) from None
    if not value.isprintable():  # an HTTP library would quote such a header whole in its error
        raise SecretRefused(f"{name} is more than one line, or has other control characters; expected one line")
    return value


def _seconds(name: str, environ: Mapping[str, str], *, default: float) -> float:
    text = _value(name, environ).removesuffix("s")
    try:
        return float(text) if text else default
    except ValueError:
        raise SecretRefused(f"{name} is not a number of seconds") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
