"""Stored records of access: tokens, certificates and the audit."""

from __future__ import annotations

from msgspec import Struct


class TokenTerms(Struct, frozen=True, kw_only=True):
    """The terms of a token: whom it is for, and what it lets them do.

    :param kind: ``user``, ``service`` or ``host``
    :param joins: whether it is the secret of a join string; a host's always is
    :param roles: as given: ``ROLE`` or ``ROLE SCOPE``
    :param grants: ``VERB SCOPE`` each, without those of the roles
    :param ids: of a host: the job ids that are reserved for it, ``ID`` or ``PREFIX*`` each
    :param instance_seconds: for a join string for one instance of a host: how long that instance's certificate lasts;
      else 0
    """

    kind: str
    name: str
    joins: bool = False
    roles: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    instance_seconds: int = 0


class TokenRecord(TokenTerms, frozen=True, kw_only=True):
    """A token: a call's credential, or the secret of a join string. Times in microseconds since 1970.

    :param secret_hash: SHA-256 of the secret, hexadecimal
    :param uses_left: how often a join string can still be used; None for other tokens
    :param joined_with: the join string that it was obtained with; empty for one that an administrator was given
    :param lifetime_seconds: how long it was ordered for, whenever it ends now; None for one of before revision 0009
    """

    token_id: str
    secret_hash: str
    created_at_us: int
    created_by: str
    expires_at_us: int
    uses_left: int | None = None
    last_used_at_us: int | None = None
    revoked_at_us: int | None = None
    joined_with: str = ""
    lifetime_seconds: int | None = None


class CertificateRecord(Struct, frozen=True, kw_only=True):
    """A certificate that the authority issued to a host. Times in microseconds since 1970.

    :param serial: hexadecimal
    :param issued_to: the peer's address
    :param token_id: the join string that it, or the first of its line, was issued for
    :param line: serial of the first certificate, which this one renews directly or through others
    :param ids: the job ids that are reserved for the host, ``ID`` or ``PREFIX*`` each
    :param instance: whether it is for one instance alone, whose name is ``token_id``, and is not renewed
    """

    serial: str
    host: str
    issued_at_us: int
    expires_at_us: int
    issued_to: str
    token_id: str
    revoked_at_us: int | None = None
    line: str = ""
    ids: tuple[str, ...] = ()
    instance: bool = False


class AuditRecord(Struct, frozen=True, kw_only=True):
    """A row of the audit, before the store has numbered and chained it.

    :param principal: who did it
    :param address: the peer
    :param action: the rpc's name
    :param target: what it was done to
    :param outcome: ``ok``, or the reason of the refusal
    :param note: what the caller said about it
    :param correlation: the run, the error id or the trace that it belongs to
    :param count: how many similar ones the row stands for
    :param seq: rises by one from row to row; 0 before it is stored
    :param hash: SHA-256 over the hash before and this row, hexadecimal; empty before it is stored
    """

    at_us: int
    principal: str
    address: str
    action: str
    target: str
    outcome: str
    note: str = ""
    correlation: str = ""
    count: int = 1
    seq: int = 0
    hash: str = ""


class AuditFilter(Struct, frozen=True, kw_only=True):
    """A filter of audit rows; empty fields match all."""

    principal: str = ""
    action: str = ""
    refused: bool = False
    since_us: int | None = None


class AuditEnds(Struct, frozen=True, kw_only=True):
    """Both ends of the audit's chain.

    :param seq: the newest row; 0 if there never was one
    :param hash: its hash: the anchor of the chain
    :param pruned_seq: the newest row that retention has removed, 0 for none
    :param pruned_hash: its hash, on which the oldest row that is kept builds
    """

    seq: int
    hash: str
    pruned_seq: int
    pruned_hash: str


class AuditVerdict(Struct, frozen=True, kw_only=True):
    """The result of computing the audit's chain again.

    :param rows: how many rows were checked
    :param last_hash: the newest row's hash: the anchor
    :param bad_seq: the first row that does not fit; 0 if all do
    :param problem: what is wrong with it
    """

    rows: int
    first_seq: int
    last_seq: int
    last_hash: str
    bad_seq: int = 0
    problem: str = ""
