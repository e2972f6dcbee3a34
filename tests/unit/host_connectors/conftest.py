"""A connectors.toml for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nomaflow_project.connectors.connector_set import ConnectorSet
from nomaflow_project.connectors.reading import read_connectors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., ConnectorSet]:
    """Return a function that writes a connectors.toml and reads it."""

    def write_and_read(text: str, environ: dict[str, str] | None = None, mode: int = 0o600) -> ConnectorSet:
        file = tmp_path / "connectors.toml"
        file.write_text(text)
        file.chmod(mode)
        return read_connectors(file, environ or {})

    return write_and_read
