"""``nomaflow up`` with a console: a third part that may fail, and a link for one pair of eyes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from processes import is_alive
from real_system import eventually, launch_up, nothing_left

PATIENCE = 120.0


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with nothing in it, whose console listens at a free port."""
    made = tmp_path / "team"
    made.mkdir()
    (made / "nomaflow.toml").write_text('[host]\nname = "team"\n[console]\nlisten = "127.0.0.1:0"\n')
    return made


def lines_of(screen: Path, kind: str) -> list[dict[str, Any]]:
    """Return the objects of one type that were printed so far."""
    objects = [json.loads(line) for line in screen.read_text().splitlines() if line.startswith("{")]
    return [each for each in objects if each["type"] == kind]


def log_in(link: str) -> int:
    """Open a link as a browser does, and return the status."""
    address, _, code = link.partition("/login#")
    base = f"http://127.0.0.1:{address.rpartition(':')[2]}"
    return httpx.post(f"{base}/login", data={"code": code}, headers={"origin": base}, timeout=PATIENCE).status_code


def test_a_console_is_kept_running_and_a_program_gets_its_address_and_no_link(project: Path, tmp_path: Path) -> None:
    """One that cannot write, as on a full disk, comes when it can; one that is killed is started again.

    With -o json, as in a file or a journal, nothing logs in.
    """
    told = project / ".nomaflow" / "console"
    told.parent.mkdir(mode=0o700)
    (told / "in the way").mkdir(parents=True)  # a folder where its file should be
    screen = tmp_path / "screen"
    up = launch_up(project, "-o", "json", log_file=screen)
    try:
        parts = eventually(lambda: lines_of(screen, "part") or up.ended, seconds=PATIENCE)
        assert [(each["name"], each["state"]) for each in parts][:1] == [("console", "crashed")]
        assert "cannot say in" in " ".join(parts[0]["tail"])
        shutil.rmtree(told)
        first = eventually(lambda: lines_of(screen, "console"), seconds=PATIENCE)[0]
        assert not lines_of(screen, "console_failed")
        seen = len(lines_of(screen, "part"))
        os.kill(first["pid"], signal.SIGKILL)
        eventually(lambda: told.read_text().split()[1:] not in ([], [str(first["pid"])]), seconds=PATIENCE)
        states = [(each["name"], each["state"]) for each in lines_of(screen, "part")[seen:]]
        assert states == [("console", "crashed"), ("console", "started")]
        pid = int(told.read_text().split()[1])
        assert up.stop() == 0, screen.read_text()
    finally:
        up.kill()
    assert "login#" not in screen.read_text()
    assert not is_alive(pid)
    assert nothing_left(project)


def test_a_console_that_cannot_run_leaves_kernel_and_host_alone(project: Path, tmp_path: Path) -> None:
    """Its refusal is said once, with its words, and the others go on."""
    (project / "nomaflow.toml").write_text('[host]\nname = "team"\n[console]\nlisten = "192.0.2.7:7434"\n')
    screen = tmp_path / "screen"
    up = launch_up(project, "-o", "json", log_file=screen)
    try:
        eventually(lambda: lines_of(screen, "console_failed") or up.ended, seconds=PATIENCE)
        [failed] = lines_of(screen, "console_failed")
        assert "where the network can read its sessions" in " ".join(failed["tail"])
        assert not up.ended
        assert lines_of(screen, "ready")
        assert up.stop() == 0
    finally:
        up.kill()


def test_a_terminal_gets_a_link_that_logs_in(project: Path) -> None:
    """On a terminal the login link has a line of its own."""
    master, slave = pty.openpty()
    up = launch_up(project, log_file=Path(os.ttyname(slave)))
    os.close(slave)
    try:
        text, until = "", time.monotonic() + PATIENCE
        while "nomaflow console link" not in text:
            assert time.monotonic() < until, text
            if select.select([master], [], [], 1.0)[0]:
                text += os.read(master, 65_536).decode()
        link = re.search(r"http://\S+/login#[\w-]+", text)
        assert link is not None, text
        assert log_in(link[0]) == 303
    finally:
        up.stop()
        os.close(master)
