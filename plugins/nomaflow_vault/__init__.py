"""Secrets of a HashiCorp-style vault: ``${vault:MOUNT/PATH#FIELD}`` is a field of a secret in its KV store, version 2.

The variables are those of the vault's own tools, see `nomaflow_vault.settings`. Nothing is imported before the first
reference is resolved.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nomaflow import hookimpl

if TYPE_CHECKING:
    from nomaflow.calls import SecretReader

__all__ = ["nomaflow_secrets"]


@hookimpl
def nomaflow_secrets(environ: Mapping[str, str]) -> Mapping[str, SecretReader]:
    """Return the reader of ``vault:``."""

    @functools.cache
    def vault() -> SecretReader:
        from nomaflow_vault.client import Vault
        from nomaflow_vault.settings import VaultSettings

        return Vault(VaultSettings.of(environ)).read

    return {"vault": lambda reference: vault()(reference)}
