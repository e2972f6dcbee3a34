"""The end of credentials: when they end, and which of them a withdrawal covers."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from nomaflow_kernel.history.access_records import CertificateRecord, TokenRecord

_DAY_US = 86_400 * 1_000_000
_KEPT_US, _INSTANCE_KEPT_US = 90 * _DAY_US, _DAY_US


def credentials_meant(
    target: str, tokens: Iterable[TokenRecord], certificates: Iterable[CertificateRecord]
) -> tuple[list[TokenRecord], list[CertificateRecord]]:
    """Return the tokens and certificates that a name stands for, withdrawn ones too; none if nothing has the name.

    Whoever had a join string has what was obtained with it, and whoever had a certificate may have renewed it, in
    secret. So a join string stands for the tokens and certificates that were obtained with it too, and a serial for
    every certificate of its line. A rotated token does not count: an administrator has handed out the new one.

    :param target: a token's id, a certificate's serial, the name of a user or service, ``host:NAME``, or
        ``host:NAME/TOKEN_ID`` for one instance
    """
    held = list(certificates)
    # Serials are kept as numbers; other programs print whole bytes, often in upper case.
    serial = target.lower().lstrip("0")
    lines = {each.line for each in held if each.serial == serial}
    return (
        [each for each in tokens if target and target in (each.token_id, each.joined_with, *_token_names(each))],
        [each for each in held if each.line in lines or (target and target in _names(each))],
    )


def is_good(record: TokenRecord | CertificateRecord, now_us: int) -> bool:
    """Return whether a credential has neither been withdrawn nor expired."""
    return record.revoked_at_us is None and now_us < record.expires_at_us


def hosts_shut_out(
    withdrawn: Iterable[CertificateRecord], certificates: Iterable[CertificateRecord], *, now_us: int
) -> set[str]:
    """Return the hosts of withdrawn certificates that have no good one left.

    The withdrawal of a certificate for a single instance shuts out that instance, and not its host.
    """
    good = {each.host for each in certificates if is_good(each, now_us)}
    return {each.host for each in withdrawn if each.revoked_at_us is not None and not each.instance} - good


def forgotten(
    tokens: Iterable[TokenRecord], certificates: Iterable[CertificateRecord], *, now_us: int
) -> tuple[list[TokenRecord], list[str]]:
    """Return the tokens, and the serials of certificates, that ended so long ago that nobody lists them now.

    Those of single instances are many, and are forgotten a day after their end. The audit still names them.
    """
    return (
        [each for each in tokens if ended_at_us(each) + _kept_us(bool(each.instance_seconds)) < now_us],
        [each.serial for each in certificates if ended_at_us(each) + _kept_us(each.instance) < now_us],
    )


def ended(record: TokenRecord, at_us: int) -> TokenRecord:
    """Return a token that ends no later than ``at_us``; a join string ends at once."""
    if record.joins:
        return replace(record, uses_left=0)
    return replace(record, expires_at_us=min(record.expires_at_us, at_us))


def ended_at_us(record: TokenRecord | CertificateRecord) -> int:
    """Return when a credential ends or ended: by expiry, by withdrawal, or, for a join string, by its last use."""
    ends = [record.expires_at_us]
    if record.revoked_at_us is not None:
        ends.append(record.revoked_at_us)
    if isinstance(record, TokenRecord) and record.uses_left == 0 and record.last_used_at_us is not None:
        ends.append(record.last_used_at_us)
    return min(ends)


def _kept_us(of_instance: bool) -> int:  # noqa: FBT001  # its one argument
    return _INSTANCE_KEPT_US if of_instance else _KEPT_US


def _token_names(record: TokenRecord) -> tuple[str, ...]:
    if record.kind != "host":
        return (record.name,)
    return (f"host:{record.name}", *((f"host:{record.name}/{record.token_id}",) if record.instance_seconds else ()))


def _names(record: CertificateRecord) -> tuple[str, ...]:
    """Return the names that a certificate can be withdrawn by, besides those of its line."""
    host = f"host:{record.host}"
    return (record.token_id, host, f"{host}/{record.token_id}") if record.instance else (record.token_id, host)
