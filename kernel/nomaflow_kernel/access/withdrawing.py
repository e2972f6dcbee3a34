"""The end of credentials: when it was, and what a withdrawal takes."""

from __future__ import annotations

from collections.abc import Iterable

from nomaflow_kernel.history.access_records import CertificateRecord, TokenRecord

__all__ = ["credentials_meant", "ended_at_us"]


def credentials_meant(
    target: str, tokens: Iterable[TokenRecord], certificates: Iterable[CertificateRecord]
) -> tuple[list[TokenRecord], list[CertificateRecord]]:
    """Return the tokens and certificates that a name stands for, withdrawn ones too; none if nothing has the name.

    Whoever had a join string has what was got with it, and whoever had a certificate may have renewed it, in secret. So
    a join string stands for the tokens and certificates that were got with it too, and a serial for every certificate
    of its line. A rotated token is none of these: an administrator has handed out the new one.

    :param target: a token's id, a certificate's serial, the name of a user or service, or ``host:NAME``
    """
    held = list(certificates)
    # Serials are kept as numbers; other programs print whole bytes, often in upper case.
    serial = target.lower().lstrip("0")
    lines = {each.line for each in held if each.serial == serial}
    return (
        [each for each in tokens if target and target in (each.token_id, each.joined_with, _principal_name(each))],
        [each for each in held if each.line in lines or (target and target in (each.token_id, f"host:{each.host}"))],
    )


def ended_at_us(record: TokenRecord | CertificateRecord) -> int:
    """Return when a credential ends or has ended: at its time, withdrawn, or, for a join string, used up."""
    ends = [record.expires_at_us]
    if record.revoked_at_us is not None:
        ends.append(record.revoked_at_us)
    if isinstance(record, TokenRecord) and record.uses_left == 0 and record.last_used_at_us is not None:
        ends.append(record.last_used_at_us)
    return min(ends)


def _principal_name(record: TokenRecord) -> str:
    return f"host:{record.name}" if record.kind == "host" else record.name
