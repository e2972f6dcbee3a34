"""Access rules: tokens, roles and the policy table.

On a Unix socket the 0700 directory around it is the guard, and every caller is the project's owner. On TCP a token
identifies the caller; clients and hosts have one each.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nomaflow_kernel.rpc.errors import NotAuthenticated, NotPermitted

__all__ = ["POLICY", "AccessControl", "Caller", "Role", "TokenFileError", "Tokens"]

_LOG = logging.getLogger(__name__)
_RENEW_SECONDS = 2.0
_CLIENT_METHODS = (
    "GetKernel", "TriggerRun", "TriggerRuns", "CancelRun", "ReplayRun", "GetRun", "ListRuns", "WatchRun",
    "WatchEvents", "ReadLogs", "ListJobs", "GetJob", "ListHosts", "ReloadHost", "ForgetHost", "Pause", "Resume",
)  # fmt: skip
_HOST_METHODS = ("Attach", "Report", "IntroduceManifest")


class Role(enum.StrEnum):
    """The role of a caller."""

    OWNER = "owner"
    """A caller on the Unix socket, or one who needs no token: may call everything."""
    CLIENT = "client"
    HOST = "host"
    ANYONE = "anyone"
    """A caller without credentials."""


_CLIENTS = frozenset({Role.OWNER, Role.CLIENT})
_HOSTS = frozenset({Role.OWNER, Role.HOST})
_KNOWN = frozenset({Role.OWNER, Role.CLIENT, Role.HOST})

POLICY: Mapping[str, frozenset[Role]] = {
    **{f"/nomaflow_api.v1.KernelService/{name}": _CLIENTS for name in _CLIENT_METHODS},
    **{f"/nomaflow_api.v1.HostGatewayService/{name}": _HOSTS for name in _HOST_METHODS},
    "/grpc.health.v1.Health/Check": frozenset(Role),
    "/grpc.health.v1.Health/Watch": _KNOWN,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _CLIENTS,
}
"""Every method the kernel serves → the roles that may call it. A method that is missing here is served to nobody."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """The author of a call: role, the name to put into records, and the peer's address.

    :param traceparent: the W3C trace context of the call, as sent; empty for none
    """

    role: Role
    name: str
    peer: str
    traceparent: str = ""


class TokenFileError(Exception):
    """Raised when a token file cannot be used; the text gives the file and the reason."""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Tokens:
    """The SHA-256 digests of the two tokens."""

    client: bytes
    host: bytes

    @classmethod
    def load(cls, state_dir: Path, *, client_file: Path | None = None, host_file: Path | None = None) -> Tokens:
        """Read the two token files, creating those that are missing.

        :param client_file: file of the clients' token; by default ``token`` in the state directory
        :param host_file: file of the hosts' token; by default ``host-token`` there
        :raises TokenFileError: if a file is readable by others, empty or not readable at all
        """
        client, host = client_file or state_dir / "token", host_file or state_dir / "host-token"
        return cls(client=_digest(_read_token(client)), host=_digest(_read_token(host)))


class AccessControl:
    """Identifies callers, and decides whether they may call a method.

    :param load: reads the tokens, at first now, later at most every two seconds and only on a call: a replaced token is
        then no longer valid. A later TokenFileError from it is logged, and the tokens stay as they were. None if no TCP
        address is served; a TCP peer then has no role
    :raises TokenFileError: if the tokens cannot be read now
    """

    def __init__(self, load: Callable[[], Tokens] | None = None) -> None:
        self._load = load
        self._tokens = None if load is None else load()
        self._loaded_at = time.monotonic()

    def renew(self, *, after_seconds: float = 0.0) -> None:
        """Read the tokens again, unless the last time is less than some seconds ago."""
        now = time.monotonic()
        if self._load is None or now - self._loaded_at < after_seconds:
            return
        self._loaded_at = now
        try:
            tokens = self._load()
        except TokenFileError as error:
            _LOG.warning("the tokens were not replaced: %s", error)
            return
        if tokens != self._tokens:
            self._tokens = tokens
            _LOG.info("a token was replaced; the old one is no longer valid")

    def identify(self, peer: str, authorization: str | bytes | None, *, traceparent: str = "") -> Caller:
        """Return the caller. A token is checked only if the peer needs one."""
        if peer.startswith("unix:"):
            return Caller(role=Role.OWNER, name="local", peer=peer, traceparent=traceparent)
        return Caller(role=self._role(authorization), name="client", peer=peer, traceparent=traceparent)

    def admit(self, method: str, caller: Caller) -> None:
        """Check that a caller may call a method.

        :raises NotAuthenticated: if it has no credentials
        :raises NotPermitted: if it is known and may not call the method
        """
        if caller.role in POLICY.get(method, frozenset()):
            return
        if caller.role is Role.ANYONE:
            raise NotAuthenticated
        raise NotPermitted(method.rpartition("/")[2])

    def _role(self, authorization: str | bytes | None) -> Role:
        self.renew(after_seconds=_RENEW_SECONDS)
        if self._tokens is None:
            return Role.ANYONE
        text = authorization.decode("ascii", "replace") if isinstance(authorization, bytes) else authorization or ""
        scheme, _, token = text.partition(" ")
        # Digests of equal length, both always compared: the time does not tell how close a guess was.
        shown = _digest(token)
        is_client = hmac.compare_digest(shown, self._tokens.client)
        is_host = hmac.compare_digest(shown, self._tokens.host)
        if scheme.lower() != "bearer":
            return Role.ANYONE
        return Role.CLIENT if is_client else Role.HOST if is_host else Role.ANYONE


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _read_token(path: Path) -> str:
    try:
        _create_token(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TokenFileError(f"cannot use the token file {str(path)!r}: {error.strerror}") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise TokenFileError(
            f"the token file {str(path)!r} is not a regular file; remove it, and the kernel creates a new one"
        )
    with open(descriptor, encoding="ascii", errors="replace") as file:
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise TokenFileError(
                f"the token file {str(path)!r} can be read by others; run `chmod 600 {path}`, or remove it"
            )
        token = file.read(4096).strip()
    if len(token) < 32:
        raise TokenFileError(
            f"the token file {str(path)!r} holds {len(token)} characters, expected at least 32; remove it for a new one"
        )
    return token


def _create_token(path: Path) -> None:
    """Write a new token if there is no file; a file that exists, or appears meanwhile, stays."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
