"""A token's file: its required form, and the reports about others."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from nomaflow_host.process.errors import ProjectError
from nomaflow_host.process.token_file import TokenFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a good file."""
    path = tmp_path / "host-token"
    path.touch(mode=0o600)
    path.write_text("secret\n")
    return path


def test_a_token_is_read_anew_each_time(path: Path) -> None:
    """A replaced token is shown at the next connection."""
    token = TokenFile(path)
    assert token.read() == "secret"
    path.write_text("another")
    assert token.read() == "another"


@pytest.mark.parametrize("spoilt", ["missing", "a folder", "empty", "no text", "open to others"])
def test_what_is_wrong_is_said_in_its_own_words_and_once(
    path: Path, spoilt: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing file is not called empty; while it runs a host complains once, and not of a file that is not there."""
    match spoilt:
        case "missing":
            path.unlink()
        case "a folder":
            path.unlink()
            path.mkdir()
        case "empty":
            path.write_text(" \n")
        case "no text":
            path.write_bytes(b"\xff\xfe")
        case _:
            path.chmod(0o644)
    words = {"missing": "no such file or directory", "a folder": "is a directory", "open to others": "mode 644"}
    with pytest.raises(ProjectError, match=words.get(spoilt, "there is no token in it")) as caught:
        TokenFile(path).check()
    assert "secret" not in str(caught.value)
    token = TokenFile(path)
    with caplog.at_level(logging.WARNING):
        assert (token.read(), token.read()) == ("", "")
    assert len(caplog.records) == (spoilt != "missing")


@pytest.mark.parametrize("content", [b"half a token\nand another", "caf\u00e9".encode(), b"a\0b", b"a\x7fb"])
def test_what_can_be_no_token_is_not_shown(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bad token is an error at the start; later none is sent, the file is named once, and a good one is used."""
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_bytes(content)
    file = TokenFile(path)
    with pytest.raises(ProjectError, match="its content is not a token"):
        file.check()
    with caplog.at_level(logging.WARNING):
        assert (file.read(), file.read()) == ("", "")
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    path.write_text("a-token\n")
    assert file.read() == "a-token"
