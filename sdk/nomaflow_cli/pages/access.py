"""Pages about tokens, certificates and the kernel's authority."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from nomaflow.client.values import AuthorityView, CertificateView, IssuedToken, TokenView, WithdrawnView
from nomaflow_cli.formatting import age, count
from nomaflow_cli.pages.cells import Column, Rows, facts, when
from nomaflow_cli.wrapping import Hanging
from nomaflow_telemetry.visible_text import printable


def tokens_page(
    tokens: Sequence[TokenView], certificates: Sequence[CertificateView], *, nothing: str = ""
) -> RenderableType:
    """Return tokens, then the certificates of hosts.

    :param nothing: the text if there are none, for a list that is narrowed down
    """
    parts: list[RenderableType] = []
    if tokens:
        parts.append(Rows(_TOKEN_COLUMNS, tokens))
    if certificates:
        parts += [Text("")] if parts else []
        parts.append(Rows(_CERTIFICATE_COLUMNS, certificates))
    told = nothing or "there are none; make one with: nomaflow token create"
    return Group(*parts) if parts else Hanging(Text(told))


def issued_page(issued: IssuedToken) -> RenderableType:
    """Return what was made, for the person who reads the secret beside it."""
    token = issued.token
    uses = f", {count(token.uses_left, 'use')}" if token.uses_left is not None else ""
    return facts(
        ("token", f"{token.token_id}, {'a join string ' if token.joins else ''}for {token.kind} {token.name}"),
        ("may", _grants(token.grants)),
        ("job ids", f"{', '.join(token.ids)}, which no other host can claim" if token.ids else ""),
        ("until", Text.assemble(when(token.expires_at), uses)),
        ("secret", "printed this once; the kernel keeps only a hash of it"),
        ("use", _use(token)),
    )


def withdrawn_text(target: str, found: WithdrawnView) -> str:
    """Return what a withdrawal has ended, and of that what was not named."""
    ended = (*found.token_ids, *found.serials)
    named = [one for one in ended if one in (target, target.lower().lstrip("0"))]
    others = [one for one in ended if one not in named]
    if not ended:
        return f"{target!r} had been withdrawn before"
    if not others:
        return f"withdrew {printable(', '.join(named))}"
    got = target.startswith("tok_") or bool(named)  # a token's id or a serial; else a principal, all of whose are named
    if not got:
        return f"withdrew {printable(', '.join(others))}"
    what = "got with it" if target.startswith("tok_") else "of the same line of renewals"
    first = f"{printable(named[0])}, and " if named else ""
    return f"withdrew {first}{printable(', '.join(others))}, {what}"


def authority_page(found: AuthorityView) -> RenderableType:
    """Return the authority with its fingerprint, and the certificate that clients see."""
    whose = "of the kernel's own authority" if found.own else "given in tls_cert; hosts see the kernel's own"
    older = found.authorities_pem.count("BEGIN CERTIFICATE") - 1
    return facts(
        ("authority", found.fingerprint),
        ("", f"until {found.authority_expires_at:%Y-%m-%d}"),
        ("", f"{older} older still trusted" if older else ""),
        ("certificate", whose),
        ("", f"for {', '.join(found.certificate_names)}"),
        ("", f"until {found.certificate_expires_at:%Y-%m-%d}"),
    )


def _use(token: TokenView) -> str:
    if token.kind == "host":
        return "save it in a file that only the host's user can read, then there: nomaflow host DIR --join FILE"
    if token.joins:
        return "save it in a file that only that user can read, then there: nomaflow login FILE"
    return "give it to commands as NOMAFLOW_TOKEN, or in a file with --token-file"


def _state(one: TokenView | CertificateView) -> Text:
    return Text(one.state, style="green" if one.state == "good" else "dim")


def _may(token: TokenView) -> Text:
    if token.kind == "host":
        ids = f", and bring jobs {', '.join(token.ids)}" if token.ids else ""
        return Text(printable(f"attach as that host{ids}"), style="dim")
    return Text(printable(("get a token that may: " if token.joins else "") + _grants(token.grants)))


def _grants(grants: Sequence[str]) -> str:
    """Return grants by scope: ``read, logs job:a.*; cancel *``."""
    verbs: dict[str, list[str]] = {}
    for grant in grants:
        verb, _, scope = grant.partition(" ")
        verbs.setdefault(scope, []).append(verb)
    return "; ".join(f"{', '.join(found)} {scope}" for scope, found in verbs.items())


_TOKEN_COLUMNS: Sequence[Column[TokenView]] = (
    Column("token", lambda one: printable(one.token_id)),
    Column(
        "for",
        lambda one: f"{'one instance of ' if one.instance_seconds else ''}{one.kind} {printable(one.name)}",
        folds=True,
    ),
    Column("state", _state),
    Column("until", lambda one: when(one.expires_at)),
    Column("last used", lambda one: age(one.last_used_at) or "never", from_width=90),
    Column("may", _may, loose=True, from_width=70),
)
_CERTIFICATE_COLUMNS: Sequence[Column[CertificateView]] = (
    Column("certificate", lambda one: printable(one.serial)),
    Column(
        "for",
        lambda one: printable(f"host {one.host}/{one.token_id}" if one.instance else f"host {one.host}"),
        folds=True,
    ),
    Column("state", _state),
    Column("until", lambda one: when(one.expires_at)),
    Column("given to", lambda one: printable(one.issued_to), loose=True, from_width=110),
)
