"""A file of incidents that cannot be used: it is let go of."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from nomaflow_alerts.ledger import Ledger
from nomaflow_alerts.settings import CannotServe


@pytest.mark.parametrize("content", ["PRAGMA user_version = 99", None], ids=["of a later version", "no database"])
async def test_a_file_that_is_refused_is_free_again(tmp_path: Path, content: str | None) -> None:
    """The lock is not held, so that whoever has mended the file can open it."""
    file = tmp_path / "alerts.db"
    if content is None:
        file.write_bytes(b"no database, but long enough to look like the header of one" * 20)
    else:
        made = sqlite3.connect(file)
        made.execute(content)
        made.close()
    refused = Ledger(file)
    with pytest.raises(CannotServe, match="move the file away") as told:
        await refused.open()
    assert told.value.exit_code == 75
    file.unlink()
    mended = Ledger(file)
    await mended.open()
    await mended.close()
