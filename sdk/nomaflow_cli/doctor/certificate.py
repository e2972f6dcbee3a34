"""Findings about the kernel's certificate: whether a kernel can start with it, and when it expires."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from nomaflow_cli.doctor.findings import Finding, fine, problem, warning
from nomaflow_cli.errors import CliError
from nomaflow_cli.store_tool import run_store_tool

__all__ = ["examine_certificate"]


def examine_certificate(project: Path) -> Iterator[Finding]:
    """Yield the findings about the certificate; none if the settings name no certificate."""
    try:
        seen = run_store_tool("certificate", project=project)
    except CliError:
        return  # the check of the store reports unreadable settings
    if seen["refused"]:
        message, _, fix = seen["refused"].rpartition("; ")
        yield problem("kernel.certificate", message or fix, fix if message else "name two PEM files of one pair")
    elif seen["path"]:
        until = datetime.fromtimestamp(seen["expires_at"], UTC)
        days = (until - datetime.now(UTC)).days
        text = (
            f"the certificate for {', '.join(seen['names']) or 'no name'} is valid until {until:%Y-%m-%d}, {days} days"
        )
        if seen["expires_soon"]:
            yield warning(
                "kernel.certificate", text, f"renew {seen['path']!r}; a running kernel loads the new one by itself"
            )
        else:
            yield fine("kernel.certificate", text)
