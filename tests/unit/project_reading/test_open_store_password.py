"""The password of a store is refused, or moved, where other users of the machine could read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomaflow_kernel.process.settings import SettingsError, read_settings
from nomaflow_project.check.project import check_project
from nomaflow_project.reading.store_password import without_store_password

URL = "postgresql+asyncpg://nomaflow:s3cret-of-the-store@db/history"


@pytest.mark.parametrize(
    ("command", "left", "url"),
    [
        (["python", "-m", "k", "--store", URL, "--project", "x"], ["python", "-m", "k", "--project", "x"], URL),
        (["k", f"--store={URL}"], ["k"], URL),
        (["k", "--store", "sqlite:///x.db"], ["k", "--store", "sqlite:///x.db"], ""),
        (["k", "--store"], ["k", "--store"], ""),
        (["k", "--store", "postgresql://h/d?password=x123456"], ["k"], "postgresql://h/d?password=x123456"),
        (["k"], ["k"], ""),
    ],
)
def test_a_command_line_loses_the_password_of_its_store(command: list[str], left: list[str], url: str) -> None:
    """A store with a password is taken out, written in either way; all else stays."""
    assert without_store_password(command) == (left, url)


@pytest.mark.parametrize(
    ("store", "mode", "refused"),
    [
        (URL, 0o644, True),
        (URL, 0o620, True),
        (URL, 0o600, False),
        ("postgresql+asyncpg://nomaflow:${PW}@db/history", 0o644, False),
        ("sqlite:///history.db", 0o644, False),
    ],
)
def test_a_password_in_a_file_that_others_read_is_refused(tmp_path: Path, store: str, mode: int, refused: bool) -> None:
    """The kernel does not start, and check reports it; the message names file, key and way out, never the password."""
    file = tmp_path / "nomaflow.toml"
    file.write_text(f'[kernel]\nstore = "{store}"\n')
    file.chmod(mode)
    told = [each for each in check_project(tmp_path, environ={"PW": "x"}).problems if each.code == "open_credential"]
    assert bool(told) is refused
    if not refused:
        read_settings(["--project", str(tmp_path)], {"PW": "x"})
        return
    with pytest.raises(SettingsError) as caught:
        read_settings(["--project", str(tmp_path)], {})
    for text in (str(caught.value), str(told[0])):
        assert "nomaflow.toml" in text
        assert "kernel › store" in text
        assert f"{mode:04o}" in text
        assert "chmod 600" in text
        assert "s3cret" not in text
