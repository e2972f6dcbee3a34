"""Tokens: their form, their names, and the order for a new one."""

from __future__ import annotations

import hashlib
import re
import secrets

from msgspec.structs import replace

from nomaflow_api.join_string import KINDS
from nomaflow_kernel.domain.errors import BadRequest, KernelError
from nomaflow_kernel.history.access_records import TokenRecord, TokenTerms
from nomaflow_project.jobs.text_forms import is_job_id
from nomaflow_project.reading.names import HOST_NAME

TOKEN_SECONDS = 90 * 86_400
"""The lifetime of a token for which none is given."""

JOIN_SECONDS = 3600
"""The lifetime of a join string for which none is given."""

INSTANCE_SECONDS = 86_400
"""The lifetime of an instance's certificate for which none is given."""

_PREFIX = "nft1."
_SECRET_BYTES = 32
_SECRET_LENGTH = 43
_ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 12
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RESERVED = frozenset({"owner", "anyone", "kernel", "cron", "schedule"})
_LONGEST_TOKEN = 10 * 365 * 86_400
_LONGEST_JOIN = 30 * 86_400
_LONGEST_INSTANCE = 400 * 86_400
_MOST_USES = 1000
_MOST_GRANTS = 100
_MOST_IDS = 100


class UnknownCredential(KernelError):
    """Raised when nothing has the id, serial or name of what is to be withdrawn or rotated."""

    reason = "CREDENTIAL_NOT_FOUND"

    def __init__(self, target: str) -> None:
        super().__init__(
            f"no token, certificate or principal has the name {target[:80]!r}; "
            "`nomaflow token list --all` shows tokens and certificates"
        )


class TokenOrder(TokenTerms, frozen=True, kw_only=True):
    """A request for a token.

    :param lifetime_seconds: 0 for the default
    :param uses: of a join string; 0 for once
    :param request: the call that a repeat repeats; empty for none
    """

    lifetime_seconds: int = 0
    uses: int = 0
    request: str = ""

    def check(self) -> None:
        """Check the form of the order; whether roles and grants can be read is not checked here.

        :raises BadRequest: if a field breaks a rule
        """
        if self.kind not in KINDS:
            raise BadRequest(f"kind is {self.kind[:32]!r}, expected user, service or host", field="kind")
        if self.kind == "host" and not self.joins:
            raise BadRequest("a host joins with a join string and has no other token; set joins", field="joins")
        self._check_name()
        if self.kind == "host" and (self.roles or self.grants):
            raise BadRequest("a host has no roles and no grants: its certificate proves a name", field="roles")
        if self.kind != "host" and not (self.roles or self.grants):
            raise BadRequest(
                "neither a role nor a grant is given; expected one, such as the role 'viewer'", field="roles"
            )
        if len(self.roles) + len(self.grants) > _MOST_GRANTS:
            raise BadRequest(f"there are more than {_MOST_GRANTS} roles and grants", field="grants")
        longest = _LONGEST_JOIN if self.joins else _LONGEST_TOKEN
        if self.lifetime_seconds > longest:
            raise BadRequest(
                f"lifetime_seconds is {self.lifetime_seconds}, expected at most {longest} for a "
                f"{'join string' if self.joins else 'token'}",
                field="lifetime_seconds",
            )
        if self.uses and not self.joins:
            raise BadRequest("uses is given, and only a join string has uses", field="uses")
        if self.uses > _MOST_USES:
            raise BadRequest(f"uses is {self.uses}, expected at most {_MOST_USES}", field="uses")
        if self.instance_seconds > _LONGEST_INSTANCE:
            raise BadRequest(
                f"instance_seconds is {self.instance_seconds}, expected at most {_LONGEST_INSTANCE}",
                field="instance_seconds",
            )
        self._check_ids()

    def _check_ids(self) -> None:
        if self.ids and self.kind != "host":
            raise BadRequest("job ids are reserved for hosts only; leave ids empty", field="ids")
        if len(self.ids) > _MOST_IDS:
            raise BadRequest(f"ids has {len(self.ids)} entries, expected at most {_MOST_IDS}", field="ids")
        for each in self.ids:
            if not is_job_id(each.removesuffix("*")):
                raise BadRequest(
                    f"ids has {each[:80]!r}, expected a job id, or the beginning of ids and '*'", field="ids"
                )

    def _check_name(self) -> None:
        if self.kind == "host":
            check_host_name(self.name, "name")
            return
        if self.name in _RESERVED or self.name.startswith(("host:", "tok_")):
            raise BadRequest(f"the name {self.name[:80]!r} is reserved; choose another", field="name")
        if not _NAME.fullmatch(self.name):
            raise BadRequest(
                f"name is {self.name[:80]!r}, expected at most 64 lower-case letters, digits, '.', '_' or '-', "
                "beginning with a letter or digit",
                field="name",
            )

    @property
    def seconds(self) -> int:
        """The lifetime."""
        return self.lifetime_seconds or (JOIN_SECONDS if self.joins else TOKEN_SECONDS)

    @property
    def uses_left(self) -> int | None:
        """The uses of a join string; None for other tokens."""
        return (self.uses or 1) if self.joins else None

    def record(self, secret: str, *, at_us: int, created_by: str, joined_with: str) -> TokenRecord:
        """Return the new token of this order.

        :param at_us: now, in microseconds since 1970
        :param created_by: who ordered it
        :param joined_with: the join string that it is obtained with; empty for none
        """
        return TokenRecord(
            token_id=token_id_of(self.request),
            kind=self.kind,
            name=self.name,
            joins=self.joins,
            roles=tuple(map(str.strip, self.roles)),
            grants=tuple(map(str.strip, self.grants)),
            secret_hash=hash_of(secret),
            created_at_us=at_us,
            created_by=created_by,
            expires_at_us=at_us + self.seconds * 1_000_000,
            uses_left=self.uses_left,
            joined_with=joined_with,
            ids=self.ids,
            instance_seconds=self.instance_seconds,
            lifetime_seconds=self.seconds,
        )


