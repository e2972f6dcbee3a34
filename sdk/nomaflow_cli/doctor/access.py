"""Findings about who may do what at a kernel: one line for each user, service and host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from nomaflow.client.values import CertificateView, TokenView
from nomaflow_cli.doctor.findings import Finding, fine, warning
from nomaflow_cli.formatting import age, count

_SOON = timedelta(days=7)
_UNUSED = timedelta(days=60)


def examine_access(
    tokens: Sequence[TokenView], certificates: Sequence[CertificateView], *, now: datetime
) -> Iterator[Finding]:
    """Yield the owner, then every user, service and host with good credentials, and what is weaker than it could be.

    Those of single instances, which a launcher has made, are counted: there may be thousands.
    """
    yield fine("access.owner", "the owner, who may enter the folder of the Unix socket: everything")
    waiting = Counter(token.name for token in tokens if token.instance_seconds)
    joined = Counter(each.host for each in certificates if each.instance)
    for token in tokens:
        if not token.instance_seconds:
            yield from _token(token, tokens, now)
    for host in sorted(waiting | joined):
        text = f"{count(joined[host], 'certificate')}, {count(waiting[host], 'unused join string')}"
        yield fine("access.instances", f"single instances of host {host}, as a launcher starts them: {text}")
    hosts: dict[str, list[CertificateView]] = {}
    for each in certificates:
        if not each.instance:
            hosts.setdefault(each.host, []).append(each)
    for host, those in sorted(hosts.items()):
        until = max((each.expires_at for each in those if each.expires_at is not None), default=None)
        serials = ", ".join(each.serial for each in those)
        yield fine(
            "access.host", f"host {host}: runs the steps of its own jobs; {_until(until)} (certificate {serials})"
        )


def _token(token: TokenView, tokens: Sequence[TokenView], now: datetime) -> Iterator[Finding]:
    who = f"{token.kind} {token.name}"
    if token.joins:
        left = "" if token.uses_left is None else f", {count(token.uses_left, 'use')} left"
        yield fine(
            "access.joining",
            f"whoever holds the join string {token.token_id}{left}: becomes {who}; {_until(token.expires_at)}",
        )
        return
    grants = ", ".join(token.grants) or "nothing"
    used = f"last used {age(token.last_used_at, now=now)}" if token.last_used_at else "never used"
    text = f"{who}: {grants}; {_until(token.expires_at)}, {used} (token {token.token_id})"
    idle = token.last_used_at or token.created_at
    if _ends_soon(token, now):
        lasting = (each.token_id for each in tokens if _replaces(each, token) and not _ends_soon(each, now))
        newer = next(lasting, None)
        fix = f"use {newer} instead, which may do the same" if newer else f"nomaflow token rotate {token.token_id}"
        yield warning("access.ending", text, fix)
    elif idle is not None and now - idle > _UNUSED:
        yield warning("access.unused", text, f"nomaflow token revoke {token.token_id}, if nobody needs it")
    else:
        yield fine(f"access.{token.kind}", text)


def _ends_soon(token: TokenView, now: datetime) -> bool:
    return token.expires_at is not None and token.expires_at - now < _SOON


def _replaces(token: TokenView, other: TokenView) -> bool:
    """Return whether a token may do for its holder what another one may, as after a rotation."""
    return not token.joins and (token.kind, token.name, token.grants) == (other.kind, other.name, other.grants)


def _until(at: datetime | None) -> str:
    return "without an end" if at is None else f"until {at:%Y-%m-%d}"
