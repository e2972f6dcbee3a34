"""Credentials: the tokens and certificates of a leading kernel, in memory, written through to the store.

A caller whose token is unknown, garbage, expired or revoked is nobody; all these cases take the same path.

A store that was restored from a backup may hold a withdrawn credential as good. So each withdrawal is also a line of a
file in the state directory, which no restore replaces, and :meth:`Credentials.start` withdraws its credentials again.
Tokens and certificates that are younger than the backup are unknown afterwards: their holders join again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from nomaflow_kernel.access.credential_ends import credentials_meant, ended, forgotten, hosts_shut_out, is_good
from nomaflow_kernel.access.grants import Grant, grants_of_role
from nomaflow_kernel.access.principals import ANYONE, NotAuthenticated, Principal, PrincipalKind
from nomaflow_kernel.access.reserved_ids import ReservedIds
from nomaflow_kernel.access.token_orders import (
    TokenOrder,
    UnknownCredential,
    hash_of,
    new_secret,
    secret_in,
    successor_of,
    token_id_of,
    with_secret_of,
)
from nomaflow_kernel.access.withdrawals_file import WithdrawnFile
from nomaflow_kernel.domain.clock import Clock
from nomaflow_kernel.domain.errors import BadRequest, FileUnusable, KernelError
from nomaflow_kernel.history.access_records import CertificateRecord, TokenRecord
from nomaflow_kernel.store.sql_store import Store
from nomaflow_project.models.roles import GrantError

_LOG = logging.getLogger(__name__)
_SECOND = 1_000_000
_MINUTE = 60 * _SECOND
_LONGEST_OVERLAP = 30 * 86_400


@dataclass(slots=True)
class _Held:
    """A token in memory, with the principal that it stands for."""

    record: TokenRecord
    principal: Principal


class Credentials:
    """The tokens and certificates of the leading kernel, which alone changes them, one change at a time.

    Each change is stored before it holds, except a withdrawal: that holds even if it cannot be stored.

    :param roles: the roles of the configuration → their grants as texts
    :param withdrawn: the file that remembers withdrawals beside the store
    :ivar reserved: the job ids that are reserved for hosts
    """

    def __init__(self, *, store: Store, clock: Clock, roles: Mapping[str, Sequence[str]], withdrawn: Path) -> None:
        self._store = store
        self._clock = clock
        self._roles = roles
        self._withdrawn = WithdrawnFile(withdrawn)
        self._tokens: dict[str, _Held] = {}
        self._by_hash: dict[str, _Held] = {}
        self._certificates: dict[str, CertificateRecord] = {}
        self.reserved = ReservedIds(clock)
        self._changing = asyncio.Lock()
        self._used: set[str] = set()
        self._noting: asyncio.Task[None] | None = None

    async def start(self) -> set[str]:
        """Read tokens and certificates, and withdraw again those that a restored store holds as good.

        :return: the hosts that this shuts out
        :raises StoreError: if they cannot be read or withdrawn
        :raises FileUnusable: if the file of withdrawals cannot be read
        """
        for token in await self._store.tokens():
            self._hold(token)
        self._certificates = {each.serial: each for each in await self._store.certificates()}
        self.reserved.read(self.tokens(), self.certificates())
        ends = self._withdrawn.read()
        tokens = [each for each in self.tokens() if each.token_id in ends and each.revoked_at_us is None]
        tokens = [ended(each, ends[each.token_id]) for each in tokens]
        tokens = [each for each in tokens if each != self._tokens[each.token_id].record]
        certificates = [
            replace(each, revoked_at_us=ends[each.serial])
            for each in self._certificates.values()
            if each.serial in ends and each.revoked_at_us is None
        ]
        if tokens or certificates:
            self._hold_withdrawn(tokens, certificates)
            await self._store_withdrawn(tokens, certificates)
            names = [*(each.token_id for each in tokens), *(each.serial for each in certificates)]
            _LOG.warning("withdrawn again, since the store held them as good, as after a restore: %s", ", ".join(names))
        return hosts_shut_out(certificates, self.certificates(), now_us=self._clock.now_us())

    async def stop(self) -> None:
        """Wait until the last uses are stored, as far as the store takes them."""
        if self._noting is not None:
            await asyncio.wait((self._noting,))

    # --- who calls ------------------------------------------------------------------------------------------------

    def of_token(self, authorization: str) -> Principal:
        """Return the principal of a call's ``authorization`` metadata; ``ANYONE`` for anything that is not good."""
        held = self._by_hash.get(hash_of(secret_in(authorization)))
        if held is None or held.record.joins or not self._is_good(held.record):
            return ANYONE
        self._note_use(held)
        return held.principal

    def of_certificate(self, *, host: str, serial: str) -> Principal:
        """Return the host that a verified certificate names; ``ANYONE`` if it is withdrawn or was never issued."""
        record = self._certificates.get(serial.lower())
        if record is None or record.host != host or not self._is_good(record):
            return ANYONE
        instance = record.token_id if record.instance else ""
        return Principal(kind=PrincipalKind.HOST, name=host, credential=record.serial, instance=instance)

    def _is_good(self, record: TokenRecord | CertificateRecord) -> bool:
        return is_good(record, self._clock.now_us())

    def _note_use(self, held: _Held) -> None:
        """Note a use, unless one of the last minute is noted; it is stored later, together with those of others."""
        now, noted = self._clock.now_us(), held.record.last_used_at_us
        if noted is None or not noted <= now < noted + _MINUTE:
            held.record = replace(held.record, last_used_at_us=now)
            self._used.add(held.record.token_id)
            if self._noting is None or self._noting.done():
                self._noting = asyncio.get_running_loop().create_task(self._store_uses(), name="token-uses")

    async def _store_uses(self) -> None:
        while self._used:
            async with self._changing:
                names, self._used = self._used, set()
                try:
                    await self._store.keep_tokens([self._tokens[name].record for name in names])
                except KernelError as error:
                    _LOG.debug("the last use of %d tokens could not be stored: %s", len(names), error)

    # --- lists ----------------------------------------------------------------------------------------------------

    def tokens(self) -> Sequence[TokenRecord]:
        """Return every token, in the order in which they were made."""
        return [held.record for held in self._tokens.values()]

    def certificates(self) -> Sequence[CertificateRecord]:
        """Return every certificate, in the order in which they were issued."""
        return list(self._certificates.values())

    def grants_of(self, roles: Iterable[str], grants: Iterable[str]) -> tuple[Grant, ...]:
        """Return the grants of roles together with further grants, each once.

        :raises BadRequest: if one of them cannot be read
        """
        field = "roles"
        try:
            found = [grant for role in roles for grant in grants_of_role(role, self._roles)]
            field = "grants"
            found += map(Grant.parse, grants)
        except GrantError as error:
            raise BadRequest(str(error), field=field) from None
        return tuple(dict.fromkeys(found))

    def given_by(self, record: TokenRecord) -> tuple[Grant, ...]:
        """Return the grants of a token, those of its roles included; none if they can no longer be read."""
        return self._tokens[record.token_id].principal.grants

    # --- changes --------------------------------------------------------------------------------------------------

    async def create(self, order: TokenOrder, *, created_by: str, joined_with: str = "") -> tuple[TokenRecord, str]:
        """Make a token, or a new secret for one whose request is repeated; return it and its secret.

        :param joined_with: the join string that it is made for; empty for none
        :raises BadRequest: if the order breaks a rule, or a principal of another kind has the name
        :raises NotAuthenticated: if that string was withdrawn meanwhile
        :raises KernelError: if the request has made another token, or one that is no longer as it was made
        """
        order.check()
        self.grants_of(order.roles, order.grants)
        async with self._changing:
            if joined_with and self._tokens[joined_with].record.revoked_at_us is not None:
                raise NotAuthenticated
            self._check_kind(order)
            self._check_ids(order)
            return await self._made(order, created_by=created_by, joined_with=joined_with)

    def join_of(self, secret: str) -> TokenRecord:
        """Return the token of a join string's secret, which must have a use left; this call does not use it up.

        :raises NotAuthenticated: if it is unknown, used up, expired or revoked
        """
        held = self._by_hash.get(hash_of(secret))
        if held is None or not held.record.joins or not self._is_good(held.record) or not held.record.uses_left:
            raise NotAuthenticated
        return held.record

    async def use_join(self, secret: str) -> TokenRecord:
        """Use the secret of a join string once; return its token.

        :raises NotAuthenticated: if it is unknown, used up, expired or revoked
        """
        async with self._changing:
            join = self.join_of(secret)
            used = replace(join, uses_left=(join.uses_left or 1) - 1, last_used_at_us=self._clock.now_us())
            await self._store.keep_tokens((used,))
            self._hold(used)
            if not used.uses_left:
                await self._remember_end(used, self._clock.now_us())
            return used

    async def exchange(self, join: TokenRecord) -> tuple[TokenRecord, str]:
        """Make the token of a user or service that has used a join string; return it and its secret."""
        order = TokenOrder(kind=join.kind, name=join.name, roles=join.roles, grants=join.grants)
        return await self.create(order, created_by=join.created_by, joined_with=join.token_id)

    async def rotate(
        self, target: str, *, overlap_seconds: int, created_by: str, request: str = ""
    ) -> tuple[TokenRecord, str]:
        """Make a new token in place of another, with the same lifetime; return it and its secret.

        :param target: the token's id, or the name of a user or service that has one good token
        :param overlap_seconds: how long the old secret still works
        :param request: the call that a repeat repeats, as in an order, one for each token; empty for none
        :raises BadRequest: if it is a join string, no longer good, or one of several
        :raises UnknownCredential: if nothing has the name
        """
        if overlap_seconds > _LONGEST_OVERLAP:
            raise BadRequest(
                f"overlap_seconds is {overlap_seconds}, expected at most {_LONGEST_OVERLAP}", field="overlap_seconds"
            )
        async with self._changing:
            old = self.to_rotate(target, request)
            order = successor_of(old, request)
            if request and old.token_id == token_id_of(request):
                return await self._made(order, created_by=created_by)
            ending = ended(old, self._clock.now_us() + overlap_seconds * _SECOND)
            made = await self._made(order, created_by=created_by, along=(ending,))
            await self._remember_end(old, ending.expires_at_us)
            return made

    def to_rotate(self, target: str, request: str) -> TokenRecord:
        """Return the token that a rotation replaces, or, for a repeat, the one that it has made; see :meth:`rotate`."""
        found = [each for each in self.tokens() if target in (each.token_id, each.name) and each.kind != "host"]
        if not found:
            raise UnknownCredential(target)
        if request and (made := self._tokens.get(token_id_of(request))) is not None:
            return made.record
        good = [each for each in found if self._is_good(each) and not each.joins]
        if len(good) != 1:
            names = ", ".join(each.token_id for each in good)
            problem = f"there are several: {names}; give the id of one" if good else "no good token has that name"
            raise BadRequest(f"token_id is {target[:80]!r}, and {problem}", field="token_id")
        return good[0]

    async def keep_certificate(self, record: CertificateRecord, *, renews: str = "") -> None:
        """Keep a certificate that the authority has issued; it is good once this returns.

        :param renews: serial of the certificate that it follows; empty for none
        :raises NotAuthenticated: if what it was issued for was withdrawn meanwhile
        """
        async with self._changing:
            before, join = self._certificates.get(renews.lower()), self._tokens.get(record.token_id)
            revoked = before.revoked_at_us if before is not None else join.record.revoked_at_us if join else None
            if revoked is not None:
                raise NotAuthenticated
            kept = replace(record, serial=record.serial.lower(), line=record.serial.lower())
            if before is not None:
                kept = replace(kept, token_id=before.token_id, line=before.line, ids=before.ids)
            elif join is not None:
                kept = replace(kept, ids=join.record.ids, instance=join.record.instance_seconds > 0)
            await self._store.keep_certificates((kept,))
            self._certificates[kept.serial] = kept
            if kept.ids:
                self.reserved.read(self.tokens(), self.certificates())

    async def revoke(self, target: str) -> tuple[list[str], list[str]]:
        """Withdraw credentials and what was obtained with them; return the ids and serials not withdrawn before.

        Those that were withdrawn before are kept once more: that may have failed.

        :param target: what to withdraw, as in :func:`credentials_meant`
        :raises UnknownCredential: if nothing has the name
        :raises FileUnusable: if they are withdrawn, but a restored backup would know them as good
        """
        async with self._changing:
            named, lines = credentials_meant(target, self.tokens(), self.certificates())
            if not named and not lines:
                raise UnknownCredential(target)
            now = self._clock.now_us()
            token_ids = [each.token_id for each in named if each.revoked_at_us is None]
            serials = [each.serial for each in lines if each.revoked_at_us is None]
            tokens = [replace(each, revoked_at_us=each.revoked_at_us or now) for each in named]
            certificates = [replace(each, revoked_at_us=each.revoked_at_us or now) for each in lines]
            ends = {each.token_id: each.expires_at_us for each in tokens}
            ends |= {each.serial: each.expires_at_us for each in certificates}
            self._hold_withdrawn(tokens, certificates)
            try:
                await asyncio.to_thread(self._withdrawn.add, ends, now)
            finally:
                await self._store_withdrawn(tokens, certificates)
        return token_ids, serials

    async def prune(self) -> int:
        """Forget tokens and certificates that ended long ago, and return their number. The audit still names them.

        :raises StoreError: if they cannot be deleted; they are still known then
        """
        now = self._clock.now_us()
        async with self._changing:
            tokens, serials = forgotten(self.tokens(), self.certificates(), now_us=now)
            if tokens or serials:
                await self._store.remove_credentials([each.token_id for each in tokens], serials)
            for token in tokens:
                del self._tokens[token.token_id], self._by_hash[token.secret_hash]
                self._used.discard(token.token_id)
            for serial in serials:
                del self._certificates[serial]
            with contextlib.suppress(OSError):  # the next withdrawal reports it
                await asyncio.to_thread(self._withdrawn.drop, now)
        return len(tokens) + len(serials)

    def _hold_withdrawn(self, tokens: Sequence[TokenRecord], certificates: Sequence[CertificateRecord]) -> None:
        for token in tokens:
            self._hold(token)
        self._certificates.update((each.serial, each) for each in certificates)
        self.reserved.read(self.tokens(), self.certificates())

    async def _store_withdrawn(self, tokens: Sequence[TokenRecord], certificates: Sequence[CertificateRecord]) -> None:
        if tokens:
            await self._store.keep_tokens(tokens)
        if certificates:
            await self._store.keep_certificates(certificates)

    async def _remember_end(self, token: TokenRecord, at_us: int) -> None:
        """Remember the end of a token that was exchanged; a failure is logged: it must not cost the caller the new one.

        :param at_us: when it ends
        """
        try:
            await asyncio.to_thread(self._withdrawn.add, {token.token_id: token.expires_at_us}, at_us)
        except FileUnusable as error:
            _LOG.error("token %s: %s", token.token_id, error)

    async def _made(
        self, order: TokenOrder, *, created_by: str, joined_with: str = "", along: Sequence[TokenRecord] = ()
    ) -> tuple[TokenRecord, str]:
        """Store a new token, and changes to others in the same commit."""
        secret, now = new_secret(joins=order.joins), self._clock.now_us()
        record = order.record(secret, at_us=now, created_by=created_by, joined_with=joined_with)
        if (made := self._tokens.get(record.token_id)) is not None:
            record = with_secret_of(record, made.record)
        await self._store.keep_tokens((record, *along))
        for each in (record, *along):
            self._hold(each)
        if record.ids:
            self.reserved.read(self.tokens(), self.certificates())
        return record, secret

    def _check_kind(self, order: TokenOrder) -> None:
        """Check that no principal can be mistaken for another. A host's name is told as such: ``host:NAME``."""
        if order.kind == "host":  # launchers order many: each must cost the same, however many there are
            return
        for each in self.tokens():
            if each.name == order.name and each.kind not in (order.kind, "host") and self._is_good(each):
                raise BadRequest(
                    f"the name {order.name!r} is that of a {each.kind}; choose another or revoke it first", field="name"
                )

    def _check_ids(self, order: TokenOrder) -> None:
        for reserved in order.ids:
            if (taken := self.reserved.taken(reserved, order.name)) is not None:
                raise BadRequest(
                    f"ids has {reserved!r}, and {taken[1]!r} is reserved for host {taken[0]!r}", field="ids"
                )

    def _hold(self, record: TokenRecord) -> None:
        try:
            grants = self.grants_of(record.roles, record.grants)
        except BadRequest as error:
            _LOG.error("token %s of %r grants nothing: %s", record.token_id, record.name, error)
            grants = ()
        kind, name = PrincipalKind(record.kind), record.name
        principal = Principal(kind=kind, name=name, grants=grants, credential=record.token_id, roles=record.roles)
        if (before := self._tokens.get(record.token_id)) is not None:
            del self._by_hash[before.record.secret_hash]
        self._tokens[record.token_id] = self._by_hash[record.secret_hash] = _Held(record, principal)