def token_id_of(request: str) -> str:
    """Return the id of the token that a request makes: always the same one, and a random one if it is empty."""
    number = int.from_bytes(hashlib.sha256(request.encode()).digest() if request else secrets.token_bytes(32))
    base = len(_ID_ALPHABET)
    return "tok_" + "".join(_ID_ALPHABET[number // base**place % base] for place in range(_ID_LENGTH))


def successor_of(old: TokenRecord, request: str) -> TokenOrder:
    """Return the order for a token in place of an old one, with the lifetime that was ordered for that."""
    return TokenOrder(
        kind=old.kind,
        name=old.name,
        roles=old.roles,
        grants=old.grants,
        lifetime_seconds=old.lifetime_seconds or (old.expires_at_us - old.created_at_us) // 1_000_000,
        request=request,
    )


def with_secret_of(again: TokenRecord, made: TokenRecord) -> TokenRecord:
    """Return the token that a request has made, with the secret of the one that its repeat makes.

    :raises KernelError: if the repeat asks for another token, or the first one is no longer as it was made
    """
    later = again.created_at_us - made.created_at_us
    first = replace(
        again,
        secret_hash=made.secret_hash,
        created_at_us=made.created_at_us,
        expires_at_us=again.expires_at_us - later,
    )
    if first != made or made.expires_at_us <= again.created_at_us:
        raise KernelError(
            f"the request_id has made token {made.token_id}, which was asked for otherwise, or was used, withdrawn or "
            "has expired since; use a new request_id",
            reason="IDEMPOTENCY_KEY_REUSED",
            metadata={"token_id": made.token_id},
        )
    return replace(made, secret_hash=again.secret_hash)


def check_host_name(name: str, field: str) -> None:
    """Check the name of a host that may join.

    :raises BadRequest: if no host can have it
    """
    if not HOST_NAME.fullmatch(name):
        expected = "the name of a host: at most 64 lower-case letters, digits, '-' or '_'"
        raise BadRequest(f"{field} is {name[:80]!r}, expected {expected}", field=field)


def new_secret(*, joins: bool) -> str:
    """Return a new secret of 256 random bits: ``nft1.…`` for calls, without that beginning for a join string."""
    return ("" if joins else _PREFIX) + secrets.token_urlsafe(_SECRET_BYTES)


def hash_of(secret: str) -> str:
    """Return the SHA-256 of a secret, hexadecimal. Any text takes the same time: longer ones are cut; none matches."""
    return hashlib.sha256(secret[: len(_PREFIX) + _SECRET_LENGTH + 1].encode("utf-8", "replace")).hexdigest()


def secret_in(authorization: str) -> str:
    """Return the secret of an ``authorization`` header; a text that is not a secret if it has none."""
    scheme, _, secret = authorization.partition(" ")
    return secret if scheme.lower() == "bearer" and secret.startswith(_PREFIX) else ""
