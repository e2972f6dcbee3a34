"""The file of the token that a host shows: what can be no token is named, and never shown."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from nomaflow_host.errors import ProjectError
from nomaflow_host.token_file import TokenFile


@pytest.mark.parametrize("content", [b"half a token\nand another", "caf\u00e9".encode(), b"a\0b", b"a\x7fb"])
def test_what_can_be_no_token_is_not_shown(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is an error at the start; later nothing is shown, the file is named once, and a good one counts."""
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_bytes(content)
    file = TokenFile(path)
    with pytest.raises(ProjectError, match="what is in it is no token"):
        file.check()
    with caplog.at_level(logging.WARNING):
        assert (file.read(), file.read()) == ("", "")
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    path.write_text("a-token\n")
    assert file.read() == "a-token"
