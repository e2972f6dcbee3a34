"""V8: a project that another user may have planted runs nothing and leads nowhere until it is trusted by name."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_command import Command, command_in
from machine_parts import need
from nomaflow_cli.errors import CliError
from nomaflow_cli.invocation import Invocation
from nomaflow_cli.project import known_project, require_project

STRANGER = 54_321


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Path]:
    """Make a directory in which a stranger has planted a project whose plugin leaves a mark."""
    need(root=True)
    shared = tmp_path / "shared"
    plugins = shared / "plugins" / "evil"
    plugins.mkdir(parents=True)
    (plugins / "__init__.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    (shared / "jobs.toml").write_text('[[jobs]]\nid = "j"\nsteps = [{ callable = "evil:f" }]\n')
    for path in (shared / "plugins", shared / "jobs.toml"):
        os.chown(path, STRANGER, STRANGER)
    (shared / "mine").mkdir()
    yield shared
    assert not (tmp_path / "mark.never").exists()


async def test_a_planted_project_runs_nothing(plant: Path, command: Command, tmp_path: Path) -> None:
    """It is refused from a folder below and by name, with its owner and the way out; `--trust` and its name let it."""
    mark = tmp_path / "mark"
    for arguments in (("check", str(plant)), ("call", "evil:f", "--project", str(plant)), ("up", str(plant)),
                      ("host", str(plant))):  # fmt: skip
        done = await command(*arguments)
        assert done.code == 2, done
        assert f"belongs to uid {STRANGER}, not to you" in done.err
        assert f"--trust {plant}" in done.err
    below = [sys.executable, "-m", "nomaflow_cli", "check"]
    for other in ((), ("--trust", str(tmp_path))):
        done = subprocess.run([*below, *other], cwd=plant / "mine", capture_output=True, text=True, check=False)
        assert (done.returncode, "not to you" in done.stderr) == (2, True)
    assert not mark.exists()
    await command("check", str(plant), "--trust", str(plant))
    assert mark.exists()
    mark.unlink()
    await command("check", str(plant), env={"NOMAFLOW_TRUST": str(plant)})
    assert mark.exists()


async def test_secrets_of_a_trusted_project_are_at_hand(plant: Path, tmp_path: Path) -> None:
    """The way out that the refusal names is one, for each command about secrets."""
    (plant / "nomaflow.toml").write_text('[host]\nsecret_key_file = "team.key"\n')
    command = command_in(plant / "mine")
    key = plant / "team.key"
    for words in (("keygen", str(key)), ("show-key-id",), ("set",), ("list",), ("rotate",)):
        if words[0] != "keygen":
            refused = await command("secret", *words, stdin="hunter2")
            assert (refused.code, f"--trust {plant}" in refused.err) == (2, True), refused
        trusted = await command("secret", *words, "--trust", str(plant), stdin="hunter2")
        assert trusted.code == 0, trusted


def test_a_planted_state_folder_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.nomaflow` of a stranger, in a directory of root's that all can write to, leads to no kernel."""
    need(root=True)
    (tmp_path / ".nomaflow").mkdir()
    os.chown(tmp_path / ".nomaflow", STRANGER, STRANGER)
    monkeypatch.chdir(tmp_path)
    assert known_project(Invocation()) is None
    with pytest.raises(CliError, match="not to you") as raised:
        require_project(None)
    assert raised.value.reason == "NOT_YOURS"
    assert require_project(None, tmp_path) == tmp_path
    assert require_project(tmp_path) == tmp_path  # named, and none of its code runs


def test_root_s_and_one_s_own_projects_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One's own projects include those of the user who has become root with sudo."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.toml").write_text("")
    assert known_project(Invocation()) == tmp_path
    if os.geteuid() != 0:
        return
    nobody = pwd.getpwnam("nobody").pw_uid
    os.chown(tmp_path / "jobs.toml", nobody, nobody)
    assert known_project(Invocation()) is None
    monkeypatch.setenv("SUDO_UID", str(nobody))
    assert known_project(Invocation()) == tmp_path


def test_another_real_user_is_refused_too(plant: Path, tmp_path: Path) -> None:
    """A user who walks into a directory of root's runs what root put there, and not what a third one did."""
    nobody = pwd.getpwnam("nobody")
    for path in (tmp_path, *tmp_path.parents):
        if path == Path(tempfile.gettempdir()):  # the parents of pytest's own directories
            break
        path.chmod(0o755)
    # That user may not be able to read this interpreter, so it is loaded before.
    code = f"""
import os, pathlib
from nomaflow_cli.invocation import Invocation
from nomaflow_cli.project import require_project
os.setgroups([]), os.setgid({nobody.pw_gid}), os.setuid({nobody.pw_uid})
require_project(pathlib.Path({str(plant)!r}), runs_code=True)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=False)
    assert f"belongs to uid {STRANGER}, not to you" in done.stderr, done.stderr
    for path in (plant / "plugins", plant / "jobs.toml"):
        os.chown(path, 0, 0)
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def without_rights(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as this user, for whom modes of files count even if it is root."""
    prefix = []
    if os.geteuid() == 0:
        need("setpriv")
        prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    command = [*prefix, sys.executable, "-m", "nomaflow_cli", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_a_project_below_a_closed_directory_is_told(tmp_path: Path) -> None:
    """The directory of a project is named that this user may not reach."""
    project = tmp_path / "closed" / "team"
    project.mkdir(parents=True)
    project.parent.chmod(0)
    done = without_rights("check", str(project), cwd=tmp_path)
    project.parent.chmod(0o755)
    assert (done.returncode, f"cannot enter '{project}': permission denied" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("words", [("runs",), ("doctor",), ("audit",), ("reload",)])
def test_a_state_folder_of_somebody_else_is_told(tmp_path: Path, words: tuple[str, ...]) -> None:
    """A user who may not enter .nomaflow, which only its owner can, reads that, and gets no traceback."""
    (tmp_path / "jobs.toml").touch()
    (tmp_path / ".nomaflow").mkdir(mode=0)
    done = without_rights(*words, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert f"cannot read '{tmp_path}/.nomaflow" in done.stderr
    assert "permission denied\n  → run it as the user whom the project belongs to" in done.stderr
