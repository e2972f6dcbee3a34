"""The command line and nomaflow.toml: what it says of a host, and where it is no file that can be read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_command import Command
from nomaflow_cli.commands.processes import _drain_seconds
from nomaflow_cli.project import host_table

PATIENCE = 60.0


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """Make a project whose nomaflow.toml is a pipe; release processes that wait for a writer at the end."""
    project = tmp_path / "team"
    (project / "plugins").mkdir(parents=True)
    (project / "plugins" / "work.py").write_text("def step(**_):\n    return 3\n")
    (project / "jobs.toml").write_text("")
    os.mkfifo(project / "nomaflow.toml")
    yield project
    with contextlib.suppress(OSError):  # nobody waits
        os.close(os.open(project / "nomaflow.toml", os.O_WRONLY | os.O_NONBLOCK))


async def test_check_of_a_folder_for_a_kernel_alone_asks_for_no_jobs(command: Command, tmp_path: Path) -> None:
    """A nomaflow.toml with nothing of a host needs none; a folder with nothing at all may be the wrong one."""
    done = await command("check", str(tmp_path), "--no-import")
    assert (done.code, "jobs.toml" in done.out) == (1, True)
    (tmp_path / "nomaflow.toml").write_text("[kernel]\nlisten = 'unix:'\n[alerts]\n")
    done = await command("check", str(tmp_path))
    assert (done.code, done.out.strip()) == (0, "0 jobs in order; 1 file read: nomaflow.toml")
    (tmp_path / "plugins").mkdir()
    assert (await command("check", str(tmp_path), "--no-import")).code == 1


def test_commands_know_the_host_as_it_starts(tmp_path: Path) -> None:
    """A value that an env file gives is the host's own for the command line, too."""
    settings = '[host]\nenv_file = "v.env"\nname = "${TEAM}"\nkernel = "${KERNEL}"\ndrain_seconds = "${DRAIN:-60}"\n'
    (tmp_path / "nomaflow.toml").write_text(settings)
    (tmp_path / "v.env").write_text("TEAM=ops\nKERNEL=tls://kernel:7433\n")
    assert (host_table(tmp_path)["name"], host_table(tmp_path)["kernel"]) == ("ops", "tls://kernel:7433")
    assert _drain_seconds(tmp_path) == 60.0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("call", "work:step", "--project"), 1, "not a regular file"),
        (("up",), 1, "not a regular file"),
        (("service", "install", "--print"), 2, "not a regular file"),
    ],
)
async def test_a_pipe_in_its_place_is_not_waited_for(
    command: Command, pipe: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    """Each command ends at once, and those that need the file name the cause."""
    async with asyncio.timeout(PATIENCE):
        done = await command(*words, str(pipe))
    assert (done.code, said in done.out + done.err) == (code, True), done


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("[kernel]\nlease_seconds = 5\n", "nomaflow.toml:2 › kernel.lease_seconds"),
        ('[kernel]\nmetrics = "0.0.0.0:9464"\n', "name a token's file in metrics_token_file"),
        ('[host]\nmetrics = "unix:m.sock"\nmetrics_tls_key = "m.key"\n', "needs both metrics_tls_cert"),
        ('[host]\nmetrics = "example.org:1"\n', "nomaflow.toml:2 › host.metrics"),
        ('[host]\nmetrics = "127.0.0.1:9464"\n', ""),
    ],
)
async def test_a_check_refuses_settings_with_which_no_process_starts(
    command: Command, tmp_path: Path, settings: str, words: str
) -> None:
    """Values that are good one by one and not together, and metrics that are not served."""
    (tmp_path / "nomaflow.toml").write_text(settings)
    (tmp_path / "jobs.toml").write_text("")
    done = await command("check", str(tmp_path), "--no-import")
    assert (done.code, words in done.out) == (1 if words else 0, True), done


def test_a_check_reads_the_file_once(tmp_path: Path) -> None:
    """Two readings could be of two versions of it, and contradict each other."""
    (tmp_path / "nomaflow.toml").write_text('[kernel]\nmetrics = "127.0.0.1:9464"\n')
    (tmp_path / "jobs.toml").write_text("jobs = []\n")
    counting = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, given: event == 'open' and given[1] and opened.append(str(given[0])))\n"
        "from nomaflow_cli.entry import main\n"
        "try:\n    main()\n"
        "finally:\n    print(sum(name.endswith('nomaflow.toml') for name in opened))\n"
    )
    command = [sys.executable, "-c", counting, "check", str(tmp_path), "--no-import"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.splitlines()[-1] == "1", done.stdout
