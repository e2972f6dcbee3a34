"""The page about the kernel's authority and certificate."""

from __future__ import annotations

from rich.console import RenderableType

from nomaflow.client.values import AuthorityView
from nomaflow_cli.pages.cells import facts

__all__ = ["authority_page"]


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
